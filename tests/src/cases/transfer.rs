//! Copying: every slot of one store stands in another, whatever either did meanwhile.

use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{ErrorKind, Outcome, PersistBackend, Transfer, Transferred, VmState};
use persist_memory::MemoryBackend;

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq, export};
use crate::sample::{claims, id, job, vm};

cases! { "transfer":
    a_copy_into_an_empty_store_is_equal_both_ways,
    a_second_copy_reads_only_what_changed,
    what_comes_meanwhile_is_copied_too,
    a_target_keeps_what_it_holds_and_gets_what_it_lacks,
    what_differs_is_told_and_left_as_it_is,
    a_store_is_not_copied_onto_itself,
    marks_are_kept_beside_the_rows,
}

async fn copy(from: &dyn PersistBackend, to: &dyn PersistBackend) -> CaseResult<Transferred> {
    Ok(Transfer::new(from, to).run(|_| {}).await?)
}

async fn fill(ctx: &Ctx, jobs: u64) -> CaseResult {
    for n in 1..=jobs {
        let history = [
            job(n, Queued)
                .repo_url("https://example.org/a.git")
                .reason("push"),
            job(n, Running),
            job(n, Failed),
        ];
        ctx.apply(history).await?;
        ctx.apply([vm(n, "vm", VmState::Running).backend("libvirt").actor("agent")])
            .await?;
    }
    Ok(())
}

async fn a_copy_into_an_empty_store_is_equal_both_ways(ctx: &Ctx) -> CaseResult {
    fill(ctx, 20).await?;
    let elsewhere = std::sync::Arc::new(MemoryBackend::new());
    let done = copy(&**ctx.backend(), &*elsewhere).await?;
    // What was committed beside an older transaction is a change that is read once more.
    ensure!(done.read >= 80, "every slot is read: {done:?}");
    ensure_eq!(
        (done.applied, done.compared),
        (80, 80),
        "and is new, and compared"
    );
    ensure!(done.equal && done.proven, "the exports are the same: {done:?}");
    let there = export(&(elsewhere.clone() as _)).await?;
    ensure_eq!(there, ctx.export().await?, "and they are");
    let other = elsewhere.health().await?.instance_id;
    ensure!(
        other != ctx.backend().health().await?.instance_id,
        "the identity is not copied"
    );

    // Back, into this store: all of it is there.
    let back = copy(&*elsewhere, &**ctx.backend()).await?;
    ensure_eq!(
        (back.unchanged, back.applied),
        (80, 0),
        "nothing is new where it came from"
    );
    ensure!(back.equal && back.proven, "{back:?}");
    Ok(())
}

async fn a_second_copy_reads_only_what_changed(ctx: &Ctx) -> CaseResult {
    fill(ctx, 10).await?;
    let elsewhere = MemoryBackend::new();
    copy(&**ctx.backend(), &elsewhere).await?;
    ctx.one(job(3, Queued).attempt(2)).await?;
    ctx.one(job(4, Running).actor("late")).await?;
    let second = copy(&**ctx.backend(), &elsewhere).await?;
    ensure!(second.equal && second.proven, "{second:?}");
    if ctx.backend().changes().is_some() {
        ensure!(
            second.read >= 2 && second.read < 41,
            "it goes on after the first, and reads {} slots",
            second.read
        );
        ensure_eq!((second.applied, second.filled), (1, 1), "a claim and a fill");
    }
    Ok(())
}

async fn what_comes_meanwhile_is_copied_too(ctx: &Ctx) -> CaseResult {
    let begun = claims((1..=1_500).map(|n| job(n, Queued)))?;
    ctx.backend().apply(&begun).await?;
    let ended = claims((1..=1_500).rev().map(|n| job(n, Succeeded)))?;
    let elsewhere = std::sync::Arc::new(MemoryBackend::new());
    let writer = async {
        for chunk in ended.chunks(32) {
            ctx.backend().apply(chunk).await?;
        }
        Ok::<_, persist_core::Error>(())
    };
    let (written, done) = tokio::join!(writer, copy(&**ctx.backend(), &*elsewhere));
    written?;
    let done = done?;
    ensure!(done.conflicts.is_empty(), "{:?}", done.conflicts);
    let last = copy(&**ctx.backend(), &*elsewhere).await?;
    ensure!(last.equal && last.proven, "quiet, both are the same: {last:?}");
    let there = export(&(elsewhere as _)).await?;
    ensure_eq!(there.len(), 3_000, "two slots of each job");
    Ok(())
}

