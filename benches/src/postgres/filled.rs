//! A store of many jobs that have ended, with a few that run, made by the server itself.

use std::sync::Arc;

use persist::{Job, JobQuery, JobState, StateTable as _};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use sqlx::Executor as _;

use super::server::Server;
use crate::workload;

/// Jobs by their numbers from 0, a second apart, each of one slot.
pub(crate) struct Filled {
    pub(crate) server: Arc<Server>,
    pub(crate) jobs: u64,
}

/// Repositories: no divisor in common with what decides about states, so that filters on both join freely.
const REPOSITORIES: u64 = 11;

/// The state of a job: one in ten failed, one in a hundred runs.
pub(crate) fn state(number: u64) -> JobState {
    match (number % 10, number % 100) {
        (0, _) => JobState::Failed,
        (_, 55) => JobState::Running,
        _ => JobState::Succeeded,
    }
}

/// The repository of a job.
pub(crate) fn repo_url(number: u64) -> String {
    format!("{}{}", workload::REPO_URL, number % REPOSITORIES)
}

const EVENTS: &str = "INSERT INTO events \
    (request_id, domain_name, rank, state, at, actor, repo_url, commit_sha, runs_on) \
    SELECT lpad(to_hex(n + 1), 32, '0')::uuid, '', CASE WHEN n % 100 = 55 THEN $2 ELSE $3 END, \
    CASE WHEN n % 10 = 0 THEN $4 WHEN n % 100 = 55 THEN $5 ELSE $6 END, \
    timestamptz '2026-01-01' + n * interval '1 second', 'bench', $7 || n % $8, $9, $10 \
    FROM generate_series(0, $1 - 1) n";
const JOBS: &str = "INSERT INTO jobs (request_id, repo_url, commit_sha, runs_on, state, created_at, updated_at, \
    rank, repo_url_rank, commit_sha_rank, runs_on_rank) \
    SELECT request_id, repo_url, commit_sha, runs_on, state, at, at, rank, rank, rank, rank FROM events ORDER BY seq";

impl Filled {
    /// In a database that nobody else fills.
    pub(crate) async fn new(server: Arc<Server>, jobs: u64) -> Arc<Self> {
        server.fresh().await;
        let mut connection = server.connection().await;
        let count = i64::try_from(jobs).expect("jobs can be counted");
        let states = [JobState::Failed, JobState::Running, JobState::Succeeded];
        let events = sqlx::query(EVENTS)
            .bind(count)
            .bind(workload::rank(JobState::Running, 1))
            .bind(workload::rank(JobState::Succeeded, 1))
            .bind(states[0].name())
            .bind(states[1].name())
            .bind(states[2].name())
            .bind(workload::REPO_URL)
            .bind(REPOSITORIES.cast_signed())
            .bind(workload::COMMIT)
            .bind(workload::RUNS_ON);
        connection.execute(events).await.expect("the history is filled");
        for sql in [JOBS, "VACUUM (ANALYZE) jobs, events", "CHECKPOINT"] {
            connection.execute(sql).await.expect("it runs");
        }
        server.check(jobs).await;
        Arc::new(Self { server, jobs })
    }

    /// The job of this number is as it was filled.
    pub(crate) fn check(number: u64, job: Option<&Job>) {
        let job = job.expect("it is there");
        assert_eq!(
            (job.request_id, job.state, job.repo_url.as_deref()),
            (
                workload::job(number),
                state(number),
                Some(repo_url(number).as_str())
            )
        );
    }

    /// The plan of a page reads an index; of a first page in the order of the listing. (The few rows beyond a cursor
    /// near the end may as well be sorted.)
    pub(crate) async fn check_plan(&self, query: &JobQuery) {
        let query = query.check().expect("it is valid");
        let select = persist_core::sql::jobs(persist_core::sql::Dialect::Postgres, None, &query);
        let select = select.expect("it is a query");
        let (sql, values) = select.build(sea_orm::sea_query::PostgresQueryBuilder);
        let explain = Statement::from_sql_and_values(DbBackend::Postgres, format!("EXPLAIN {sql}"), values);
        let connection = Database::connect(self.server.url()).await.expect("it connects");
        let lines = connection.query_all_raw(explain).await.expect("it explains");
        let lines: Vec<String> = lines
            .iter()
            .map(|line| line.try_get_by_index(0).expect("a line of the plan"))
            .collect();
        let plan = lines.join("\n");
        connection.close().await.expect("it closes");
        let sorts = query.after.is_none() && plan.contains("Sort");
        assert!(
            plan.contains("Index") && !plan.contains("Seq Scan") && !sorts,
            "{plan}"
        );
    }
}
