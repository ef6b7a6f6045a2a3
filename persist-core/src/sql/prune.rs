//! Statements that find what a prune is to remove. None passes over rows that it is not told to look at: each walks an index
//! from a place in it, for so many rows, and says of each whether it matches.
//!
//! What one finds may have changed before it is removed, so that [`removal`] repeats every condition.

use uuid::Uuid;

use super::{Dialect, JOBS, VMS, state_list};
use crate::prune::Prune;
use crate::state::JobState;
use crate::time::Timestamp;

/// A value that a statement binds.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// `uuid[]`, or a JSON array of their hex digits.
    Ids(Vec<Uuid>),
    /// `uuid`, or 16 bytes.
    Id(Uuid),
    /// `timestamptz`, or microseconds since 1970.
    Time(Timestamp),
    /// `bigint`.
    Number(i64),
    /// `text`.
    Text(String),
}

/// A statement with its values. Its rows are those of [`Candidate`](super::Candidate): `created_at`, `request_id`, `matches`,
/// `repo_url`.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The text.
    pub sql: String,
    /// The values, by the numbers of their parameters.
    pub values: Vec<Bound>,
}

/// A key of the order by age.
pub(super) type Key = (Timestamp, Uuid);

/// Writes one statement and numbers its parameters.
pub(super) struct Text<'r> {
    pub(super) dialect: Dialect,
    pub(super) prefix: &'r str,
    request: &'r Prune,
    values: Vec<Bound>,
}

impl<'r> Text<'r> {
    pub(super) fn new(dialect: Dialect, prefix: &'r str, request: &'r Prune) -> Self {
        Self {
            dialect,
            prefix,
            request,
            values: Vec::new(),
        }
    }

    pub(super) fn asked(self, sql: String) -> Asked {
        Asked {
            sql,
            values: self.values,
        }
    }

    fn bind(&mut self, value: Bound) -> String {
        self.values.push(value);
        let number = self.values.len();
        match self.dialect {
            Dialect::Postgres => format!("${number}"),
            Dialect::Sqlite => format!("?{number}"),
        }
    }

    fn key(&mut self, (at, id): Key) -> String {
        let [at, id] = [Bound::Time(at), Bound::Id(id)].map(|value| self.bind(value));
        format!("({at}, {id})")
    }

    /// A set of ids, for `IN`.
    fn ids(&mut self, ids: &[Uuid]) -> String {
        let bound = self.bind(Bound::Ids(ids.to_vec()));
        match self.dialect {
            Dialect::Postgres => format!("= ANY({bound})"),
            // differs: SQLite has no arrays.
            Dialect::Sqlite => format!("IN (SELECT unhex(value) FROM json_each({bound}))"),
        }
    }

    /// What a row of a job must be by itself, beyond its id, which changes under nobody's hands.
    fn job(&mut self, j: &str) -> String {
        let mut all = vec!["true".to_owned()];
        if self.request.ids.is_empty() {
            // Without a name the living are safe.
            all.push(format!("{j}.ending IS NOT NULL"));
        }
        if let Some(before) = self.request.ended_before {
            let before = self.bind(Bound::Time(before));
            all.push(format!("{j}.updated_at < {before}"));
        }
        if !self.request.states.is_empty() {
            let wanted = state_list::<JobState>(|state| self.request.states.contains(&state));
            all.push(format!("{j}.state IN ({wanted})"));
        }
        all.join(" AND ")
    }

    /// What the row of each VM must be by itself.
    fn vm(&mut self) -> String {
        let mut all = vec!["true".to_owned()];
        if self.request.ids.is_empty() {
            all.push("v.ending IS NOT NULL".to_owned());
        }
        if let Some(before) = self.request.ended_before {
            let before = self.bind(Bound::Time(before));
            all.push(format!("v.updated_at < {before}"));
        }
        all.join(" AND ")
    }

