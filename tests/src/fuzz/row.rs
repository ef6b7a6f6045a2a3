//! Rows of a SQLite file that somebody else wrote.

use std::sync::Arc;

use persist_core::{
    Claim, Cursor, Error, ErrorKind, EventOrder, EventQuery, JobQuery, JobState, Order, Page, PersistBackend,
    Result, VmKey, VmQuery, VmState,
};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ToSql};
use tokio::runtime::Runtime;

use crate::place::{Database, Place};
use crate::sample;

/// A name for the row, its table, and its columns with their values.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// What the rows are before anybody changes a value: of a job and its VM, a slot of each, and of the store itself.
/// Values are spelled as in the bytes that [`Rows::check`] takes.
const WHOLE: [Row; 7] = [
    (
        "job",
        "jobs",
        &[
            ("request_id", "u"),
            ("state", "tqueued"),
            ("rank", "i4"),
            ("created_at", "i1793520000000000"),
            ("updated_at", "i1793520000000000"),
            ("repo_url", "thttps://example.org/a.git"),
            ("repo_url_rank", "i4"),
        ],
    ),
    (
        "vm",
        "vms",
        &[
            ("request_id", "u"),
            ("domain_name", "tvm"),
            ("state", "tprepared"),
            ("rank", "i4"),
            ("created_at", "i1793520000000000"),
            ("updated_at", "i1793520000000000"),
            ("backend", "tbhyve"),
            ("backend_rank", "i4"),
        ],
    ),
    (
        "job_event",
        "events",
        &[
            ("seq", "i1"),
            ("request_id", "u"),
            ("domain_name", "t"),
            ("rank", "i4"),
            ("state", "tqueued"),
            ("at", "i1793520000000000"),
            ("recorded_at", "i1793520000000000"),
            ("repo_url", "thttps://example.org/a.git"),
        ],
    ),
    (
        "vm_event",
        "events",
        &[
            ("seq", "i2"),
            ("request_id", "u"),
            ("domain_name", "tvm"),
            ("rank", "i4"),
            ("state", "tprepared"),
            ("at", "i1793520000000000"),
            ("recorded_at", "i1793520000000000"),
            ("backend", "tbhyve"),
        ],
    ),
    (
        "instance_id",
        "persist_meta",
        &[
            ("key", "tinstance_id"),
            ("value", "t01910000-0000-4000-8000-000000000001"),
        ],
    ),
    (
        "min_reader",
        "persist_meta",
        &[("key", "tmin_reader"), ("value", "t4")],
    ),
    (
        "next_seq",
        "persist_meta",
        &[("key", "tnext_seq"), ("value", "t3")],
    ),
];

const TABLES: [&str; 4] = ["jobs", "vms", "events", "persist_meta"];

/// More than all rows, those that the updates add too: no walk by pages of one is longer.
const MOST_PAGES: usize = 8;

/// A store whose tables take anything.
#[derive(Debug)]
pub struct Rows {
    runtime: Runtime,
    backend: Arc<dyn PersistBackend>,
    outside: Connection,
    claims: Vec<Claim>,
    _place: Place,
}

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    /// A store in a folder of its own, which goes with it.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let place = Place::empty(Database::Sqlite);
        let backend = runtime.block_on(async {
            let made = place.migrated().await.expect("a new file is migrated");
            made.close().await.expect("it closes");
            let outside = place.file();
            outside
                .execute_batch(&TABLES.map(|table| untyped(&outside, table)).concat())
                .expect("tables are replaced");
            place.open().await.expect("the file opens")
        });
        let outside = place.file();
        outside
            .execute_batch("PRAGMA synchronous = OFF")
            .expect("a file of a test needs no sync");
        let claims = [
            sample::job(1, JobState::Queued)
                .actor("fill")
                .runs_on("small")
                .into(),
            sample::job(1, JobState::Running)
                .repo_url("https://example.org/b.git")
                .into(),
            sample::vm(1, "vm", VmState::Prepared)
                .reason("fill")
                .seed_path("/s")
                .into(),
            sample::vm(1, "vm", VmState::Failed).into(),
        ];
        Self {
            runtime,
            backend,
            outside,
            claims: sample::claims::<persist_core::Update>(claims).expect("samples are within the limits"),
            _place: place,
        }
    }

    /// Values that were changed by hand are read as a valid row, or told as damage or as those of a newer program by a
    /// text that moves no terminal; the same of updates that meet them.
    ///
    /// The bytes are lines, each one value: `job.state tdreaming`. A value is `n`ull, an `i`nteger, a `f`loat, a `t`ext or
    /// `x` for a blob with their bytes, or the `u`sual id. A line that is none of these says nothing.
    ///
    /// # Panics
    /// If not.
    pub fn check(&mut self, bytes: &[u8]) {
        self.write(bytes);
        let (backend, claims) = (&self.backend, &self.claims);
        self.runtime.block_on(async {
            read(backend).await;
            for claim in claims {
                let applied = backend.apply(std::slice::from_ref(claim)).await;
                if let Err(error) = &applied {
                    // Else callers that came along would suffer from it.
                    let of_store = error.message().starts_with("persist_meta");
                    assert!(of_store || error.is_of_one_claim(), "{error:?}");
                }
                allowed(applied);
            }
            read(backend).await;
        });
    }

    fn write(&mut self, bytes: &[u8]) {
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').filter_map(changed).collect();
        let transaction = self.outside.transaction().expect("the file is free");
        for table in TABLES {
            transaction
                .execute(&format!("DELETE FROM {table}"), [])
                .expect("a table is emptied");
        }
        for (row, table, columns) in WHOLE {
            let whole = columns
                .iter()
                .map(|(column, value)| (*column, taken(value.as_bytes()).expect("is well spelled")));
            let mut values: Vec<(&str, Taken<'_>)> = whole.collect();
            for (column, value) in lines
                .iter()
                .filter_map(|(of, column, value)| (*of == row).then_some((*column, value)))
            {
                match values.iter_mut().find(|(known, _)| *known == column) {
                    Some((_, held)) => *held = value.clone(),
                    None => values.push((column, value.clone())),
                }
            }
            insert(&transaction, table, &values);
        }
        transaction.commit().expect("the file takes it");
    }
}

