//! The proof of rows by their history: it finds every subject, and nothing where nothing is wrong.

use futures_util::{StreamExt as _, TryStreamExt as _};
use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{Checked, ErrorKind, PersistExt as _, Subject, VmKey, VmState};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{claims, id, job, vm};

cases! { "verify":
    every_subject_is_looked_at_once_in_the_order_of_keys,
    rows_that_moved_in_any_way_are_the_fold_of_their_slots,
    what_others_write_meanwhile_is_no_flaw,
    after_close_it_is_an_error_and_no_empty_proof,
}

async fn checked(ctx: &Ctx) -> CaseResult<Vec<Checked>> {
    Ok(ctx.backend().verify().try_collect().await?)
}

async fn every_subject_is_looked_at_once_in_the_order_of_keys(ctx: &Ctx) -> CaseResult {
    ctx.each([job(2, Queued), job(1, Queued), job(1, Running)])
        .await?;
    ctx.each([
        vm(3, "vm", VmState::Running),
        vm(1, "b", VmState::Prepared),
        vm(1, "a", VmState::Prepared),
    ])
    .await?;
    let found: Vec<_> = checked(ctx)
        .await?
        .into_iter()
        .map(|checked| (checked.subject, checked.slots, checked.flaw))
        .collect();
    let vm = |n, name: &str| Subject::Vm(VmKey::new(id(n), name));
    let expected = [
        (Subject::Job(id(1)), 2, None),
        (vm(1, "a"), 1, None),
        (vm(1, "b"), 1, None),
        (Subject::Job(id(2)), 1, None),
        (vm(3, "vm"), 1, None),
    ];
    ensure_eq!(
        found,
        expected,
        "each job and VM once, with the number of its slots"
    );
    Ok(())
}

async fn rows_that_moved_in_any_way_are_the_fold_of_their_slots(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Failed),
        job(1, Queued).repo_url("https://example.org/a.git"),
        job(1, Queued).attempt(2).runs_on("large"),
        job(1, Succeeded),
        job(1, Queued).commit_sha("abcd"),
    ])
    .await?;
    let flawed: Vec<_> = checked(ctx)
        .await?
        .into_iter()
        .filter(|checked| checked.flaw.is_some())
        .collect();
    ensure_eq!(flawed, [], "late, filled and refused updates leave no flaw");
    Ok(())
}

async fn what_others_write_meanwhile_is_no_flaw(ctx: &Ctx) -> CaseResult {
    // More than a page of each listing, so that updates come between pages.
    let begun = claims((1..=1_200).map(|n| job(n, Queued)))?;
    ctx.backend().apply(&begun).await?;
    let ended = claims((1..=1_200).map(|n| job(n, Succeeded)))?;
    let writer = async {
        for chunk in ended.chunks(16) {
            ctx.backend().apply(chunk).await?;
        }
        Ok::<_, persist_core::Error>(())
    };
    let reader = ctx.backend().verify().try_collect::<Vec<_>>();
    let (written, found) = tokio::join!(writer, reader);
    written?;
    let found = found?;
    ensure_eq!(found.len(), 1_200, "each job is looked at");
    let flawed: Vec<_> = found.iter().filter(|checked| checked.flaw.is_some()).collect();
    ensure!(
        flawed.is_empty(),
        "an update between two pages is no flaw: {flawed:?}"
    );
    Ok(())
}

async fn after_close_it_is_an_error_and_no_empty_proof(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    ctx.backend().close().await?;
    let mut subjects = std::pin::pin!(ctx.backend().verify());
    let first = subjects.next().await;
    let kind = first.and_then(Result::err).map(|error| error.kind());
    ensure_eq!(kind, Some(ErrorKind::Closed), "use after close is Closed");
    ensure!(subjects.next().await.is_none(), "a stream ends after its error");
    Ok(())
}
