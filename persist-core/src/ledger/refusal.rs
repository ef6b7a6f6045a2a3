//! An entry of the ledger.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::attributes::Attribute;
use crate::claim::Claim;
use crate::error::{Error, ErrorKind, Result};
use crate::jsonl;
use crate::state::State;
use crate::subject::Subject;
use crate::time::{self, FixedClock, Timestamp};

/// What was tried in vain: a state of a slot that held another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The update, of the first try.
    pub claim: Claim,
    /// The state that stood in the slot at the last try.
    pub standing: State,
    /// How often it was tried. What a facade has not written down when it is killed, some two seconds' tries, is not counted;
    /// what was written down without an answer may be counted twice.
    pub tries: u64,
    /// When it was kept first, by the database's clock.
    pub first_at: Timestamp,
    /// When it was kept last.
    pub last_at: Timestamp,
}

impl Refusal {
    /// For backends.
    pub fn new(claim: Claim, standing: State, tries: u64, first_at: Timestamp, last_at: Timestamp) -> Self {
        Self {
            claim,
            standing,
            tries,
            first_at,
            last_at,
        }
    }

    /// What it is kept under: its slot, and the state that was tried.
    pub fn key(&self) -> (&Subject, i64, &'static str) {
        let claim = &self.claim;
        (claim.subject(), claim.rank().get(), claim.state().name())
    }

    /// The update and the standing state that a row of this subject holds as text. For backends.
    ///
    /// # Errors
    /// `SchemaMismatch` that names table, column and row where this program can't read them.
    pub fn read(subject: &Subject, line: &str, standing: &str) -> Result<(Claim, State)> {
        let unreadable = |column: &str| {
            let id = subject.request_id();
            let what = format!("refusals.{column} of {id} is nothing that this program knows; upgrade it");
            Error::new(ErrorKind::SchemaMismatch, what)
                .with("table", "refusals")
                .with("request_id", id)
        };
        // A line that was kept says its time.
        let clock = FixedClock(Timestamp::UNIX_EPOCH);
        let update = jsonl::parse(line).and_then(|update| update.check(&clock));
        let claim = update.ok().filter(|claim| claim.subject() == subject);
        let claim = claim.ok_or_else(|| unreadable("line"))?;
        let standing = State::from_name(subject.is_vm(), standing).ok_or_else(|| unreadable("standing"))?;
        Ok((claim, standing))
    }
}

/// The serialised form: the names of the columns of the history, and of its own.
#[derive(Serialize)]
struct Columns<'r> {
    request_id: Uuid,
    domain_name: Option<&'r str>,
    tried: &'static str,
    attempt: Attempt,
    standing: &'static str,
    tries: u64,
    #[serde(with = "time::rfc3339")]
    at: Timestamp,
    #[serde(with = "time::rfc3339")]
    first_at: Timestamp,
    #[serde(with = "time::rfc3339")]
    last_at: Timestamp,
    actor: Option<&'r str>,
    reason: Option<&'r str>,
    repo_url: Option<&'r str>,
    commit_sha: Option<&'r str>,
    runs_on: Option<&'r str>,
    backend: Option<&'r str>,
    overlay_path: Option<&'r str>,
    seed_path: Option<&'r str>,
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let claim = &self.claim;
        Columns {
            request_id: claim.subject().request_id(),
            domain_name: claim.subject().vm_name(),
            tried: claim.state().name(),
            attempt: claim.attempt(),
            standing: self.standing.name(),
            tries: self.tries,
            at: claim.at(),
            first_at: self.first_at,
            last_at: self.last_at,
            actor: claim.actor(),
            reason: claim.reason(),
            repo_url: claim.attribute(Attribute::RepoUrl),
            commit_sha: claim.attribute(Attribute::CommitSha),
            runs_on: claim.attribute(Attribute::RunsOn),
            backend: claim.attribute(Attribute::Backend),
            overlay_path: claim.attribute(Attribute::OverlayPath),
            seed_path: claim.attribute(Attribute::SeedPath),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VmState, VmUpdate};

    fn claim() -> Claim {
        let at = time::from_micros(1_793_520_000_000_001).unwrap();
        let update = VmUpdate::new(Uuid::from_u128(7), "vm-7", VmState::Failed).attempt(3);
        let update = update.actor("agent").reason("no disk").overlay_path("/d");
        update.check(&FixedClock(at)).unwrap()
    }

    #[test]
    fn what_is_kept_as_text_is_read_as_it_was() {
        let claim = claim();
        let line = jsonl::claim_line(&claim);
        let read = Refusal::read(claim.subject(), &line, "stopped").unwrap();
        assert_eq!(read, (claim.clone(), State::Vm(VmState::Stopped)));
        let other = Subject::new(Uuid::from_u128(8), "vm-7");
        for (subject, line, standing, column) in [
            (&other, line.as_str(), "stopped", "line"),
            (claim.subject(), "{}", "stopped", "line"),
            (claim.subject(), line.as_str(), "succeeded", "standing"),
        ] {
            let error = Refusal::read(subject, line, standing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
            assert!(
                error.to_string().contains(&format!("refusals.{column}")),
                "{error}"
            );
        }
    }

    #[test]
    fn it_is_told_by_the_names_of_columns() {
        let at = time::from_micros(1_793_520_000_000_002).unwrap();
        let refusal = Refusal::new(claim(), State::Vm(VmState::Stopped), 2, at, at);
        let json = serde_json::to_value(&refusal).unwrap();
        assert_eq!(json["domain_name"], "vm-7");
        assert_eq!(json["attempt"], 3);
        assert_eq!(
            (&json["tried"], &json["standing"]),
            (&"failed".into(), &"stopped".into())
        );
        assert_eq!(json["overlay_path"], "/d");
        assert_eq!(json["repo_url"], serde_json::Value::Null);
        assert_eq!(json["first_at"], time::format(at));
    }
}
