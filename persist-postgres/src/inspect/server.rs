//! The server and the way to it: what it promises, which version it is, encryption, clocks, rights.

use persist_core::inspect::code;
use persist_core::{Clock, Finding, Result, Severity, Timestamp};
use sqlx::postgres::PgSslMode;

use super::shape::{NAMESPACE, get, rows};
use crate::session::Session;
use crate::tls;

/// The major versions that the statements are written for.
const SUPPORTED: std::ops::RangeInclusive<i32> = 14..=18;
/// Clocks that differ by so many seconds are told of, and warned of.
const SKEW_TOLD: i64 = 1;
const SKEW_WARNED: i64 = 60;

/// How the server is reached.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) host: String,
    pub(super) mode: PgSslMode,
    pub(super) pooler: bool,
}

/// What a server says of itself.
#[derive(Debug, Clone)]
struct Server {
    version: i32,
    /// What role and database set for their sessions; ours set it themselves.
    commit: Option<String>,
    fsync: bool,
    full_pages: bool,
    autovacuum: bool,
    isolation: Option<String>,
    used: i64,
    room: i64,
    encrypted: bool,
    may_create: bool,
    is_superuser: bool,
}

/// Looks at the server behind a session.
pub(super) async fn look(
    session: &mut Session,
    schema: Option<&str>,
    way: &Way,
    clock: &dyn Clock,
) -> Result<Vec<Finding>> {
    let sql = format!(
        "SELECT current_setting('server_version_num')::int, {}, \
         current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean, \
         current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean, \
         {}, \
         (SELECT coalesce(sum(numbackends), 0)::bigint FROM pg_stat_database), \
         current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint, \
         coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), \
         coalesce(has_schema_privilege({NAMESPACE}::oid, 'CREATE'), false), \
         coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = current_user), false), clock_timestamp()",
        of_others("synchronous_commit"),
        of_others("default_transaction_isolation")
    );
    let before = clock.now();
    let answer = rows(session, sql, schema).await?;
    let after = clock.now();
    let Some(row) = answer.first() else {
        return Ok(Vec::new());
    };
    let server = Server {
        version: get(row, 0)?,
        commit: get(row, 1)?,
        fsync: get(row, 2)?,
        full_pages: get(row, 3)?,
        autovacuum: get(row, 4)?,
        isolation: get(row, 5)?,
        used: get(row, 6)?,
        room: get(row, 7)?,
        encrypted: get(row, 8)?,
        may_create: get(row, 9)?,
        is_superuser: get(row, 10)?,
    };
    let mut findings = judge(&server);
    findings.extend(posture(way, server.encrypted));
    findings.extend(skew(before, get(row, 11)?, after));
    Ok(findings)
}

fn judge(server: &Server) -> Vec<Finding> {
    use Severity::{Error, Info, Warning};
    let mut findings = Vec::new();
    let mut add = |code, place: &str, severity, what: String, why: &str, mend: &[&str]| {
        let finding = Finding::new(code, place, severity, what, why);
        findings.push(finding.mended_by(mend.iter().copied()));
    };
    let major = server.version / 10_000;
    if !SUPPORTED.contains(&major) {
        let what = format!(
            "the server is PostgreSQL {major}; {} to {} are supported",
            SUPPORTED.start(),
            SUPPORTED.end()
        );
        add(
            code::SERVER_VERSION,
            "server_version",
            Info,
            what,
            "nobody has tried this version yet",
            &[],
        );
    }
    if let Some(commit) = server
        .commit
        .as_deref()
        .filter(|commit| matches!(*commit, "off" | "local"))
    {
        let what = format!("role or database set synchronous_commit to {commit}, and it should be on");
        let why =
            "our sessions set it to on; what any other program writes to the store may be lost in a crash";
        let mend = for_others("synchronous_commit", "on");
        add(
            code::NOT_DURABLE,
            "synchronous_commit",
            Warning,
            what,
            why,
            &[&mend],
        );
    }
    for (name, is_on) in [("fsync", server.fsync), ("full_page_writes", server.full_pages)] {
        if !is_on {
            let what = format!("{name} is off, and should be on");
            let why = "after a crash of the machine the database may be lost as a whole";
            let mend = format!("ALTER SYSTEM SET {name} = on");
            add(
                code::NOT_DURABLE,
                name,
                Error,
                what,
                why,
                &[&mend, "SELECT pg_reload_conf()"],
            );
        }
    }
    if !server.autovacuum {
        let what = "autovacuum or track_counts is off for the whole server".to_owned();
        let why = "dead rows stay, and tables grow with every update";
        let mend = [
            "ALTER SYSTEM SET autovacuum = on",
            "ALTER SYSTEM SET track_counts = on",
            "SELECT pg_reload_conf()",
        ];
        add(code::VACUUM_OVERDUE, "autovacuum", Warning, what, why, &mend);
    }
    let isolation = server.isolation.as_deref();
    if let Some(isolation) = isolation.filter(|isolation| *isolation != "read committed") {
        let what =
            format!("role or database set transactions to {isolation}, and they should be read committed");
        let why = "our sessions set it themselves; any other program that writes to the store gives way to updates \
                   instead of waiting for them";
        let mend = [for_others("default_transaction_isolation", "'read committed'")];
        let mend: Vec<_> = mend.iter().map(String::as_str).collect();
        add(
            code::ISOLATION,
            "default_transaction_isolation",
            Warning,
            what,
            why,
            &mend,
        );
    }
    if server.used * 10 > server.room * 8 {
        let what = format!("{} of {} connections are in use", server.used, server.room);
        let why = "whoever comes when none is left is turned away; use a pooler, or raise max_connections";
        add(code::CONNECTIONS, "max_connections", Warning, what, why, &[]);
    }
    if server.is_superuser || server.may_create {
        let what = if server.is_superuser {
            "the role is a superuser"
        } else {
            "the role may create tables in the schema"
        };
        let why = "to migrate and to mend takes that, to run an orchestrator does not: docs/roles.sql has a role for each";
        add(code::ROLE_RIGHTS, "role", Info, what.to_owned(), why, &[]);
    }
    findings
}

