//! What texts may hold: everything but NUL, found again to the byte.

use persist_core::JobState::Queued;
use persist_core::{Attribute, ErrorKind, JobQuery, JobUpdate, Order, Update, VmKey, VmQuery, VmState};

use super::cases;
use super::limits::{FIELDS, refusal};
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{CREATED, at, filled, id, job, unchanged, vm};
use crate::walk;

cases! { "input":
    i1_nul_is_refused_in_every_text,
    i1_nul_is_refused_in_every_filter,
    an_empty_text_is_absent,
    an_empty_text_leaves_a_blank_that_can_be_filled,
    an_empty_filter_lets_everything_pass,
    white_space_is_a_text,
    i10_control_characters_are_stored_as_they_are,
    i4_sql_is_only_text,
    i4_wildcards_and_escapes_are_found_literally,
    i5_case_is_told_apart,
    i5_normalisation_forms_are_told_apart,
    i5_names_are_ordered_by_their_bytes,
    i5_trailing_spaces_are_told_apart,
}

/// Texts that mean something to a database, a shell or a terminal, but not to a store.
const ODD: [&str; 14] = [
    "'; DROP TABLE jobs; --",
    "\"quoted\"",
    "it's",
    "100%",
    "a_b",
    "a\\b",
    "\\",
    "$1 ? :name @p",
    "{\"json\": [1, null]}",
    "<b>&amp;</b>",
    "(x) OR 1=1",
    "/* */ -- #",
    "NULL",
    "\u{202e}rtl \u{200b}zero",
];

async fn i1_nul_is_refused_in_every_text(ctx: &Ctx) -> CaseResult {
    for field in &FIELDS {
        for text in ["\0", "a\0", "\0a", "a\0b"] {
            let error = refusal((field.update)(1, text.to_owned()))?;
            let told = (error.kind(), error.context("field"));
            ensure_eq!(
                told,
                (ErrorKind::InvalidInput, Some(field.name)),
                "NUL is refused everywhere"
            );
        }
    }
    let rest: [(&str, Update); 3] = [
        ("reason", job(1, Queued).reason("a\0b").into()),
        ("commit_sha", job(1, Queued).commit_sha("abcd\0").into()),
        ("domain_name", vm(1, "a\0b", VmState::Running).into()),
    ];
    for (field, update) in rest {
        let error = refusal(update)?;
        ensure_eq!(
            (error.kind(), error.context("field")),
            (ErrorKind::InvalidInput, Some(field)),
            "there too"
        );
    }
    ensure!(ctx.history().await?.is_empty(), "nothing is stored");
    Ok(())
}

async fn i1_nul_is_refused_in_every_filter(ctx: &Ctx) -> CaseResult {
    for (field, query) in [
        ("repo_url", JobQuery::default().repo_url("a\0b")),
        ("runs_on", JobQuery::default().runs_on("a\0b")),
        ("commit_sha", JobQuery::default().commit_sha("ab\0")),
    ] {
        let Err(error) = ctx.backend().jobs(&query).await else {
            return Err(Stop::Failed(format!("NUL in a filter by {field} is refused")));
        };
        ensure_eq!(
            (error.kind(), error.context("field")),
            (ErrorKind::InvalidInput, Some(field)),
            "by name"
        );
    }
    for (field, query) in [
        ("domain_name", VmQuery::default().domain_name("a\0b")),
        ("backend", VmQuery::default().backend("a\0b")),
    ] {
        let Err(error) = ctx.backend().vms(&query).await else {
            return Err(Stop::Failed(format!("NUL in a filter by {field} is refused")));
        };
        ensure_eq!(
            (error.kind(), error.context("field")),
            (ErrorKind::InvalidInput, Some(field)),
            "by name"
        );
    }
    ctx.one(vm(1, "a", VmState::Running)).await?;
    let found = ctx.backend().vm(&VmKey::new(id(1), "a\0b")).await?;
    ensure!(found.is_none(), "a key that no VM can have finds none");
    Ok(())
}

async fn an_empty_text_is_absent(ctx: &Ctx) -> CaseResult {
    for (n, field) in (1..).zip(&FIELDS) {
        ctx.one((field.update)(n, String::new())).await?;
        let slot = &ctx.history_of(id(n)).await?[0];
        ensure_eq!((field.stored)(slot), None, "an empty {} is none", field.name);
    }
    ctx.one(job(90, Queued).commit_sha("").reason("").repo_url(""))
        .await?;
    let row = ctx.job(id(90)).await?;
    ensure_eq!(
        (row.commit_sha, row.repo_url, row.runs_on),
        (None, None, None),
        "in the row too"
    );
    Ok(())
}

