//! Limits of every field, on both sides of each. I2 of the table of failures.

use persist_core::JobState::Queued;
use persist_core::{
    Attempt, Attribute, Error, ErrorKind, JobQuery, JobUpdate, Outcome, Update, VmKey, VmQuery, VmState,
    VmUpdate, limits,
};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{CREATED, at, claims, id, job, vm};

cases! { "limits":
    i2_a_text_at_its_limit_is_stored_exactly,
    i2_a_text_of_multi_byte_characters_is_measured_in_bytes,
    i2_a_text_above_its_limit_is_refused_by_name,
    i2_a_domain_name_holds_one_to_255_bytes,
    i2_a_commit_sha_has_four_to_64_hex_digits,
    a_commit_sha_is_stored_lower_case,
    i2_a_reason_at_its_limit_is_stored_exactly,
    i2_a_longer_reason_is_cut_at_a_character,
    i2_all_fields_may_be_at_their_limit_at_once,
    i2_filters_have_the_limits_of_what_they_find,
}

/// The error of an update that must not pass.
pub(super) fn refusal(update: impl Into<Update>) -> CaseResult<Error> {
    match claims([update.into()]) {
        Err(error) => Ok(error),
        Ok(claim) => Err(Stop::Failed(format!(
            "this update must be refused: {:?}",
            claim[0].subject()
        ))),
    }
}

/// A text field of an update with its limit.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) most: usize,
    /// An update of the n-th subject that says this.
    pub(super) update: fn(u64, String) -> Update,
    /// What the slot holds of it.
    pub(super) stored: fn(&persist_core::Event) -> Option<String>,
}

fn attribute(event: &persist_core::Event, attribute: Attribute) -> Option<String> {
    event.attributes.get(attribute).map(str::to_owned)
}

/// All but `domain_name`, which is a key, `commit_sha`, which is hexadecimal, and `reason`, which is cut.
pub(super) const FIELDS: [Field; 6] = [
    Field {
        name: "repo_url",
        most: limits::REPO_URL_BYTES,
        update: |n, text| job(n, Queued).repo_url(text).into(),
        stored: |event| attribute(event, Attribute::RepoUrl),
    },
    Field {
        name: "runs_on",
        most: limits::RUNS_ON_BYTES,
        update: |n, text| job(n, Queued).runs_on(text).into(),
        stored: |event| attribute(event, Attribute::RunsOn),
    },
    Field {
        name: "actor",
        most: limits::ACTOR_BYTES,
        update: |n, text| job(n, Queued).actor(text).into(),
        stored: |event| event.actor.clone(),
    },
    Field {
        name: "backend",
        most: limits::BACKEND_BYTES,
        update: |n, text| vm(n, "vm", VmState::Prepared).backend(text).into(),
        stored: |event| attribute(event, Attribute::Backend),
    },
    Field {
        name: "overlay_path",
        most: limits::PATH_BYTES,
        update: |n, text| vm(n, "vm", VmState::Prepared).overlay_path(text).into(),
        stored: |event| attribute(event, Attribute::OverlayPath),
    },
    Field {
        name: "seed_path",
        most: limits::PATH_BYTES,
        update: |n, text| vm(n, "vm", VmState::Prepared).seed_path(text).into(),
        stored: |event| attribute(event, Attribute::SeedPath),
    },
];

async fn i2_a_text_at_its_limit_is_stored_exactly(ctx: &Ctx) -> CaseResult {
    for (n, field) in (1..).zip(&FIELDS) {
        let text: String = ('a'..='z').cycle().take(field.most).collect();
        ensure_eq!(
            ctx.one((field.update)(n, text.clone())).await?,
            CREATED,
            "{} at its limit",
            field.name
        );
        let slot = &ctx.history_of(id(n)).await?[0];
        ensure!(
            (field.stored)(slot) == Some(text),
            "{} at its limit is stored exactly",
            field.name
        );
    }
    Ok(())
}

async fn i2_a_text_of_multi_byte_characters_is_measured_in_bytes(ctx: &Ctx) -> CaseResult {
    let mut n = 0;
    for field in &FIELDS {
        for character in ["ü", "語", "🦀"] {
            n += 1;
            let most = field.most / character.len();
            let text = character.repeat(most) + &"x".repeat(field.most - most * character.len());
            ctx.one((field.update)(n, text.clone())).await?;
            let slot = &ctx.history_of(id(n)).await?[0];
            ensure!(
                (field.stored)(slot) == Some(text.clone()),
                "{} of {character} is stored exactly",
                field.name
            );
            let error = refusal((field.update)(n, text + "x"))?;
            ensure_eq!(
                error.context("field"),
                Some(field.name),
                "bytes count, not characters"
            );
        }
    }
    Ok(())
}