    /// What holds if a condition does for all rows.
    fn all(&self, condition: &str) -> String {
        match self.dialect {
            Dialect::Postgres => format!("bool_and({condition})"),
            // differs: what holds is a number there.
            Dialect::Sqlite => format!("min({condition})"),
        }
    }

    /// Whether a job matches with its VMs. Of all of them together, or else a planner takes a scan of all that live for the way
    /// to those of one job.
    fn with_vms(&mut self, j: &str) -> String {
        let job = self.job(j);
        let all = self.vm();
        let all = self.all(&all);
        let (prefix, vms) = (self.prefix, VMS.name);
        format!(
            "{job} AND coalesce((SELECT {all} FROM {prefix}{vms} v WHERE v.request_id = {j}.request_id), true)"
        )
    }

    /// The columns of an answer that names no repository.
    fn columns(&self, of: &str, matches: &str) -> String {
        let null = match self.dialect {
            Dialect::Postgres => "NULL::text",
            Dialect::Sqlite => "NULL",
        };
        format!("{of}.created_at, {of}.request_id, {matches}, {null}")
    }

    /// Jobs of a range in the order of an index whose leading columns are `first`, held to one value by `of`.
    fn jobs(&mut self, first: &str, of: &str, after: Option<Key>, until: Option<Key>, rows: u32) -> String {
        let mut range = vec![of.to_owned()];
        if let Some(after) = after {
            let after = self.key(after);
            range.push(format!("(j.created_at, j.request_id) > {after}"));
        }
        // One bound: of two of a column a database may take the weaker one.
        match (until, self.request.ended_before) {
            // What began later has not ended before.
            (until, Some(before)) if until.is_none_or(|until| before <= until.0) => {
                let before = self.bind(Bound::Time(before));
                range.push(format!("j.created_at < {before}"));
            }
            (Some(until), _) => {
                let until = self.key(until);
                range.push(format!("(j.created_at, j.request_id) <= {until}"));
            }
            (None, _) => {}
        }
        let (range, rows) = (range.join(" AND "), self.bind(Bound::Number(rows.into())));
        let matches = self.with_vms("p");
        let columns = self.columns("p", &format!("({matches})"));
        let (prefix, jobs) = (self.prefix, JOBS.name);
        format!(
            "SELECT {columns} FROM (SELECT j.created_at, j.request_id, j.updated_at, j.state, j.ending \
             FROM {prefix}{jobs} j WHERE {range} ORDER BY {first}j.created_at, j.request_id LIMIT {rows}) AS p \
             ORDER BY p.created_at, p.request_id"
        )
    }

    /// Jobs by age; those of one ending.
    pub(super) fn by_age(mut self, ending: Option<JobState>, after: Option<Key>, rows: u32) -> Asked {
        let sql = match ending {
            None => self.jobs("", "true", after, None, rows),
            Some(ending) => {
                let word = state_list::<JobState>(|state| state == ending);
                self.jobs("", &format!("j.ending = {word}"), after, None, rows)
            }
        };
        self.asked(sql)
    }

    /// VMs by age: the first of each request id without a job stands for all of it.
    pub(super) fn vms_by_age(mut self, after: Option<Key>, rows: u32) -> Asked {
        let mut range = vec!["true".to_owned()];
        if let Some(after) = after {
            let after = self.key(after);
            range.push(format!("(v.created_at, v.request_id) > {after}"));
        }
        if let Some(before) = self.request.ended_before {
            let before = self.bind(Bound::Time(before));
            range.push(format!("v.created_at < {before}"));
        }
        let (range, rows) = (range.join(" AND "), self.bind(Bound::Number(rows.into())));
        let all = format!(
            "{} AND (v.created_at, v.domain_name) >= (p.created_at, p.domain_name)",
            self.vm()
        );
        let all = self.all(&all);
        let (prefix, jobs, vms) = (self.prefix, JOBS.name, VMS.name);
        let matches = format!(
            "((SELECT 1 FROM {prefix}{jobs} j WHERE j.request_id = p.request_id) IS NULL AND \
             (SELECT {all} FROM {prefix}{vms} v WHERE v.request_id = p.request_id))"
        );
        let columns = self.columns("p", &matches);
        let sql = format!(
            "SELECT {columns} FROM (SELECT v.created_at, v.request_id, v.domain_name FROM {prefix}{vms} v WHERE {range} \
             ORDER BY v.created_at, v.request_id, v.domain_name LIMIT {rows}) AS p ORDER BY p.created_at, p.request_id"
        );
        self.asked(sql)
    }