/// What sessions of this role in this database begin with: the narrowest setting holds. Ours ask for their own, which hides
/// what the server would give them.
fn of_others(name: &str) -> String {
    format!(
        "(SELECT lower(split_part(setting, '=', 2)) FROM pg_db_role_setting s, unnest(s.setconfig) setting \
         WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
         AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user)) \
         AND split_part(setting, '=', 1) = '{name}' \
         ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1)"
    )
}

/// Sets it where nothing overrides it: for the role in the database.
fn for_others(name: &str, value: &str) -> String {
    format!(
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I IN DATABASE %I SET {name} = {}', session_user, \
         current_database()); END $$",
        value.replace('\'', "''")
    )
}

/// Behind a pooler the server sees the pooler's connection, and of ours only what was asked for is known.
fn posture(way: &Way, encrypted: bool) -> Vec<Finding> {
    use PgSslMode as M;
    let mut findings = Vec::new();
    if way.pooler {
        let what = "a pooler stands between: its connection to the server is looked at, not ours to it";
        let why = "clocks, encryption and limits of the pooler itself are not seen";
        findings.push(Finding::new(
            code::POOLER,
            "connection",
            Severity::Info,
            what,
            why,
        ));
    }
    if tls::is_local(&way.host) {
        return findings;
    }
    let demands = matches!(way.mode, M::Require | M::VerifyCa | M::VerifyFull);
    let is_encrypted = if way.pooler { demands } else { encrypted };
    if !is_encrypted {
        let what = "the connection leaves the machine and is not encrypted, or need not be";
        let why = "whoever is on the way reads and changes what is sent; add sslmode=verify-full to the URL";
        findings.push(Finding::new(
            code::PLAINTEXT_CONNECTION,
            "connection",
            Severity::Warning,
            what,
            why,
        ));
    } else if !matches!(way.mode, M::VerifyFull) {
        let what =
            "the connection is encrypted, and whether the server is the right one is not checked in full";
        let why =
            "whoever can lead the way elsewhere can pretend to be it; add sslmode=verify-full to the URL";
        findings.push(Finding::new(
            code::TLS_UNVERIFIED,
            "connection",
            Severity::Info,
            what,
            why,
        ));
    }
    findings
}

/// By how much the clocks differ at least: the server answered between two looks at ours.
fn skew(before: Timestamp, server: Timestamp, after: Timestamp) -> Option<Finding> {
    let (ahead, behind) = (server - after, before - server);
    let (by, way) = if ahead > behind {
        (ahead, "ahead of")
    } else {
        (behind, "behind")
    };
    let seconds = by.num_seconds();
    if seconds < SKEW_TOLD {
        return None;
    }
    let severity = if seconds >= SKEW_WARNED {
        Severity::Warning
    } else {
        Severity::Info
    };
    let what = format!("the clock of the server is {seconds} s {way} that of this machine");
    let why = "no outcome depends on it, and times that both write do not fit each other: let both follow one time server";
    Some(Finding::new(code::CLOCK_SKEW, "clock", severity, what, why))
}

#[cfg(test)]
mod tests;