async fn i2_a_text_above_its_limit_is_refused_by_name(ctx: &Ctx) -> CaseResult {
    for field in &FIELDS {
        for above in [field.most + 1, 100_000] {
            let error = refusal((field.update)(1, "x".repeat(above)))?;
            let told = (error.kind(), error.context("field"));
            ensure_eq!(
                told,
                (ErrorKind::InvalidInput, Some(field.name)),
                "a violated limit names its field"
            );
            let limit = field.most.to_string();
            ensure_eq!(error.context("limit"), Some(limit.as_str()), "and the limit");
        }
    }
    ensure!(ctx.history().await?.is_empty(), "and nothing is stored");
    Ok(())
}

async fn i2_a_domain_name_holds_one_to_255_bytes(ctx: &Ctx) -> CaseResult {
    let names = [
        "v".to_owned(),
        "v".repeat(255),
        "語".repeat(85),
        "🦀".repeat(63) + "xyz",
    ];
    for name in &names {
        ensure_eq!(
            ctx.one(vm(1, name, VmState::Running)).await?,
            CREATED,
            "{} bytes are a name",
            name.len()
        );
        ensure_eq!(ctx.vm(id(1), name).await?.domain_name, *name, "stored exactly");
    }
    for wrong in [String::new(), "v".repeat(256), "語".repeat(86)] {
        let error = refusal(vm(1, &wrong, VmState::Running))?;
        let told = (error.kind(), error.context("field"));
        ensure_eq!(
            told,
            (ErrorKind::InvalidInput, Some("domain_name")),
            "{} bytes are none",
            wrong.len()
        );
        // Reading by such a key finds nothing; it is no reason to fail.
        let found = ctx.backend().vm(&VmKey::new(id(1), wrong)).await?;
        ensure!(found.is_none(), "no VM has such a name");
    }
    Ok(())
}

async fn i2_a_commit_sha_has_four_to_64_hex_digits(ctx: &Ctx) -> CaseResult {
    for (n, digits) in (1..).zip([4, 5, 40, 63, 64]) {
        let sha: String = "0123456789abcdef".chars().cycle().take(digits).collect();
        ctx.one(job(n, Queued).commit_sha(sha.clone())).await?;
        ensure_eq!(
            ctx.job(id(n)).await?.commit_sha,
            Some(sha),
            "{digits} digits are stored exactly"
        );
    }
    for wrong in [
        "abc".to_owned(),
        "f".repeat(65),
        "abcg".into(),
        "abc ".into(),
        "éééé".into(),
        "0xabcd".into(),
    ] {
        let error = refusal(job(1, Queued).commit_sha(wrong))?;
        let told = (error.kind(), error.context("field"));
        ensure_eq!(
            told,
            (ErrorKind::InvalidInput, Some("commit_sha")),
            "hex digits, and not too few or many"
        );
    }
    Ok(())
}

async fn a_commit_sha_is_stored_lower_case(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued).commit_sha("ABCDEF0123")).await?;
    ensure_eq!(
        ctx.job(id(1)).await?.commit_sha.as_deref(),
        Some("abcdef0123"),
        "lower case"
    );
    let again = ctx.one(job(1, Queued).commit_sha("abcdef0123")).await?;
    ensure_eq!(
        again,
        crate::sample::unchanged(Queued, 1),
        "one commit in two spellings"
    );
    let page = ctx
        .backend()
        .jobs(&JobQuery::default().commit_sha("AbCdE"))
        .await?;
    ensure_eq!(page.items.len(), 1, "filters too");
    Ok(())
}

async fn i2_a_reason_at_its_limit_is_stored_exactly(ctx: &Ctx) -> CaseResult {
    for (n, text) in (1..).zip([
        "r".repeat(1_024),
        "ü".repeat(512),
        "語".repeat(341) + "x",
        "🦀".repeat(256),
    ]) {
        ctx.one(job(n, Queued).reason(text.clone())).await?;
        ensure_eq!(
            ctx.history_of(id(n)).await?[0].reason,
            Some(text),
            "1,024 bytes are not cut"
        );
    }
    Ok(())
}