async fn an_empty_text_leaves_a_blank_that_can_be_filled(ctx: &Ctx) -> CaseResult {
    let empty = job(1, Queued).runs_on("").actor("").reason("");
    ctx.one(empty.clone()).await?;
    ensure_eq!(
        ctx.one(job(1, Queued).runs_on("large")).await?,
        filled(Queued, 1),
        "blank may become a value"
    );
    ensure_eq!(
        ctx.one(empty).await?,
        unchanged(Queued, 1),
        "and an empty text takes none away"
    );
    ensure_eq!(
        ctx.job(id(1)).await?.runs_on.as_deref(),
        Some("large"),
        "the value stays"
    );
    Ok(())
}

async fn an_empty_filter_lets_everything_pass(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(2, Queued).runs_on("large").commit_sha("beef")])
        .await?;
    let query = JobQuery::default()
        .repo_url("")
        .commit_sha("")
        .runs_on("")
        .states([]);
    ensure_eq!(
        ctx.backend().jobs(&query).await?.items.len(),
        2,
        "an empty filter is none"
    );
    ctx.one(vm(1, "vm", VmState::Running)).await?;
    let query = VmQuery::default().domain_name("").backend("").states([]);
    ensure_eq!(ctx.backend().vms(&query).await?.items.len(), 1, "for VMs too");
    Ok(())
}

async fn white_space_is_a_text(ctx: &Ctx) -> CaseResult {
    for (n, text) in (1..).zip([" ", "\t", "\n", " a ", "\u{a0}"]) {
        ctx.one(job(n, Queued).runs_on(text).actor(text)).await?;
        ensure_eq!(
            ctx.job(id(n)).await?.runs_on.as_deref(),
            Some(text),
            "only the empty text is absent"
        );
        ctx.one(vm(n, text, VmState::Running)).await?;
        ensure_eq!(ctx.vm(id(n), text).await?.domain_name, text, "in a name too");
    }
    Ok(())
}

async fn i10_control_characters_are_stored_as_they_are(ctx: &Ctx) -> CaseResult {
    let text: String = (1..=0x1f).chain(0x7f..=0x9f).filter_map(char::from_u32).collect();
    ctx.one(
        job(1, Queued)
            .runs_on(text.clone())
            .actor(text.clone())
            .reason(text.clone()),
    )
    .await?;
    ctx.one(vm(1, &text, VmState::Running).overlay_path(text.clone()))
        .await?;
    ensure_eq!(
        ctx.job(id(1)).await?.runs_on,
        Some(text.clone()),
        "escape codes and line feeds are kept"
    );
    ensure_eq!(
        ctx.vm(id(1), &text).await?.overlay_path,
        Some(text.clone()),
        "for VMs, and in a key"
    );
    let slot = &ctx.history().await?[0];
    ensure_eq!(
        (&slot.actor, &slot.reason),
        (&Some(text.clone()), &Some(text)),
        "and in the history"
    );
    Ok(())
}

async fn i4_sql_is_only_text(ctx: &Ctx) -> CaseResult {
    for (n, text) in (1..).zip(ODD) {
        let update = job(n, Queued)
            .repo_url(text)
            .runs_on(text)
            .actor(text)
            .reason(text);
        ensure_eq!(ctx.one(update).await?, CREATED, "{text:?} is stored");
        let update = vm(n, text, VmState::Running)
            .backend(text)
            .overlay_path(text)
            .seed_path(text);
        ensure_eq!(ctx.one(update).await?, CREATED, "{text:?} is a name");
        let row = ctx.job(id(n)).await?;
        let found = (row.repo_url.as_deref(), row.runs_on.as_deref());
        ensure_eq!(found, (Some(text), Some(text)), "and comes back as it was");
        let row = ctx.vm(id(n), text).await?;
        let found = [
            row.backend.as_deref(),
            row.overlay_path.as_deref(),
            row.seed_path.as_deref(),
        ];
        ensure_eq!(found, [Some(text); 3], "for VMs too");
        let slot = &ctx.history_of(id(n)).await?[0];
        let found = (
            slot.actor.as_deref(),
            slot.reason.as_deref(),
            slot.attributes.get(Attribute::RunsOn),
        );
        ensure_eq!(found, (Some(text), Some(text), Some(text)), "and in the history");
    }
    Ok(())
}

