//! The power to be looked over.

use persist_core::inspect::code;
use persist_core::{ErrorKind, Finding, Inspect, Severity};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};

cases! { "inspect":
    a_fresh_store_has_nothing_above_info,
    the_worst_is_told_first_and_a_look_changes_nothing,
    what_the_store_does_not_have_is_not_mended,
    after_close_nobody_looks_or_mends,
}

fn inspect_of(ctx: &Ctx) -> CaseResult<&dyn Inspect> {
    let inspect = ctx.backend().inspect();
    inspect.ok_or_else(|| Stop::Skipped("nothing of this store can be other than it should be".into()))
}

async fn a_fresh_store_has_nothing_above_info(ctx: &Ctx) -> CaseResult {
    let findings = inspect_of(ctx)?.findings().await?;
    // How many connections others have is nothing of the store, and many cases run at once.
    let is_bad = |finding: &&Finding| finding.severity > Severity::Info && finding.code != code::CONNECTIONS;
    let bad: Vec<_> = findings.iter().filter(is_bad).collect();
    ensure_eq!(
        bad,
        Vec::<&Finding>::new(),
        "nothing is wrong with what was just made"
    );
    Ok(())
}

async fn the_worst_is_told_first_and_a_look_changes_nothing(ctx: &Ctx) -> CaseResult {
    let inspect = inspect_of(ctx)?;
    let findings = inspect.findings().await?;
    let severities = findings.iter().map(|finding| finding.severity);
    ensure!(severities.rev().is_sorted(), "the worst comes first");
    let sort = |finding: &Finding| (finding.code.clone(), finding.place.clone());
    let again = inspect.findings().await?;
    ensure_eq!(
        again.iter().map(sort).collect::<Vec<_>>(),
        findings.iter().map(sort).collect::<Vec<_>>(),
        "a look changes nothing"
    );
    Ok(())
}

async fn what_the_store_does_not_have_is_not_mended(ctx: &Ctx) -> CaseResult {
    let made_up = Finding::new(
        "missing_index",
        "jobs_live",
        Severity::Error,
        "it is missing",
        "who knows",
    )
    .mended_by(["DROP TABLE jobs"])
    .safe();
    let refused = inspect_of(ctx)?.mend(&made_up).await;
    let kind = refused.err().map(|error| error.kind());
    ensure_eq!(kind, Some(ErrorKind::InvalidInput), "only what is so is mended");
    ctx.backend().health().await?;
    Ok(())
}

async fn after_close_nobody_looks_or_mends(ctx: &Ctx) -> CaseResult {
    let inspect = inspect_of(ctx)?;
    ctx.backend().close().await?;
    let looked = inspect.findings().await.err().map(|error| error.kind());
    ensure_eq!(looked, Some(ErrorKind::Closed), "findings after close");
    let finding = Finding::new("missing_index", "jobs_live", Severity::Error, "", "").safe();
    let mended = inspect.mend(&finding).await.err().map(|error| error.kind());
    ensure_eq!(mended, Some(ErrorKind::Closed), "mend after close");
    Ok(())
}
