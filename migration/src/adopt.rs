//! How a row of the seed's tables becomes history, and what is said of rows that can't.

use std::collections::BTreeMap;

use persist_core::{
    Claim, Error, ErrorKind, JobState, JobUpdate, Result, StateTable, SystemClock, Timestamp, VmState,
    VmUpdate,
};
use uuid::Uuid;

/// Who reports an adopted slot.
const ACTOR: &str = "persist:adopted";
/// Most kinds of unfit values that an error lists.
const LISTED: usize = 20;

/// A row of one of the seed's tables.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedRow {
    /// `request_id`
    pub id: Uuid,
    /// The VM's domain, or `None` for a job.
    pub name: Option<String>,
    /// `repo_url`, `commit_sha`, `runs_on` of a job; `backend`, `overlay_path`, `seed_path` of a VM.
    pub attributes: [Option<String>; 3],
    /// The word of its state.
    pub state: Option<String>,
    /// `None` where it is null, infinite or outside of the years 1970 to 9999.
    pub created_at: Option<Timestamp>,
    /// `None` where it is null, infinite or outside of the years 1970 to 9999.
    pub updated_at: Option<Timestamp>,
}

/// The slots of a seed row: where it began, and where it got to if that is further. Values pass the usual
/// normalisation. Rows of one key are attempts 1..n, in the order of their times.
///
/// # Errors
/// A text that names the column and what is wrong with its value.
pub fn history(row: &SeedRow, attempt: u32) -> Result<Vec<Claim>, String> {
    let word = row.state.as_deref().unwrap_or_default();
    let created_at = row
        .created_at
        .ok_or("created_at is null or outside of the years 1970 to 9999")?;
    let updated_at = row
        .updated_at
        .ok_or("updated_at is null or outside of the years 1970 to 9999")?;
    let [first, second, third] = row.attributes.clone().map(Option::unwrap_or_default);
    let said = |error: Error| error.message().to_owned();
    let mut slots = Vec::with_capacity(2);
    match &row.name {
        None => {
            let state = JobState::from_name(word).ok_or_else(|| unknown(word))?;
            let at = |state, at| JobUpdate::new(row.id, state).attempt(attempt).at(at).actor(ACTOR);
            let begin = at(JobState::Queued, created_at)
                .repo_url(first)
                .commit_sha(second)
                .runs_on(third);
            slots.push(begin.check(&SystemClock).map_err(said)?);
            if state.phase() > 0 {
                slots.push(at(state, updated_at).check(&SystemClock).map_err(said)?);
            }
        }
        Some(name) => {
            let state = VmState::from_name(word).ok_or_else(|| unknown(word))?;
            let at = |state, at| {
                VmUpdate::new(row.id, name.clone(), state)
                    .attempt(attempt)
                    .at(at)
                    .actor(ACTOR)
            };
            let begin = at(VmState::Prepared, created_at)
                .backend(first)
                .overlay_path(second)
                .seed_path(third);
            slots.push(begin.check(&SystemClock).map_err(said)?);
            if state.phase() > 0 {
                slots.push(at(state, updated_at).check(&SystemClock).map_err(said)?);
            }
        }
    }
    Ok(slots)
}

/// Counts the attempts of rows that come in the order of their keys.
#[derive(Debug, Default)]
pub struct Attempts {
    before: Option<(Uuid, Option<String>)>,
    attempt: u32,
}

impl Attempts {
    /// The attempt of this row, the next one in the order of keys and times.
    pub fn of(&mut self, row: &SeedRow) -> u32 {
        let key = (row.id, row.name.clone());
        self.attempt = if self.before.as_ref() == Some(&key) {
            self.attempt + 1
        } else {
            1
        };
        self.before = Some(key);
        self.attempt
    }
}

/// Values that can't become history, by what is wrong with them, and how many rows have them.
#[derive(Debug, Default)]
pub struct Unfit(BTreeMap<String, u64>);

impl Unfit {
    /// Notes one row of a table, and what [`history`] said of it.
    pub fn add(&mut self, table: &str, what: &str) {
        *self.0.entry(format!("{table}.{what}")).or_default() += 1;
    }

    /// Whether all rows can become history so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// # Errors
    /// `SchemaMismatch` that lists the values, where there are any.
    pub fn finish(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<_> = self
            .0
            .iter()
            .take(LISTED)
            .map(|(what, rows)| format!("{what} ({rows} rows)"))
            .collect();
        if self.0.len() > LISTED {
            lines.push(format!("and {} more kinds", self.0.len() - LISTED));
        }
        let what = format!(
            "values can't be adopted: {}; correct them first; nothing was changed",
            lines.join("; ")
        );
        Err(Error::new(ErrorKind::SchemaMismatch, what))
    }
}

fn unknown(word: &str) -> String {
    let shown: String = word.chars().take(32).flat_map(char::escape_debug).collect();
    format!("state \"{shown}\" is unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::Attribute;
    use persist_core::merge::{self, Slot};

    fn row(state: &str) -> SeedRow {
        let at = |second| chrono::DateTime::from_timestamp(second, 0);
        SeedRow {
            id: Uuid::from_u128(1),
            name: None,
            attributes: [
                Some("https://u:p@h/r".into()),
                Some("ABCD".into()),
                Some(String::new()),
            ],
            state: Some(state.into()),
            created_at: at(1),
            updated_at: at(2),
        }
    }

    #[test]
    fn m13_a_row_becomes_its_history() {
        let slots = history(&row("failed"), 2).unwrap();
        let folded = merge::fold(&slots.iter().map(Slot::claimed_by).collect::<Vec<_>>()).unwrap();
        assert_eq!(
            (slots.len(), folded.state.name(), folded.rank.attempt().get()),
            (2, "failed", 2)
        );
        assert_eq!(folded.attributes.get(Attribute::RepoUrl), Some("https://h/r"));
        assert_eq!(folded.attributes.get(Attribute::CommitSha), Some("abcd"));
        assert_eq!(folded.attributes.get(Attribute::RunsOn), None);
        assert_eq!(
            (folded.created_at.timestamp(), folded.updated_at.timestamp()),
            (1, 2)
        );
        assert_eq!(history(&row("queued"), 1).unwrap().len(), 1);
    }

    #[test]
    fn unfit_values_are_named_and_counted() {
        assert_eq!(
            history(&row("dreaming\n"), 1),
            Err("state \"dreaming\\n\" is unknown".into())
        );
        let endless = SeedRow {
            created_at: None,
            ..row("failed")
        };
        assert!(history(&endless, 1).unwrap_err().contains("created_at"));
        let vm = SeedRow {
            name: Some(String::new()),
            ..row("running")
        };
        assert_eq!(history(&vm, 1), Err("domain_name: must not be empty".into()));
        let mut unfit = Unfit::default();
        unfit.finish().unwrap();
        unfit.add("jobs", "state \"x\" is unknown");
        unfit.add("jobs", "state \"x\" is unknown");
        assert!(
            unfit
                .finish()
                .unwrap_err()
                .message()
                .contains("jobs.state \"x\" is unknown (2 rows)")
        );
    }

    #[test]
    fn rows_of_one_key_are_attempts() {
        let mut attempts = Attempts::default();
        let other = SeedRow {
            id: Uuid::from_u128(2),
            ..row("failed")
        };
        let counted = [&row("failed"), &row("queued"), &other].map(|row| attempts.of(row));
        assert_eq!(counted, [1, 2, 1]);
    }
}