async fn i2_a_longer_reason_is_cut_at_a_character(ctx: &Ctx) -> CaseResult {
    let mut n = 0;
    for character in ["x", "ü", "語", "🦀"] {
        for bytes in [1_025_usize, 1_030, 50_000] {
            n += 1;
            let text = character.repeat(bytes.div_ceil(character.len()));
            ctx.one(job(n, Queued).reason(text)).await?;
            let stored = ctx.history_of(id(n)).await?[0].reason.clone().unwrap_or_default();
            let kept = stored.strip_suffix('…').unwrap_or_default();
            let whole = (limits::REASON_BYTES - '…'.len_utf8()) / character.len();
            ensure_eq!(
                kept,
                character.repeat(whole),
                "as many whole characters as fit, and an ellipsis"
            );
        }
    }
    let long = "r".repeat(2_000);
    let again = ctx
        .each([job(99, Queued).reason(long.clone()), job(99, Queued).reason(long)])
        .await?;
    ensure_eq!(
        again[1],
        crate::sample::unchanged(Queued, 1),
        "a reason that was cut is the same again"
    );
    Ok(())
}

async fn i2_all_fields_may_be_at_their_limit_at_once(ctx: &Ctx) -> CaseResult {
    let text = |bytes: usize| "z".repeat(bytes);
    let whole = JobUpdate::new(id(1), Queued)
        .at(at(0))
        .attempt(Attempt::MAX.get());
    let whole = whole
        .repo_url(text(limits::REPO_URL_BYTES))
        .commit_sha("f".repeat(64))
        .runs_on(text(256));
    ctx.one(whole.actor(text(128)).reason(text(1_024))).await?;
    let name = text(255);
    let whole = VmUpdate::new(id(1), name.clone(), VmState::Failed)
        .at(at(0))
        .attempt(Attempt::MAX.get());
    let whole = whole
        .backend(text(64))
        .overlay_path(text(4_096))
        .seed_path(text(4_096));
    ctx.one(whole.actor(text(128)).reason(text(1_024))).await?;
    let row = ctx.job(id(1)).await?;
    let found = [row.repo_url, row.commit_sha, row.runs_on].map(|text| text.unwrap_or_default().len());
    ensure_eq!(found, [2_048, 64, 256], "all of a job's");
    let row = ctx.vm(id(1), &name).await?;
    let found = [row.backend, row.overlay_path, row.seed_path].map(|text| text.unwrap_or_default().len());
    ensure_eq!(found, [64, 4_096, 4_096], "all of a VM's");
    let lines = ctx.export().await?;
    let outcomes = ctx.apply(super::join::updates_of(&lines)?).await?;
    let told = outcomes
        .iter()
        .all(|outcome| matches!(outcome, Outcome::Unchanged { .. }));
    ensure!(told, "and the exchange format carries them");
    Ok(())
}

async fn i2_filters_have_the_limits_of_what_they_find(ctx: &Ctx) -> CaseResult {
    let long = |bytes: usize| "z".repeat(bytes + 1);
    let jobs = [
        ("repo_url", JobQuery::default().repo_url(long(2_048))),
        ("runs_on", JobQuery::default().runs_on(long(256))),
        ("commit_sha", JobQuery::default().commit_sha("f".repeat(65))),
        ("commit_sha", JobQuery::default().commit_sha("xyz")),
    ];
    for (field, query) in jobs {
        let Err(error) = ctx.backend().jobs(&query).await else {
            return Err(Stop::Failed(format!(
                "a filter by {field} above its limit is refused"
            )));
        };
        ensure_eq!(
            (error.kind(), error.context("field")),
            (ErrorKind::InvalidInput, Some(field)),
            "by name"
        );
    }
    let vms = [
        ("domain_name", VmQuery::default().domain_name(long(255))),
        ("backend", VmQuery::default().backend(long(64))),
    ];
    for (field, query) in vms {
        let Err(error) = ctx.backend().vms(&query).await else {
            return Err(Stop::Failed(format!(
                "a filter by {field} above its limit is refused"
            )));
        };
        ensure_eq!(
            (error.kind(), error.context("field")),
            (ErrorKind::InvalidInput, Some(field)),
            "by name"
        );
    }
    Ok(())
}
