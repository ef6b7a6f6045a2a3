//! The exchange format: the same store gives the same lines, and the lines give the same store.

use futures_util::TryStreamExt as _;
use persist_core::JobState::{Failed, Queued, Running};
use persist_core::{Attempt, PersistExt as _, VmState, limits};

use super::cases;
use super::join::updates_of;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq, export};
use crate::oracle::{memory, same_content};
use crate::sample::{claims, day, id, job, shuffled, vm};

cases! { "exchange":
    a_slot_is_a_line_with_all_that_it_holds,
    lines_are_ordered_by_key,
    the_same_store_gives_the_same_lines_as_memory,
    lines_from_here_make_the_same_store_elsewhere,
    lines_from_elsewhere_make_the_same_store_here,
    odd_values_survive_the_way_out_and_back,
}

async fn a_slot_is_a_line_with_all_that_it_holds(ctx: &Ctx) -> CaseResult {
    let update = job(1, Running)
        .attempt(2)
        .repo_url("https://example.org/a.git")
        .commit_sha("BEEF");
    ctx.one(update.runs_on("large").actor("runner").reason("a \"reason\""))
        .await?;
    let update = vm(1, "vm-7", VmState::Prepared)
        .backend("libvirt")
        .overlay_path("/o");
    ctx.one(update.seed_path("/s")).await?;
    let request = id(1);
    let expected = [
        [
            format!(
                r#"{{"job":{{"request_id":"{request}","state":"running","at":"2026-11-01T08:00:10.000000Z","#
            ),
            r#""attempt":2,"repo_url":"https://example.org/a.git","commit_sha":"beef","runs_on":"large","#
                .into(),
            r#""actor":"runner","reason":"a \"reason\""}}"#.into(),
        ]
        .concat(),
        [
            format!(r#"{{"vm":{{"request_id":"{request}","domain_name":"vm-7","state":"prepared","#),
            r#""at":"2026-11-01T08:00:00.000000Z","attempt":1,"backend":"libvirt","#.into(),
            r#""overlay_path":"/o","seed_path":"/s"}}"#.into(),
        ]
        .concat(),
    ];
    let lines: Vec<_> = ctx.backend().export().try_collect().await?;
    ensure_eq!(
        lines,
        expected,
        "keys in their order, blanks left out, the attempt always"
    );
    Ok(())
}

async fn lines_are_ordered_by_key(ctx: &Ctx) -> CaseResult {
    ctx.each([
        vm(2, "b", VmState::Running),
        vm(2, "a", VmState::Running),
        vm(1, "c", VmState::Running),
    ])
    .await?;
    ctx.each([job(2, Failed), job(2, Queued), job(1, Running)])
        .await?;
    let history = ctx.history().await?;
    let found: Vec<_> = history
        .iter()
        .map(|event| (event.subject.key(), event.state.name()))
        .collect();
    let expected = [
        ((id(1), ""), "running"),
        ((id(1), "c"), "running"),
        ((id(2), ""), "queued"),
        ((id(2), ""), "failed"),
        ((id(2), "a"), "running"),
        ((id(2), "b"), "running"),
    ];
    ensure_eq!(found, expected, "by request_id, domain_name and rank");
    ensure_eq!(ctx.export().await?.len(), 6, "a line each");
    Ok(())
}

async fn the_same_store_gives_the_same_lines_as_memory(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(80, 80), memory());
    memory.apply(&claims(day.clone())?).await?;
    ctx.apply(shuffled(81, day)).await?;
    ensure_eq!(
        ctx.export().await?,
        export(&memory).await?,
        "the same bytes on every backend"
    );
    Ok(())
}

async fn lines_from_here_make_the_same_store_elsewhere(ctx: &Ctx) -> CaseResult {
    let elsewhere = memory();
    ctx.apply(day(82, 80)).await?;
    elsewhere
        .apply(&claims(updates_of(&ctx.export().await?)?)?)
        .await?;
    same_content(
        &elsewhere,
        ctx.backend(),
        "importing the file anywhere gives the same store",
    )
    .await
}

async fn lines_from_elsewhere_make_the_same_store_here(ctx: &Ctx) -> CaseResult {
    let elsewhere = memory();
    elsewhere.apply(&claims(day(83, 80))?).await?;
    let lines = shuffled(84, export(&elsewhere).await?);
    ctx.apply(updates_of(&lines)?).await?;
    same_content(ctx.backend(), &elsewhere, "in whatever order the lines come").await
}

async fn odd_values_survive_the_way_out_and_back(ctx: &Ctx) -> CaseResult {
    let text: String = (1..=0x2f_u32)
        .chain([0x7f, 0x85, 0x2028, 0xfeff, 0xfffd, 0x10_ffff])
        .filter_map(char::from_u32)
        .collect();
    let whole = job(1, Queued)
        .attempt(Attempt::MAX.get())
        .runs_on(text.clone())
        .actor(text.clone());
    ctx.one(
        whole
            .reason(text.clone())
            .repo_url(format!("https://example.org/{text}")),
    )
    .await?;
    let path = "\\".repeat(limits::PATH_BYTES);
    ctx.one(
        vm(1, &text, VmState::Failed)
            .overlay_path(path.clone())
            .seed_path("\"".repeat(limits::PATH_BYTES)),
    )
    .await?;
    let elsewhere = memory();
    elsewhere
        .apply(&claims(updates_of(&ctx.export().await?)?)?)
        .await?;
    same_content(
        &elsewhere,
        ctx.backend(),
        "control characters, quotes and backslashes as well",
    )
    .await?;
    let found = elsewhere.job(id(1)).await?.and_then(|row| row.runs_on);
    ensure!(found == Some(text), "as they were given");
    Ok(())
}