    /// The id of the newest job that is not kept, of those that `of` holds for.
    fn newest(&mut self, of: &str, keep: u32) -> String {
        let keep = self.bind(Bound::Number(keep.into()));
        let (prefix, jobs) = (self.prefix, JOBS.name);
        // Also by what is one value: for Postgres being unknown is none.
        format!(
            "(SELECT k.request_id FROM {prefix}{jobs} k WHERE {of} \
             ORDER BY k.repo_url DESC, k.created_at DESC, k.request_id DESC LIMIT 1 OFFSET {keep})"
        )
    }

    /// The next repositories, from this name on or after it, each with the newest of its jobs that is not kept, if any.
    pub(super) fn repos(mut self, from: &str, inclusive: bool, keep: u32, repos: u32) -> Asked {
        let (prefix, jobs) = (self.prefix, JOBS.name);
        let from = self.bind(Bound::Text(from.to_owned()));
        let beyond = if inclusive { ">=" } else { ">" };
        let repos = self.bind(Bound::Number(repos.into()));
        let newest = self.newest("k.repo_url = r.repo_url", keep);
        let sql = format!(
            "WITH RECURSIVE r(repo_url, n) AS (SELECT f.repo_url, 1 FROM (SELECT k.repo_url FROM {prefix}{jobs} k \
             WHERE k.repo_url {beyond} {from} ORDER BY k.repo_url LIMIT 1) AS f \
             UNION ALL SELECT (SELECT k.repo_url FROM {prefix}{jobs} k WHERE k.repo_url > r.repo_url ORDER BY k.repo_url \
             LIMIT 1), r.n + 1 FROM r WHERE r.repo_url IS NOT NULL AND r.n < {repos}) \
             SELECT t.created_at, t.request_id, t.request_id IS NOT NULL, g.repo_url FROM (SELECT r.repo_url, {newest} AS newest \
             FROM r WHERE r.repo_url IS NOT NULL) AS g LEFT JOIN {prefix}{jobs} t ON t.request_id = g.newest ORDER BY g.repo_url"
        );
        self.asked(sql)
    }

    /// The newest job of no known repository that is not kept.
    pub(super) fn unknown_repo(mut self, keep: u32) -> Asked {
        let newest = self.newest("k.repo_url IS NULL", keep);
        let (prefix, jobs) = (self.prefix, JOBS.name);
        let columns = self.columns("t", "true");
        let sql = format!("SELECT {columns} FROM {prefix}{jobs} t WHERE t.request_id = {newest}");
        self.asked(sql)
    }

    /// Jobs of one repository up to the newest that is not kept.
    pub(super) fn of_repo(mut self, repo: Option<&str>, after: Option<Key>, until: Key, rows: u32) -> Asked {
        let of = match repo {
            Some(repo) => {
                let repo = self.bind(Bound::Text(repo.to_owned()));
                format!("j.repo_url = {repo}")
            }
            None => "j.repo_url IS NULL".to_owned(),
        };
        let sql = self.jobs("j.repo_url, ", &of, after, Some(until), rows);
        self.asked(sql)
    }