/// A value of a line; texts as their bytes, whatever these are.
#[derive(Debug, Clone)]
enum Taken<'b> {
    Text(&'b [u8]),
    Other(Value),
}

impl ToSql for Taken<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Taken::Text(bytes) => ValueRef::Text(bytes),
            Taken::Other(value) => value.into(),
        }))
    }
}

fn taken(value: &[u8]) -> Option<Taken<'_>> {
    let (kind, rest) = value.split_first()?;
    let text = std::str::from_utf8(rest).ok();
    Some(match kind {
        b'n' => Taken::Other(Value::Null),
        b'i' => Taken::Other(Value::Integer(text?.parse().ok()?)),
        b'f' => Taken::Other(Value::Real(text?.parse().ok()?)),
        b't' => Taken::Text(rest),
        b'x' => Taken::Other(Value::Blob(rest.to_vec())),
        b'u' => Taken::Other(Value::Blob(sample::id(1).as_bytes().to_vec())),
        _ => return None,
    })
}

/// The row, column and value of a line.
fn changed(line: &[u8]) -> Option<(&str, &str, Taken<'_>)> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    let (row, column) = std::str::from_utf8(&line[..end]).ok()?.split_once('.')?;
    Some((row, column, taken(&line[end + 1..])?))
}

/// A row of a name that the table does not have is none.
fn insert(connection: &Connection, table: &str, values: &[(&str, Taken<'_>)]) {
    let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if !values.iter().all(|(column, _)| is_plain(column)) {
        return;
    }
    let columns: Vec<_> = values.iter().map(|(column, _)| format!("\"{column}\"")).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!(
        "INSERT OR IGNORE INTO {table} ({}) VALUES ({places})",
        columns.join(", ")
    );
    if let Ok(mut insert) = connection.prepare_cached(&sql) {
        let values = rusqlite::params_from_iter(values.iter().map(|(_, value)| value));
        insert.execute(values).expect("an untyped table takes it");
    }
}

/// The statements that replace a table by one with the same columns, which take anything.
fn untyped(connection: &Connection, table: &str) -> String {
    let mut columns = connection
        .prepare(&format!("SELECT name FROM pragma_table_xinfo('{table}')"))
        .expect("the table is there");
    let columns = columns
        .query_map([], |row| row.get::<_, String>(0))
        .expect("it has columns");
    let columns: Vec<_> = columns.collect::<Result<_, _>>().expect("of a name each");
    let key = match table {
        "events" => "CREATE UNIQUE INDEX events_key ON events (request_id, domain_name, rank);",
        _ => "",
    };
    format!(
        "DROP TABLE {table}; CREATE TABLE {table} (\"{}\"); {key}",
        columns.join("\", \"")
    )
}

/// Every way of reading.
async fn read(backend: &Arc<dyn PersistBackend>) {
    let id = sample::id(1);
    if let Some(Some(job)) = allowed(backend.job(id).await) {
        assert_eq!(job.request_id, id);
    }
    allowed(backend.vm(&VmKey::new(id, "vm")).await);
    for order in [Order::NewestFirst, Order::OldestFirst, Order::ById] {
        let jobs = JobQuery::default().order(order).limit(1);
        walk(async |after| backend.jobs(&jobs.clone().after(after)).await).await;
        let vms = VmQuery::default().order(order).limit(1);
        walk(async |after| backend.vms(&vms.clone().after(after)).await).await;
    }
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        let events = EventQuery::default().order(order).limit(1);
        walk(async |after| backend.events(&events.clone().after(after)).await).await;
    }
    let both = JobQuery::default().states([JobState::Queued, JobState::Lost]);
    allowed(backend.jobs(&both).await);
    allowed(backend.health().await);
}

async fn walk<T>(page: impl AsyncFn(Option<Cursor>) -> Result<Page<T>>) {
    let mut after = None;
    for _ in 0..MOST_PAGES {
        match allowed(page(after).await) {
            Some(Page {
                items,
                next: Some(next),
                ..
            }) => {
                assert_eq!(items.len(), 1);
                after = Some(next);
            }
            _ => return,
        }
    }
    panic!("more pages than rows");
}

/// The value, or none for an error that such rows may be told by.
fn allowed<T>(result: Result<T, Error>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    assert!(
        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::SchemaMismatch),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(!text.contains(char::is_control) && text.len() < 500, "{text:?}");
    None
}
