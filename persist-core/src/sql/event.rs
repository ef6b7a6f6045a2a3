//! The statement that reads the history.

use sea_query::{Expr, ExprTrait as _, Order as SqlOrder};

use super::select::List;
use super::{Dialect, EVENT_COLUMNS, EVENTS, Statement};
use crate::event::{EventPosition, EventQuery};

/// A page of the history and one row more, from `position`, which is what [`EventQuery::check`] gave.
pub fn events(
    dialect: Dialect,
    schema: Option<&str>,
    query: &EventQuery,
    position: &EventPosition,
) -> Statement {
    let mut list = List::new(dialect, schema, EVENTS, &EVENT_COLUMNS);
    list.equal("request_id", query.request_id.map(|id| dialect.id(id)));
    let keys: &[&'static str] = match position {
        EventPosition::Key(after) => {
            if let Some((subject, rank)) = after {
                let key = ["request_id", "domain_name", "rank"].map(Expr::col);
                let (id, name) = subject.key();
                let after = [
                    Expr::value(dialect.id(id)),
                    Expr::value(name),
                    Expr::value(rank.get()),
                ];
                list.select.and_where(Expr::tuple(key).gt(Expr::tuple(after)));
            }
            &["request_id", "domain_name", "rank"]
        }
        EventPosition::Seq(after) => {
            if let Some(seq) = after {
                list.select.and_where(Expr::col("seq").gt(seq.get()));
            }
            &["seq"]
        }
    };
    for key in keys {
        list.select.order_by(*key, SqlOrder::Asc);
    }
    list.select.limit(u64::from(query.limit) + 1);
    list.select
}

#[cfg(test)]
mod tests {
    use sea_query::{PostgresQueryBuilder, SqliteQueryBuilder};

    use super::*;
    use crate::sql;
    use crate::{Cursor, JobQuery, JobState, Order, Position, VmQuery, VmState, time};
    use uuid::Uuid;

    #[test]
    fn list_statements_read_as_they_should() {
        let at = time::from_micros(1_000_000).unwrap();
        let after = Cursor::encode(&Position::Job(Order::NewestFirst, at, Uuid::from_u128(1)));
        let query = JobQuery::default()
            .states([JobState::Lost, JobState::Failed])
            .after(Some(after))
            .limit(3);
        let statement = sql::jobs(Dialect::Postgres, Some("ci"), &query).unwrap();
        assert_eq!(
            statement.to_string(PostgresQueryBuilder),
            r#"SELECT "request_id", "state", "rank", "repo_url", "commit_sha", "runs_on", "created_at", "updated_at" FROM "ci"."jobs" WHERE (ending IN ('lost', 'failed')) AND ("created_at", "request_id") < ('1970-01-01 00:00:01.000000 +00:00', '00000000-0000-0000-0000-000000000001') ORDER BY "created_at" DESC, "request_id" DESC LIMIT 4"#
        );
        let query = VmQuery::default()
            .states([VmState::Prepared, VmState::Running])
            .order(Order::ById);
        let statement = sql::vms(Dialect::Sqlite, None, &query).unwrap();
        assert_eq!(
            statement.to_string(SqliteQueryBuilder),
            r#"SELECT "request_id", "domain_name", "state", "rank", "backend", "overlay_path", "seed_path", "created_at", "updated_at" FROM "vms" WHERE "ending" IS NULL ORDER BY "request_id" ASC, "domain_name" ASC LIMIT 51"#
        );
        let query = JobQuery::default()
            .states([JobState::Queued, JobState::Failed])
            .commit_sha("ab");
        let statement = sql::jobs(Dialect::Sqlite, None, &query)
            .unwrap()
            .to_string(SqliteQueryBuilder);
        assert!(
            statement.contains(
                r#"WHERE (("ending" IS NULL AND (state IN ('queued'))) OR (ending IN ('failed'))) AND "commit_sha" >= 'ab' AND "commit_sha" < 'abg'"#
            ),
            "{statement}"
        );
    }
}