    /// What of these ids matches, as (`request_id`, `created_at`).
    fn of_ids(&mut self, ids: &[Uuid]) -> String {
        let (prefix, jobs, vms) = (self.prefix, JOBS.name, VMS.name);
        let named = self.ids(ids);
        let matches = self.with_vms("j");
        let of_jobs = format!("FROM {prefix}{jobs} j WHERE j.request_id {named} AND {matches}");
        if let Some(keep) = self.request.keep_per_repo {
            let join = match self.dialect {
                Dialect::Postgres => "JOIN",
                // differs: SQLite is told from which side to join; without statistics it would take any.
                Dialect::Sqlite => "CROSS JOIN",
            };
            let [known, unknown] =
                ["k.repo_url = w.repo_url", "k.repo_url IS NULL"].map(|of| self.newest(of, keep));
            // What is kept is counted once for each repository, by the first of its jobs.
            return format!(
                "SELECT y.request_id, y.created_at FROM (SELECT x.request_id, x.created_at, \
                 first_value(x.newest) OVER (PARTITION BY x.repo_url ORDER BY x.nth) AS newest FROM (SELECT w.request_id, \
                 w.created_at, w.repo_url, w.nth, CASE WHEN w.nth > 1 THEN NULL WHEN w.repo_url IS NULL THEN {unknown} \
                 ELSE {known} END AS newest FROM (SELECT j.request_id, j.created_at, j.repo_url, row_number() OVER \
                 (PARTITION BY j.repo_url ORDER BY j.created_at, j.request_id) AS nth {of_jobs}) AS w) AS x) AS y \
                 {join} {prefix}{jobs} t ON t.request_id = y.newest \
                 WHERE (y.created_at, y.request_id) <= (t.created_at, t.request_id)"
            );
        }
        let of_jobs = format!("SELECT j.request_id, j.created_at {of_jobs}");
        if !self.request.states.is_empty() {
            return of_jobs;
        }
        let all = self.vm();
        let all = self.all(&all);
        format!(
            "{of_jobs} UNION ALL SELECT v.request_id, min(v.created_at) FROM {prefix}{vms} v WHERE v.request_id {named} AND \
             NOT EXISTS (SELECT 1 FROM {prefix}{jobs} j WHERE j.request_id = v.request_id) \
             GROUP BY v.request_id HAVING {all}"
        )
    }

    /// The named ids that match, by age.
    pub(super) fn named(mut self, after: Option<Key>, rows: u32) -> Asked {
        let request = self.request;
        let matching = self.of_ids(&request.ids);
        let after = match after {
            Some(after) => format!("WHERE (c.created_at, c.request_id) > {}", self.key(after)),
            None => String::new(),
        };
        let rows = self.bind(Bound::Number(rows.into()));
        let columns = self.columns("c", "true");
        let sql = format!(
            "SELECT {columns} FROM ({matching}) AS c {after} \
             ORDER BY c.created_at, c.request_id LIMIT {rows}"
        );
        self.asked(sql)
    }
}

/// Those of these ids that still match what a checked request asked for.
pub fn still_matching(dialect: Dialect, prefix: &str, request: &Prune, ids: &[Uuid]) -> Asked {
    let mut text = Text::new(dialect, prefix, request);
    let matching = text.of_ids(ids);
    text.asked(format!("SELECT c.request_id FROM ({matching}) AS c"))
}

/// The pieces of a statement that removes what was found, where it still matches.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Removal {
    /// The ids that still match.
    pub victims: String,
    /// What the row of a job, `j`, must be when it is locked.
    pub job: String,
    /// What the row of a VM, `v`, must be.
    pub vm: String,
    /// The values of all of these.
    pub values: Vec<Bound>,
}

/// How to remove these ids of what a checked request asked for.
pub fn removal(dialect: Dialect, prefix: &str, request: &Prune, ids: &[Uuid]) -> Removal {
    let mut text = Text::new(dialect, prefix, request);
    let matching = text.of_ids(ids);
    let (job, vm) = (text.job("j"), text.vm());
    Removal {
        victims: format!("SELECT c.request_id FROM ({matching}) AS c"),
        job,
        vm,
        values: text.values,
    }
}
