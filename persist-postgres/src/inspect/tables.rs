//! How tables are kept: dead rows, vacuum, owners, and what others have attached to them.

use persist_core::inspect::code;
use persist_core::{Finding, Result, Severity};

use super::shape::{NAMESPACE, get, rows};
use crate::session::Session;

/// Dead rows from which on it is worth to tell of them.
const WORTH_TELLING: i64 = 10_000;
/// Transactions after which the server soon takes no more; it stops at some 2,000,000,000.
const NEARLY_TOO_OLD: i64 = 1_500_000_000;

/// What the server says of a table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    name: String,
    live: i64,
    dead: i64,
    age: i64,
    /// At which age the server freezes rows by itself.
    freeze_age: i64,
    is_vacuumed: bool,
    hides_rows: bool,
    owner: String,
    is_ours: bool,
    triggers: Vec<String>,
}

/// Looks at the tables of ours in a schema.
pub(super) async fn look(session: &mut Session, schema: Option<&str>, prefix: &str) -> Result<Vec<Finding>> {
    let sql = format!(
        "SELECT c.relname::text, pg_stat_get_live_tuples(c.oid), pg_stat_get_dead_tuples(c.oid), \
         age(c.relfrozenxid)::bigint, current_setting('autovacuum_freeze_max_age')::bigint, \
         NOT ('autovacuum_enabled=false' = ANY (coalesce(c.reloptions, '{{}}')) \
         OR 'autovacuum_enabled=off' = ANY (coalesce(c.reloptions, '{{}}'))), \
         c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')), \
         pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), \
         ARRAY(SELECT g.tgname::text FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal ORDER BY 1) \
         FROM pg_class c WHERE c.relnamespace = {NAMESPACE} AND c.relkind = 'r' \
         AND (c.relname IN ('jobs', 'vms', 'events') OR c.relname LIKE 'persist\\_%' OR c.relname = 'refusals' \
         AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tried')) ORDER BY c.relname"
    );
    let mut findings = Vec::new();
    let mut owners = Vec::new();
    for row in rows(session, sql, schema).await? {
        let table = Table {
            name: get(&row, 0)?,
            live: get(&row, 1)?,
            dead: get(&row, 2)?,
            age: get(&row, 3)?,
            freeze_age: get(&row, 4)?,
            is_vacuumed: get(&row, 5)?,
            hides_rows: get(&row, 6)?,
            owner: get(&row, 7)?,
            is_ours: get(&row, 8)?,
            triggers: get(&row, 9)?,
        };
        if !table.is_ours && !owners.contains(&table.owner) {
            owners.push(table.owner.clone());
        }
        findings.extend(judge(&table, prefix));
    }
    if !owners.is_empty() {
        let what = format!(
            "the tables belong to {}, and the role may not change them",
            owners.join(", ")
        );
        let why = "that is how an orchestrator should run; what is to be mended, and migrations, are its owner's to run";
        findings.push(Finding::new(
            code::ROLE_RIGHTS,
            "owner",
            Severity::Info,
            what,
            why,
        ));
    }
    Ok(findings)
}

fn judge(table: &Table, prefix: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = format!("{prefix}{}", table.name);
    let mut add = |code, severity, what: String, why: &str, mend: Option<String>| {
        let finding = Finding::new(code, table.name.clone(), severity, what, why);
        findings.push(finding.mended_by(mend));
    };
    if table.dead > WORTH_TELLING && table.dead * 10 > (table.live + table.dead) * 3 {
        let percent = table.dead * 100 / (table.live + table.dead);
        add(
            code::BLOAT,
            Severity::Warning,
            format!(
                "{percent} % of the rows are dead: {} of {}",
                table.dead,
                table.live + table.dead
            ),
            "reads go through them, and the table grows; autovacuum does not keep up, or a transaction stays open for long",
            Some(format!("VACUUM (ANALYZE) {name}")),
        );
    }
    if !table.is_vacuumed {
        add(
            code::VACUUM_OVERDUE,
            Severity::Warning,
            "autovacuum is off for it".to_owned(),
            "dead rows stay, and the table grows with every update",
            Some(format!("ALTER TABLE {name} RESET (autovacuum_enabled)")),
        );
    }
    if table.age > NEARLY_TOO_OLD {
        add(
            code::WRAPAROUND,
            Severity::Error,
            format!("its oldest row is {} transactions old", table.age),
            "at some 2,000,000,000 the server takes no more writes at all",
            Some(format!("VACUUM (FREEZE) {name}")),
        );
    } else if table.age > table.freeze_age.saturating_mul(6) / 5 {
        add(
            code::WRAPAROUND,
            Severity::Warning,
            format!(
                "its oldest row is {} transactions old, and was to be frozen at {}",
                table.age, table.freeze_age
            ),
            "autovacuum does not get to its end: see whether something cancels it or keeps a transaction open",
            Some(format!("VACUUM (FREEZE) {name}")),
        );
    }
    if table.hides_rows {
        add(
            code::ROW_SECURITY,
            Severity::Warning,
            "row security is on for it, also for this role".to_owned(),
            "rows that a policy hides look as if they were not there, and are written a second time",
            Some(format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")),
        );
    }
    for trigger in &table.triggers {
        let what = format!("a trigger of {} that is not ours", table.name);
        let why = "it runs with every write, and may refuse it";
        findings.push(Finding::new(
            code::EXTRA_TRIGGER,
            trigger.clone(),
            Severity::Info,
            what,
            why,
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            name: "jobs".into(),
            live: 100_000,
            dead: 20_000,
            age: 1_000,
            freeze_age: 200_000_000,
            is_vacuumed: true,
            hides_rows: false,
            owner: "ci".into(),
            is_ours: true,
            triggers: Vec::new(),
        }
    }

    fn told(table: &Table) -> Vec<(String, Severity)> {
        let told = judge(table, "\"s\".");
        assert!(told.iter().all(|finding| !finding.is_safe));
        told.into_iter()
            .map(|finding| (finding.code, finding.severity))
            .collect()
    }

    #[test]
    fn a_table_that_is_kept_well_is_not_told_of() {
        assert_eq!(told(&table()), []);
        let few = Table {
            live: 0,
            dead: 9_999,
            ..table()
        };
        assert_eq!(told(&few), [], "a young table");
    }

    #[test]
    fn what_is_not_kept_is_told_by_its_own_word() {
        use Severity::{Error, Warning};
        for (table, code, severity) in [
            (
                Table {
                    dead: 50_000,
                    ..table()
                },
                code::BLOAT,
                Warning,
            ),
            (
                Table {
                    is_vacuumed: false,
                    ..table()
                },
                code::VACUUM_OVERDUE,
                Warning,
            ),
            (
                Table {
                    age: 250_000_000,
                    ..table()
                },
                code::WRAPAROUND,
                Warning,
            ),
            (
                Table {
                    age: 1_600_000_000,
                    ..table()
                },
                code::WRAPAROUND,
                Error,
            ),
            (
                Table {
                    hides_rows: true,
                    ..table()
                },
                code::ROW_SECURITY,
                Warning,
            ),
        ] {
            assert_eq!(told(&table), [(code.to_owned(), severity)], "{table:?}");
        }
    }
}