async fn a_target_keeps_what_it_holds_and_gets_what_it_lacks(ctx: &Ctx) -> CaseResult {
    let elsewhere = MemoryBackend::new();
    let there = claims([job(1, Queued).reason("push"), job(1, Running), job(2, Failed)])?;
    elsewhere.apply(&there).await?;
    ctx.each([job(1, Queued).actor("webhook"), job(1, Succeeded), job(3, Queued)])
        .await?;
    let done = copy(&elsewhere, &**ctx.backend()).await?;
    ensure!(done.proven && !done.equal, "{done:?}");
    ensure_eq!(
        (done.applied, done.late, done.filled, done.extra),
        (1, 1, 1, 2),
        "a job, a late slot and a fill are new; two slots were here alone"
    );
    let queued = ctx.history_of(id(1)).await?;
    ensure_eq!(
        (queued[0].actor.as_deref(), queued[0].reason.as_deref()),
        (Some("webhook"), Some("push")),
        "each says what the other left blank"
    );
    Ok(())
}

async fn what_differs_is_told_and_left_as_it_is(ctx: &Ctx) -> CaseResult {
    let elsewhere = MemoryBackend::new();
    let there = claims([job(1, Failed), job(2, Queued).runs_on("large"), job(3, Queued)])?;
    elsewhere.apply(&there).await?;
    ctx.each([job(1, Succeeded), job(2, Queued).runs_on("small"), job(3, Queued)])
        .await?;
    let before = ctx.export().await?;
    let done = copy(&elsewhere, &**ctx.backend()).await?;
    let told: Vec<_> = done
        .conflicts
        .iter()
        .map(|conflict| (conflict.subject.request_id(), conflict.column))
        .collect();
    ensure_eq!(
        told,
        [(id(1), "state"), (id(2), "runs_on")],
        "each slot that differs, once"
    );
    ensure!(
        !done.equal && !done.proven,
        "nothing is proven of what differs: {done:?}"
    );
    ensure_eq!(done.conflicting, 2, "and they are counted");
    ensure_eq!(ctx.export().await?, before, "a filled slot never changes");
    Ok(())
}

async fn a_store_is_not_copied_onto_itself(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    let refused = Transfer::new(&**ctx.backend(), &**ctx.backend())
        .run(|_| {})
        .await;
    let kind = refused.err().map(|error| error.kind());
    ensure_eq!(kind, Some(ErrorKind::InvalidInput), "it would prove nothing");
    Ok(())
}

async fn marks_are_kept_beside_the_rows(ctx: &Ctx) -> CaseResult {
    let Some(marks) = ctx.backend().marks() else {
        return Err(crate::case::Stop::Skipped(
            "this kind of store keeps no marks".into(),
        ));
    };
    ensure_eq!(
        marks.mark("copy:a").await?,
        None,
        "there is none before it is set"
    );
    marks.set_mark("copy:a", Some("1 'of' %2")).await?;
    marks.set_mark("copy:b", Some("3")).await?;
    marks.set_mark("copy:a", Some("4 \u{1f980}")).await?;
    ensure_eq!(
        marks.mark("copy:a").await?.as_deref(),
        Some("4 \u{1f980}"),
        "the last one stands"
    );
    marks.set_mark("copy:a", None).await?;
    marks.set_mark("copy:a", None).await?;
    ensure_eq!(marks.mark("copy:a").await?, None, "it can be taken away");
    ensure_eq!(marks.mark("copy:b").await?.as_deref(), Some("3"), "alone");
    for (name, says) in [
        ("", "x"),
        (&*"n".repeat(129), "x"),
        ("n", &*"x".repeat(4_097)),
        ("a\0b", "x"),
    ] {
        let refused = marks.set_mark(name, Some(says)).await;
        let kind = refused.err().map(|error| error.kind());
        ensure_eq!(kind, Some(ErrorKind::InvalidInput), "limits hold");
    }
    ensure!(ctx.export().await?.is_empty(), "they are no rows");
    ensure_eq!(
        ctx.one(job(1, Queued)).await?,
        Outcome::Applied { created: true },
        "and harm none"
    );
    ctx.backend().close().await?;
    let kind = marks.mark("copy:b").await.err().map(|error| error.kind());
    ensure_eq!(kind, Some(ErrorKind::Closed), "use after close is Closed");
    Ok(())
}
