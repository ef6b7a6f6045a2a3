//! What a store tells of itself.

use persist_core::JobState::Queued;
use persist_core::{Mode, PersistBackend};
use uuid::Uuid;

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::oracle::memory;
use crate::sample::{claims, id, job};

cases! { "health":
    a_ready_store_says_so,
    a_store_has_one_identity,
    every_handle_tells_the_same_identity,
    two_stores_have_two_identities,
    a_store_that_goes_with_its_handles_is_not_durable,
    a_schema_has_a_version,
    a_schema_that_was_brought_up_is_whole,
    nothing_was_dropped_by_calls_that_were_answered,
}

async fn a_ready_store_says_so(ctx: &Ctx) -> CaseResult {
    let health = ctx.backend().health().await?;
    ensure_eq!(health.mode, Mode::Ready, "it answered");
    ensure_eq!(health.backend, ctx.backend().name(), "it goes by one name");
    ensure!(!health.backend.is_empty(), "and has one");
    ensure_eq!(health.last_error, None, "nothing went wrong");
    Ok(())
}

async fn identity(backend: &dyn PersistBackend) -> CaseResult<Uuid> {
    let health = backend.health().await?;
    health
        .instance_id
        .ok_or_else(|| Stop::Failed("every store has an identity".into()))
}

async fn a_store_has_one_identity(ctx: &Ctx) -> CaseResult {
    let first = identity(&**ctx.backend()).await?;
    ensure!(!first.is_nil(), "an identity tells stores apart");
    ctx.one(job(1, Queued)).await?;
    ensure_eq!(
        identity(&**ctx.backend()).await?,
        first,
        "made once, when the store was"
    );
    Ok(())
}

async fn every_handle_tells_the_same_identity(ctx: &Ctx) -> CaseResult {
    let other = ctx.another().await?;
    let first = identity(&**ctx.backend()).await?;
    ensure_eq!(
        identity(&*other).await?,
        first,
        "it is the store's, not the handle's"
    );
    other.close().await?;
    ensure_eq!(identity(&**ctx.backend()).await?, first, "and it stays");
    Ok(())
}

async fn two_stores_have_two_identities(ctx: &Ctx) -> CaseResult {
    let (one, other) = (memory(), memory());
    let known = [identity(&*one).await?, identity(&*other).await?];
    let mine = identity(&**ctx.backend()).await?;
    ensure!(
        !known.contains(&mine) && known[0] != known[1],
        "no two stores share an identity"
    );
    Ok(())
}

async fn a_store_that_goes_with_its_handles_is_not_durable(ctx: &Ctx) -> CaseResult {
    let durable = ctx.backend().health().await?.durable;
    ensure!(
        !durable || ctx.needs_lasting().is_ok(),
        "a store that can't promise durability says so"
    );
    Ok(())
}

async fn a_schema_has_a_version(ctx: &Ctx) -> CaseResult {
    let version = ctx.backend().health().await?.schema_version;
    let Some(schema) = ctx.backend().schema() else {
        ensure_eq!(version, None, "without a schema there is no version of it");
        return Ok(());
    };
    let status = schema.status().await?;
    let newest = status.migrations.last().map(|migration| migration.name.clone());
    ensure_eq!(
        version,
        newest,
        "the version is the newest migration that the store has"
    );
    Ok(())
}

async fn a_schema_that_was_brought_up_is_whole(ctx: &Ctx) -> CaseResult {
    let Some(schema) = ctx.backend().schema() else {
        return Err(Stop::Skipped("this kind of store has no schema".into()));
    };
    schema.check().await?;
    ensure_eq!(schema.status().await?.pending(), [""; 0], "nothing is pending");
    ensure!(
        schema.up().await?.is_empty(),
        "to bring it up again applies nothing"
    );
    ensure!(schema.plan().await?.is_empty(), "and none is planned");
    Ok(())
}

async fn nothing_was_dropped_by_calls_that_were_answered(ctx: &Ctx) -> CaseResult {
    for n in 0..5 {
        ctx.backend().apply(&claims([job(n, Queued)])?).await?;
    }
    ensure!(
        ctx.backend().job(id(9)).await?.is_none(),
        "nor by a read that finds nothing"
    );
    let health = ctx.backend().health().await?;
    ensure_eq!(
        (health.dropped, health.unknown),
        (0, 0),
        "every update got its answer"
    );
    Ok(())
}
