//! Laws of limits and normalisation, and updates whose values go up to their limits.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use libtest_mimic::{Failed, Trial};
use persist_core::{
    Attribute, Claim, Error, ErrorKind, FixedClock, JobQuery, JobState, JobUpdate, PersistBackend, Result,
    Subject, Timestamp, Update, VmQuery, VmState, VmUpdate, limits, time,
};
use persist_tests::{sample, strategy};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use proptest::{prop_assert, prop_assert_eq};

/// A runner of so many cases, unless `PROPTEST_CASES` says otherwise. What fails is printed, and belongs into a
/// case of the suite rather than into a file of seeds.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    TestRunner::new(Config {
        cases: if told { config.cases } else { cases },
        ..config
    })
}

type Law = fn() -> Result<(), Failed>;

const LAWS: [(&str, Law); 6] = [
    ("normalising_again_changes_nothing", again),
    ("k3_nanoseconds_are_cut_on_every_way_in", cut),
    ("k4_times_outside_of_1970_to_9999_are_refused", far),
    ("i1_a_nul_anywhere_is_refused", nul),
    ("i2_texts_around_their_limit_are_whole_or_refused", around),
    ("i7_attempts_out_of_range_are_refused", attempts),
];

/// The laws that need no store.
pub(crate) fn trials() -> Vec<Trial> {
    LAWS.iter().map(|(name, law)| Trial::test(*name, *law)).collect()
}

fn hold<S: Strategy>(strategy: &S, law: impl Fn(S::Value) -> TestCaseResult) -> Result<(), Failed> {
    runner(500)
        .run(strategy, law)
        .map_err(|error| error.to_string().into())
}

fn check(update: impl Into<Update>) -> Result<Claim> {
    update.into().check(&FixedClock(sample::at(0)))
}

#[expect(clippy::needless_pass_by_value, reason = "stands behind `map_err`")]
fn failed(error: Error) -> TestCaseError {
    TestCaseError::fail(format!("unexpected error: {error:?}"))
}

/// The texts of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Attribute(Attribute),
    DomainName,
    Actor,
    Reason,
}

const FIELDS: [Field; 9] = [
    Field::Attribute(Attribute::RepoUrl),
    Field::Attribute(Attribute::CommitSha),
    Field::Attribute(Attribute::RunsOn),
    Field::Attribute(Attribute::Backend),
    Field::Attribute(Attribute::OverlayPath),
    Field::Attribute(Attribute::SeedPath),
    Field::DomainName,
    Field::Actor,
    Field::Reason,
];

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Attribute(attribute) => attribute.name(),
            Self::DomainName => "domain_name",
            Self::Actor => "actor",
            Self::Reason => "reason",
        }
    }

    /// Most bytes, where more are refused.
    fn limit(self) -> usize {
        match self {
            Self::Attribute(Attribute::RepoUrl) => limits::REPO_URL_BYTES,
            Self::Attribute(Attribute::CommitSha) => limits::COMMIT_SHA_DIGITS,
            Self::Attribute(Attribute::RunsOn) => limits::RUNS_ON_BYTES,
            Self::Attribute(Attribute::Backend) => limits::BACKEND_BYTES,
            Self::Attribute(_) => limits::PATH_BYTES,
            Self::DomainName => limits::DOMAIN_NAME_BYTES,
            Self::Actor => limits::ACTOR_BYTES,
            Self::Reason => limits::REASON_BYTES,
        }
    }

    /// An update that says this one thing.
    fn update(self, text: &str) -> Update {
        let job = JobUpdate::new(sample::id(1), JobState::Running);
        let vm = VmUpdate::new(sample::id(1), "vm", VmState::Running);
        match self {
            Self::Attribute(Attribute::RepoUrl) => job.repo_url(text).into(),
            Self::Attribute(Attribute::CommitSha) => job.commit_sha(text).into(),
            Self::Attribute(Attribute::RunsOn) => job.runs_on(text).into(),
            Self::Attribute(Attribute::Backend) => vm.backend(text).into(),
            Self::Attribute(Attribute::OverlayPath) => vm.overlay_path(text).into(),
            Self::Attribute(_) => vm.seed_path(text).into(),
            Self::DomainName => VmUpdate::new(sample::id(1), text, VmState::Running).into(),
            Self::Actor => job.actor(text).into(),
            Self::Reason => vm.reason(text).into(),
        }
    }

    /// What a claim says of it.
    fn of(self, claim: &Claim) -> Option<&str> {
        match self {
            Self::Attribute(attribute) => claim.attribute(attribute),
            Self::DomainName => Some(claim.subject().domain_name()),
            Self::Actor => claim.actor(),
            Self::Reason => claim.reason(),
        }
    }
}

