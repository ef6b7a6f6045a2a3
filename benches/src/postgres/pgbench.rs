//! pgbench: a client in C with one prepared statement, ours, for one update; and the server by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist::{JobState, JobUpdate, SystemClock};
use tokio::process::Command;
use uuid::Uuid;

use super::Server;
use super::ours::READ_JOBS;
use crate::contest::Contender;
use crate::slice::Slice;
use crate::workload;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// Our merging statement for one update.
    One,
    /// The same for 256 updates of 86 jobs, made by the server itself: no client.
    Batch,
    /// A row by its key.
    Read,
}

pub(crate) struct Pgbench {
    pub(crate) server: Arc<Server>,
    pub(crate) clients: u32,
    pub(crate) length: Duration,
    pub(crate) script: Script,
}

/// Updates of one statement of the batch.
const BATCH: u64 = 256;

impl Script {
    /// Statements make so many updates.
    fn updates(self) -> u64 {
        match self {
            Self::One | Self::Read => 1,
            Self::Batch => BATCH,
        }
    }

    fn text(self) -> String {
        let rank = |state| {
            let update = JobUpdate::new(Uuid::from_u128(1), state);
            update.check(&SystemClock).expect("it is valid").rank().get()
        };
        let first = rank(JobState::Queued);
        let of_attempt = {
            let second = JobUpdate::new(Uuid::from_u128(1), JobState::Queued).attempt(2);
            second.check(&SystemClock).expect("it is valid").rank().get() - first
        };
        match self {
            Self::Read => format!(
                "\\set id random(1, {READ_JOBS})\n\
                 SELECT request_id, state, rank, repo_url, commit_sha, runs_on, created_at, updated_at FROM jobs \
                 WHERE request_id = lpad(to_hex(:id::bigint), 32, '0')::uuid;\n"
            ),
            Self::One => {
                let text = |value: &str| format!("ARRAY['{value}']");
                let values = [
                    "ARRAY[lpad(to_hex(:id::bigint), 32, '0')]".to_owned(),
                    text(""),
                    format!("ARRAY[{first} + :attempt::bigint * {of_attempt}]"),
                    text("queued"),
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
                    "\\set id random(1, {})\n\\set attempt random(0, {})\n{};\n",
                    workload::JOBS,
                    workload::ATTEMPTS - 1,
                    with_values(&values)
                )
            }
            Self::Batch => {
                let states = [JobState::Queued, JobState::Running, JobState::Succeeded];
                let ranks = states.map(|state| rank(state).to_string()).join(", ");
                let words = states
                    .map(|state| format!("'{}'", persist::StateTable::name(state)))
                    .join(", ");
                let each = |value: &str| {
                    format!(
                        "(SELECT array_agg({value}) FROM generate_series(0, {}) g)",
                        BATCH - 1
                    )
                };
                let of_first = |value: &str| each(&format!("CASE WHEN g % 3 = 0 THEN '{value}' END"));
                let values = [
                    each("lpad(to_hex(:base::bigint + g / 3), 32, '0')::uuid"),
                    each("''::text"),
                    each(&format!("(ARRAY[{ranks}]::bigint[])[1 + g % 3]")),
                    each(&format!("(ARRAY[{words}])[1 + g % 3]")),
                    each("now()"),
                    each("'bench'::text"),
                    each("NULL::text"),
                    of_first(workload::REPO_URL),
                    of_first(workload::COMMIT),
                    of_first(workload::RUNS_ON),
                    each("NULL::text"),
                    each("NULL::text"),
                    each("NULL::text"),
                ];
                format!(
                    "\\set base random(1, 1000000000000) * 1000\n{};\n",
                    with_values(&values)
                )
            }
        }
    }
}

/// Our statement, with values where its parameters are.
fn with_values(values: &[String]) -> String {
    let mut sql = persist_postgres::merging_statement();
    // From the last: $1 is a part of $10.
    for (at, value) in values.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}::", at + 1), &format!("{value}::"));
    }
    assert!(!sql.contains('$'), "every parameter has a value");
    sql
}

#[async_trait]
impl Contender for Pgbench {
    fn name(&self) -> String {
        let clients = self.clients;
        match self.script {
            Script::One => format!("pgbench -M prepared -c {clients}, our statement"),
            Script::Batch => format!("the server by itself, {BATCH} a statement, {clients} conn."),
            Script::Read => format!("pgbench -M prepared -c {clients}, a row by key"),
        }
    }

    async fn slice(&mut self) -> Slice {
        let is_read = self.script == Script::Read;
        if !is_read {
            self.server.fresh().await;
        }
        let folder = tempfile::tempdir().expect("a folder for the script");
        let script = folder.path().join("script.sql");
        std::fs::write(&script, self.script.text()).expect("it is written");
        // pgbench counts whole seconds.
        let seconds = self.length.as_secs_f64().ceil() as u64;
        let clients = self.clients.to_string();
        let output = Command::new(persist_tests::server::programs().join("pgbench"))
            .args([
                "-n",
                "-M",
                "prepared",
                "-c",
                &clients,
                "-j",
                "2",
                "-T",
                &seconds.to_string(),
                "-f",
            ])
            .arg(&script)
            .arg(self.server.url())
            .output()
            .await
            .expect("pgbench is there");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "pgbench: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let figure = |before: &str| -> f64 {
            let (_, rest) = text.split_once(before).expect("pgbench tells");
            let word = rest.split_whitespace().next().unwrap_or_default();
            word.parse().expect("a number")
        };
        let statements = figure("number of transactions actually processed: ");
        let rate = figure("tps = ");
        let updates = self.script.updates();
        if !is_read {
            let stored = self.server.slots().await as f64;
            let said = statements * updates as f64;
            // It may stop in the middle of a statement, and draw an attempt or a base twice.
            assert!(
                stored >= said * 0.98 && stored <= said + (u64::from(self.clients) * updates) as f64,
                "{said} said, {stored} stored"
            );
        }
        let done = statements as u64 * updates;
        Slice {
            done,
            took: Duration::from_secs_f64(statements / rate),
            latencies_us: Vec::new(),
            mean_us: figure("latency average = ") * 1_000.0,
        }
    }
}
