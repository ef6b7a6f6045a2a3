//! Credentials in repository URLs: gone before anything is stored. I8 of the table of failures.

use persist_core::JobQuery;
use persist_core::JobState::{Queued, Running};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{id, job, unchanged};

cases! { "repo_urls":
    i8_credentials_are_stripped_before_anything_is_stored,
    i8_what_is_no_credential_stays_to_the_letter,
    i8_a_filter_is_stripped_as_the_stored_value_was,
    i8_a_url_that_differs_only_in_credentials_is_the_same,
    i8_the_limit_counts_what_is_left,
}

const SECRET: &str = "hunter2hunter2hunter2hunter2";

async fn i8_credentials_are_stripped_before_anything_is_stored(ctx: &Ctx) -> CaseResult {
    let given = [
        format!("https://ci:{SECRET}@example.org/a.git"),
        format!("https://{SECRET}@example.org/a.git"),
        format!("https://{SECRET}:x-oauth-basic@example.org/a.git"),
        format!("https://example.org/a.git?access_token={SECRET}"),
        format!("https://example.org/a.git?TOKEN={SECRET}"),
        format!("https://example.org/a.git#private_token={SECRET}"),
    ];
    for (n, url) in (1..).zip(given) {
        ctx.one(job(n, Queued).repo_url(url)).await?;
        let stored = ctx.job(id(n)).await?.repo_url;
        ensure_eq!(
            stored.as_deref(),
            Some("https://example.org/a.git"),
            "stripped in the row"
        );
    }
    let lines = ctx.export().await?.join("\n");
    ensure!(!lines.contains(SECRET), "stripped in the history");
    let page = ctx.backend().jobs(&JobQuery::default()).await?;
    ensure!(!format!("{page:?}").contains(SECRET), "and in every listing");
    Ok(())
}

async fn i8_what_is_no_credential_stays_to_the_letter(ctx: &Ctx) -> CaseResult {
    let urls = [
        "git@example.org:acme/app.git",
        "ssh://git@example.org/acme/app.git",
        "https://alice@example.org/acme/app.git",
        "https://example.org:8443/a@v1?ref=main#L1",
        "https://example.org/a?tokens=2",
        "/srv/git/a@b:c.git",
        "HTTPS://Example.ORG/A",
    ];
    for (n, url) in (1..).zip(urls) {
        ctx.one(job(n, Queued).repo_url(url)).await?;
        ensure_eq!(
            ctx.job(id(n)).await?.repo_url.as_deref(),
            Some(url),
            "everything else stays"
        );
        let found = ctx
            .backend()
            .jobs(&JobQuery::default().repo_url(url))
            .await?
            .items;
        ensure!(
            found.len() == 1 && found[0].request_id == id(n),
            "and is found by it"
        );
    }
    Ok(())
}

async fn i8_a_filter_is_stripped_as_the_stored_value_was(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).repo_url("https://example.org/a.git"),
        job(2, Queued),
    ])
    .await?;
    for url in [
        format!("https://ci:{SECRET}@example.org/a.git"),
        format!("https://example.org/a.git?token={SECRET}"),
    ] {
        // Past the setter, which strips too: a query that was read from JSON comes so.
        let mut query = JobQuery::default();
        query.repo_url = Some(url);
        let page = ctx.backend().jobs(&query).await?;
        let found: Vec<_> = page.items.iter().map(|row| row.request_id).collect();
        ensure_eq!(
            found,
            [id(1)],
            "filters pass the same normalisation as stored values"
        );
        ensure!(
            !format!("{page:?}").contains(SECRET),
            "and leave no trace in the page"
        );
    }
    Ok(())
}

async fn i8_a_url_that_differs_only_in_credentials_is_the_same(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Running).repo_url("https://a:one@example.org/a.git"))
        .await?;
    let again = ctx
        .one(job(1, Running).repo_url("https://b:two@example.org/a.git"))
        .await?;
    ensure_eq!(
        again,
        unchanged(Running, 1),
        "a rotated password makes no other repository"
    );
    Ok(())
}

async fn i8_the_limit_counts_what_is_left(ctx: &Ctx) -> CaseResult {
    let host = "https://example.org/";
    let rest = "r".repeat(persist_core::limits::REPO_URL_BYTES - host.len());
    ctx.one(job(1, Queued).repo_url(format!("https://ci:{SECRET}@example.org/{rest}")))
        .await?;
    let stored = ctx.job(id(1)).await?.repo_url;
    ensure_eq!(
        stored,
        Some(format!("{host}{rest}")),
        "2,048 bytes after credentials are stripped"
    );
    let error =
        super::limits::refusal(job(1, Queued).repo_url(format!("https://ci:{SECRET}@example.org/{rest}x")))?;
    ensure_eq!(error.context("field"), Some("repo_url"), "and no byte more");
    ensure!(
        !format!("{error} {error:?}").contains(SECRET),
        "the refusal shows no secret"
    );
    Ok(())
}