fn field() -> impl Strategy<Value = Field> {
    select(&FIELDS[..])
}

/// A text of so many bytes, give or take two, of characters of one to four bytes; for a commit of digits.
fn sized(field: Field) -> impl Strategy<Value = String> {
    let letters = match field {
        Field::Attribute(Attribute::CommitSha) => &["a", "F", "0"][..],
        // Nothing that looks like credentials: what is stripped is no longer as long.
        _ => &[
            "x", "é", "語", "🦀", "'", "%", "_", "\\", "\n", "\u{7f}", "\u{1b}",
        ][..],
    };
    let bytes = prop_oneof![1..=8_usize, field.limit() - 4..=field.limit() + 4];
    (select(letters), bytes).prop_map(|(letter, bytes)| {
        let mut text = letter.repeat(bytes / letter.len());
        text.push_str(&"0".repeat(bytes % letter.len()));
        text
    })
}

fn around() -> Result<(), Failed> {
    let texts = field().prop_flat_map(|field| sized(field).prop_map(move |text| (field, text)));
    hold(&texts, |(field, text)| {
        let fewest = if field == Field::Attribute(Attribute::CommitSha) {
            limits::COMMIT_SHA_MIN_DIGITS
        } else {
            1
        };
        match check(field.update(&text)) {
            Ok(claim) if text.len() <= field.limit() => {
                let stored = field.of(&claim).unwrap_or_default();
                let lower = field == Field::Attribute(Attribute::CommitSha);
                prop_assert_eq!(stored, if lower { text.to_ascii_lowercase() } else { text });
            }
            Ok(claim) => {
                prop_assert_eq!(field, Field::Reason, "only a reason is cut");
                let stored = field.of(&claim).unwrap_or_default();
                let cut = stored.strip_suffix('…').unwrap_or_default();
                prop_assert!(
                    text.starts_with(cut)
                        && stored.len() <= field.limit()
                        && stored.len() + 4 > field.limit()
                );
            }
            Err(error) => {
                prop_assert!(
                    text.len() > field.limit() || text.len() < fewest,
                    "{} bytes",
                    text.len()
                );
                prop_assert_eq!(error.kind(), ErrorKind::InvalidInput);
                prop_assert_eq!(error.context("field"), Some(field.name()));
                prop_assert!(
                    !error.to_string().contains(&text) || text.len() < 3,
                    "the value is not shown"
                );
            }
        }
        Ok(())
    })
}

fn nul() -> Result<(), Failed> {
    hold(
        &(field(), "[^\0]{0,6}", "[^\0]{0,6}"),
        |(field, before, after)| {
            let error = match check(field.update(&format!("{before}\0{after}"))) {
                Err(error) => error,
                Ok(claim) => {
                    // What is taken for credentials goes before anything looks at it.
                    prop_assert_eq!(field, Field::Attribute(Attribute::RepoUrl));
                    prop_assert!(!field.of(&claim).unwrap_or_default().contains('\0'));
                    return Ok(());
                }
            };
            prop_assert_eq!(error.kind(), ErrorKind::InvalidInput);
            prop_assert_eq!(error.context("field"), Some(field.name()));
            Ok(())
        },
    )
}

fn again() -> Result<(), Failed> {
    hold(
        &prop_oneof![
            strategy::draft().prop_map(|draft| draft.update()),
            within_limits()
        ],
        |update| {
            let claim = check(update).map_err(failed)?;
            prop_assert_eq!(check(said_again(&claim)).map_err(failed)?, claim);
            Ok(())
        },
    )
}

/// An update of exactly what a claim holds.
fn said_again(claim: &Claim) -> Update {
    let subject = claim.subject().clone();
    let event = persist_core::Event::new(
        persist_core::Seq::new(1),
        claim.at(),
        subject,
        persist_core::Slot::claimed_by(claim),
    );
    persist_core::jsonl::parse(&persist_core::jsonl::line(&event)).expect("what was a claim can be written")
}

