//! What pgbench runs: our statement for one update, batches that the server makes up by itself, a row by its key.

use persist::{JobState, StateTable as _};

use crate::workload;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// Our merging statement for one update.
    One,
    /// The same statement for a flush of so many updates that the server makes up by itself: its limit.
    ///
    /// What is equal to our flushes where 1,024 callers lead a job each: the statement; one update a job, so as many
    /// jobs as updates; a third of them each new, running and succeeded, of jobs that the statements before have
    /// led so far; ids next to each other by caller, in order; attributes on the first step and an actor on all.
    /// What differs: nothing is sent; the answers, which are part of the statement, come back and are thrown away. All
    /// but ids and times are constants of the statement, so that making the rows up costs next to nothing.
    Flush(u64),
    /// As [`Flush`](Self::Flush), of a chunk of an import: all three steps of each job, next to each other.
    Import(u64),
    /// A row by its key, of so many.
    Read(u64),
}

/// How many updates of each job a statement has: ours are two.
#[derive(Clone, Copy)]
enum Each {
    One,
    Several,
}

/// What an update of a step says in some column.
type OfStep<'v> = &'v dyn Fn(JobState) -> Option<String>;

/// The lives of jobs, step by step, as [`workload::life`] has them.
const STEPS: [JobState; 3] = [JobState::Queued, JobState::Running, JobState::Succeeded];

/// Has no divisor in common with the number of attempts: each is drawn once before any comes again.
const STRIDE: u64 = 618_033;

impl Script {
    /// Statements make so many updates.
    pub(crate) fn updates(self) -> u64 {
        match self {
            Self::One | Self::Read(_) => 1,
            Self::Flush(updates) | Self::Import(updates) => updates,
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::One => "pgbench -M prepared, our statement".into(),
            Self::Flush(updates) | Self::Import(updates) => {
                format!("the server by itself, {updates} a statement")
            }
            Self::Read(_) => "pgbench -M prepared, a row by key".into(),
        }
    }

    /// The script, for so many clients. It counts its statements in `n`, from 0, which pgbench is given as −1.
    pub(crate) fn text(self, clients: u32) -> String {
        match self {
            Self::Read(jobs) => format!(
                "\\set id random(1, {jobs})\n\
                 SELECT request_id, state, rank, repo_url, commit_sha, runs_on, created_at, updated_at FROM jobs \
                 WHERE request_id = lpad(to_hex(:id::bigint), 32, '0')::uuid;\n"
            ),
            Self::One => one(clients),
            Self::Flush(updates) => flush(updates),
            Self::Import(updates) => import(updates),
        }
    }
}

fn one(clients: u32) -> String {
    let text = |value: &str| format!("ARRAY['{value}']");
    let first = workload::rank(JobState::Queued, 1);
    let of_attempt = workload::rank(JobState::Queued, 2) - first;
    let values = [
        "ARRAY[lpad(to_hex(:id::bigint), 32, '0')]".to_owned(),
        text(""),
        format!("ARRAY[{first} + :attempt::bigint * {of_attempt}]"),
        text(JobState::Queued.name()),
        "ARRAY[now()]".into(),
        text("bench"),
        "ARRAY[NULL]".into(),
        text(workload::REPO_URL),
        text(workload::COMMIT),
        text(workload::RUNS_ON),
        "ARRAY[NULL]".into(),
        "ARRAY[NULL]".into(),
        "ARRAY[NULL]".into(),
    ];
    format!(
        "\\set n :n + 1\n\\set id random(1, {})\n\
         \\set attempt (:n * {clients} + :client_id) * {STRIDE} % {}\n{};\n",
        workload::JOBS,
        workload::ATTEMPTS,
        with_values(Each::One, &values)
    )
}

fn flush(updates: u64) -> String {
    // Which third of the callers is at which step moves on with each statement.
    let by_turn = |kind: &str, value: OfStep<'_>| {
        let turn = |turn: u64| {
            let steps = (0..updates).map(|caller| STEPS[((turn + caller) % 3) as usize]);
            array(kind, steps.map(value))
        };
        format!(
            "(CASE :turn::int WHEN 0 THEN {} WHEN 1 THEN {} ELSE {} END)",
            turn(0),
            turn(1),
            turn(2)
        )
    };
    let id = format!(
        "lpad(to_hex(:client_id::bigint * {updates} + g + 1), 16, '0') || \
         lpad(to_hex((:n::bigint + g % 3) / 3 + 1), 16, '0')"
    );
    format!(
        "\\set n :n + 1\n\\set turn :n % 3\n{};\n",
        with_values(Each::One, &batch(updates, &id, &by_turn))
    )
}

fn import(updates: u64) -> String {
    assert_eq!(updates % 3, 0, "whole lives");
    let by_step = |kind: &str, value: OfStep<'_>| {
        let steps = (0..updates).map(|update| STEPS[(update % 3) as usize]);
        array(kind, steps.map(value))
    };
    let id = format!(
        "lpad(to_hex(:client_id::bigint + 1), 16, '0') || \
         lpad(to_hex(:n::bigint * {} + g / 3 + 1), 16, '0')",
        updates / 3
    );
    format!(
        "\\set n :n + 1\n{};\n",
        with_values(Each::Several, &batch(updates, &id, &by_step))
    )
}

/// The values of a batch: ids of an expression over `g`, the updates from 0; what depends on the step by `by_step`.
fn batch(updates: u64, id: &str, by_step: &dyn Fn(&str, OfStep<'_>) -> String) -> [String; 13] {
    let last = updates - 1;
    let all = |value: &str| format!("array_fill({value}, ARRAY[{updates}])");
    let of_first = |value: &'static str| {
        by_step("text", &|state| {
            (state == JobState::Queued).then(|| value.to_owned())
        })
    };
    [
        format!("(SELECT array_agg(({id})::uuid) FROM generate_series(0, {last}) g)"),
        all("''::text"),
        by_step("bigint", &|state| Some(workload::rank(state, 1).to_string())),
        by_step("text", &|state| Some(state.name().to_owned())),
        all("now()"),
        all("'bench'::text"),
        all("NULL::text"),
        of_first(workload::REPO_URL),
        of_first(workload::COMMIT),
        of_first(workload::RUNS_ON),
        all("NULL::text"),
        all("NULL::text"),
        all("NULL::text"),
    ]
}

/// A constant: with its type here, where it is read once, and not around the `CASE`, where it would be text that is
/// read each time.
fn array(kind: &str, values: impl Iterator<Item = Option<String>>) -> String {
    let elements: Vec<_> = values
        .map(|value| value.map_or("NULL".to_owned(), |value| format!("\"{value}\"")))
        .collect();
    format!("'{{{}}}'::{kind}[]", elements.join(","))
}

/// Our statement for several updates of a job or for one of each, with values where its parameters are.
fn with_values(of_each: Each, values: &[String; 13]) -> String {
    let [several, one] = persist_postgres::merging_statements();
    let mut sql = match of_each {
        Each::Several => several,
        Each::One => one,
    };
    // From the last: $1 is a part of $10.
    for (at, value) in values.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}::", at + 1), &format!("{value}::"));
    }
    assert!(!sql.contains('$'), "every parameter has a value");
    sql
}