async fn i4_wildcards_and_escapes_are_found_literally(ctx: &Ctx) -> CaseResult {
    let plain = ["100x", "axb", "a%b", "a\\\\b", "ab", "%", "_", "its"];
    let texts: Vec<_> = ODD.into_iter().chain(plain).collect();
    for (n, text) in (1..).zip(&texts) {
        ctx.one(job(n, Queued).runs_on(*text).repo_url(*text)).await?;
        ctx.one(vm(n, text, VmState::Running).backend(*text)).await?;
    }
    for (n, text) in (1..).zip(&texts) {
        for query in [
            JobQuery::default().runs_on(*text),
            JobQuery::default().repo_url(*text),
        ] {
            let found = walk::jobs(ctx.backend(), query).await?;
            let found: Vec<_> = found.iter().map(|row| row.request_id).collect();
            ensure_eq!(found, [id(n)], "{text:?} finds itself and nothing else");
        }
        for query in [
            VmQuery::default().domain_name(*text),
            VmQuery::default().backend(*text),
        ] {
            let found = walk::vms(ctx.backend(), query).await?;
            let found: Vec<_> = found.iter().map(|row| row.request_id).collect();
            ensure_eq!(found, [id(n)], "{text:?} finds itself and nothing else, of VMs");
        }
    }
    Ok(())
}

/// Each text is a name, a label and a value of its own.
async fn told_apart(ctx: &Ctx, texts: &[&str]) -> CaseResult {
    for (n, text) in (1..).zip(texts) {
        ensure_eq!(
            ctx.one(vm(99, text, VmState::Running)).await?,
            CREATED,
            "{text:?} is a name of its own"
        );
        ctx.one(JobUpdate::new(id(n), Queued).at(at(0)).runs_on(*text))
            .await?;
    }
    for (n, text) in (1..).zip(texts) {
        let found = ctx
            .backend()
            .vms(&VmQuery::default().domain_name(*text))
            .await?
            .items;
        ensure!(
            found.len() == 1 && found[0].domain_name == *text,
            "{text:?} is found by itself only"
        );
        let found = ctx
            .backend()
            .jobs(&JobQuery::default().runs_on(*text))
            .await?
            .items;
        ensure!(
            found.len() == 1 && found[0].request_id == id(n),
            "{text:?} as a label as well"
        );
    }
    Ok(())
}

async fn i5_case_is_told_apart(ctx: &Ctx) -> CaseResult {
    told_apart(
        ctx,
        &[
            "vm", "VM", "Vm", "ß", "SS", "ss", "ẞ", "İ", "i", "I", "ı", "Ä", "ä",
        ],
    )
    .await
}

async fn i5_normalisation_forms_are_told_apart(ctx: &Ctx) -> CaseResult {
    let forms = [
        "\u{e9}", "e\u{301}", "\u{fb01}", "fi", "\u{c5}", "\u{212b}", "A\u{30a}", "\u{ff21}", "A", "\u{bd}",
    ];
    told_apart(ctx, &forms).await
}

async fn i5_trailing_spaces_are_told_apart(ctx: &Ctx) -> CaseResult {
    told_apart(ctx, &["a", "a ", " a", "a  ", "a\t", "a\n"]).await
}

async fn i5_names_are_ordered_by_their_bytes(ctx: &Ctx) -> CaseResult {
    // Cases, digits, punctuation and scripts that locales order in other ways.
    let names = [
        "b", "a", "B", "A", "_", "-", "10", "9", "é", "z", "ä", "語", "🦀", "\u{ffff}", "a b", "ab", " ", "~",
    ];
    ctx.apply(names.map(|name| vm(1, name, VmState::Running))).await?;
    let mut sorted = names;
    sorted.sort_unstable();
    for limit in [1, 4, 100] {
        let found = walk::vms(ctx.backend(), VmQuery::default().order(Order::ById).limit(limit)).await?;
        let found: Vec<_> = found.iter().map(|vm| vm.domain_name.as_str()).collect();
        ensure_eq!(found, sorted, "names are in byte order, in pages of {limit}");
        // At one time the name decides in the other orders too.
        let found = walk::vms(
            ctx.backend(),
            VmQuery::default().order(Order::NewestFirst).limit(limit),
        )
        .await?;
        let found: Vec<_> = found.iter().rev().map(|vm| vm.domain_name.as_str()).collect();
        ensure_eq!(
            found,
            sorted,
            "also where only the name differs, in pages of {limit}"
        );
    }
    let history = ctx.history().await?;
    let found: Vec<_> = history.iter().map(|event| event.subject.domain_name()).collect();
    ensure_eq!(found, sorted, "and so is the history");
    Ok(())
}