fn cut() -> Result<(), Failed> {
    hold(&strategy::time(), |at| {
        let claim = check(JobUpdate::new(sample::id(1), JobState::Queued).at(at)).map_err(failed)?;
        prop_assert!(
            claim.at() <= at && at - claim.at() < TimeDelta::microseconds(1),
            "cut, not rounded"
        );
        prop_assert_eq!(claim.at().timestamp_subsec_nanos() % 1_000, 0);
        let stamped = Update::from(JobUpdate::new(sample::id(1), JobState::Queued)).check(&FixedClock(at));
        prop_assert_eq!(
            stamped.map_err(failed)?.at(),
            claim.at(),
            "the clock's time is cut as well"
        );
        prop_assert_eq!(
            time::parse("at", &at.to_rfc3339()).map_err(failed)?,
            claim.at(),
            "and a text's"
        );
        Ok(())
    })
}

fn far() -> Result<(), Failed> {
    let (first, last) = (
        DateTime::UNIX_EPOCH,
        time::from_micros(253_402_300_799_999_999).expect("is in range"),
    );
    let (lowest, highest) = (
        DateTime::<Utc>::MIN_UTC.timestamp(),
        DateTime::<Utc>::MAX_UTC.timestamp(),
    );
    let before = (lowest..0, 0..1_000_000_000_u32);
    let after = (last.timestamp() + 1..highest, 0..1_000_000_000_u32);
    let times =
        prop_oneof![before, after].prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos));
    hold(&times, |at: Option<Timestamp>| {
        let Some(at) = at else { return Ok(()) };
        prop_assert!(at < first || at > last);
        let error = check(VmUpdate::new(sample::id(1), "vm", VmState::Prepared).at(at)).err();
        prop_assert_eq!(error.as_ref().map(Error::kind), Some(ErrorKind::InvalidInput));
        prop_assert_eq!(
            error.as_ref().and_then(|error| error.context("field")),
            Some("at")
        );
        Ok(())
    })
}

fn attempts() -> Result<(), Failed> {
    hold(
        &prop_oneof![any::<u32>(), 0..3_u32, i32::MAX as u32 - 2..=i32::MAX as u32 + 2],
        |attempt| {
            let claim = check(JobUpdate::new(sample::id(1), JobState::Queued).attempt(attempt));
            prop_assert_eq!(claim.is_ok(), (1..=i32::MAX as u32).contains(&attempt));
            if let Err(error) = claim {
                prop_assert_eq!(error.context("field"), Some("attempt"));
            }
            Ok(())
        },
    )
}

/// One update with a text of a length around its limit, or any text, that is within its limits.
pub(crate) fn within_limits() -> impl Strategy<Value = Update> {
    let texts = field().prop_flat_map(|field| {
        let text = if field == Field::Attribute(Attribute::CommitSha) {
            strategy::commit_sha().boxed()
        } else {
            prop_oneof![sized(field), "[^\0]{1,15}", strategy::text()].boxed()
        };
        text.prop_map(move |text| (field, text))
    });
    let attempts = prop_oneof![4 => 1..4_u32, 1 => i32::MAX as u32 - 1..=i32::MAX as u32];
    (texts, attempts, strategy::time()).prop_filter_map("within limits", |((field, text), attempt, at)| {
        let update = match field.update(&text) {
            Update::Job(update) => Update::Job(update.attempt(attempt).at(at)),
            Update::Vm(update) => Update::Vm(update.attempt(attempt).at(at)),
        };
        check(update.clone()).is_ok().then_some(update)
    })
}

/// The row of a claim is found by each of its values, to the byte.
pub(crate) async fn is_found(backend: &Arc<dyn PersistBackend>, claim: &Claim) -> TestCaseResult {
    let value = |attribute| claim.attribute(attribute).map(str::to_owned);
    match claim.subject() {
        Subject::Job(id) => {
            let mut query = JobQuery::default();
            query.repo_url = value(Attribute::RepoUrl);
            query.commit_sha = value(Attribute::CommitSha);
            query.runs_on = value(Attribute::RunsOn);
            let found = backend.jobs(&query).await.map_err(failed)?.items;
            prop_assert_eq!(found.iter().map(|job| job.request_id).collect::<Vec<_>>(), [*id]);
        }
        Subject::Vm(key) => {
            let mut query = VmQuery::default().domain_name(key.domain_name.clone());
            query.backend = value(Attribute::Backend);
            let found = backend.vms(&query).await.map_err(failed)?.items;
            prop_assert_eq!(
                found.iter().map(persist_core::Vm::key).collect::<Vec<_>>(),
                std::slice::from_ref(key)
            );
        }
    }
    Ok(())
}
