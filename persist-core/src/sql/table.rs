//! The shapes of the tables, as far as statements need them.

use crate::attributes::Attribute;
use crate::state::StateTable;

/// The history.
pub const EVENTS: &str = "events";

/// A table of current rows.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RowTable {
    /// Its name.
    pub name: &'static str,
    /// Its primary key.
    pub key: &'static [&'static str],
    /// Its attributes; each has a column of its name and one named `<attribute>_rank`.
    pub attributes: [Attribute; 3],
}

/// Current rows of jobs.
pub const JOBS: RowTable = RowTable {
    name: "jobs",
    key: &["request_id"],
    attributes: Attribute::JOB,
};

/// Current rows of VMs.
pub const VMS: RowTable = RowTable {
    name: "vms",
    key: &["request_id", "domain_name"],
    attributes: Attribute::VM,
};

/// What a statement that reads jobs selects, in this order.
pub const JOB_COLUMNS: [&str; 8] = [
    "request_id",
    "state",
    "rank",
    "repo_url",
    "commit_sha",
    "runs_on",
    "created_at",
    "updated_at",
];

/// What a statement that reads VMs selects, in this order.
pub const VM_COLUMNS: [&str; 9] = [
    "request_id",
    "domain_name",
    "state",
    "rank",
    "backend",
    "overlay_path",
    "seed_path",
    "created_at",
    "updated_at",
];

/// What a statement that reads the history selects, in this order.
pub const EVENT_COLUMNS: [&str; 15] = [
    "seq",
    "request_id",
    "domain_name",
    "rank",
    "state",
    "at",
    "recorded_at",
    "actor",
    "reason",
    "repo_url",
    "commit_sha",
    "runs_on",
    "backend",
    "overlay_path",
    "seed_path",
];

/// Every column that a statement names, by table: what a schema that was changed by hand may lack.
///
/// ```
/// use persist_core::sql::named_columns;
/// let (table, columns) = &named_columns()[0];
/// assert!(*table == "jobs" && columns.contains(&"repo_url_rank".to_owned()));
/// ```
pub fn named_columns() -> [(&'static str, Vec<String>); 3] {
    let rows = |table: RowTable, read: &[&str]| {
        let ranks = table
            .attributes
            .map(|attribute| format!("{}_rank", attribute.name()));
        let own = ["prev_rank", "ending"].map(str::to_owned);
        let columns = read.iter().map(|column| (*column).to_owned());
        (table.name, columns.chain(own).chain(ranks).collect())
    };
    let events = EVENT_COLUMNS.map(str::to_owned).to_vec();
    [rows(JOBS, &JOB_COLUMNS), rows(VMS, &VM_COLUMNS), (EVENTS, events)]
}

/// The words of the states that `keep` lets through, quoted and joined by commas: `'lost', 'failed'`.
///
/// Words come from the state table, never from a caller.
pub fn state_list<S: StateTable>(keep: impl Fn(S) -> bool) -> String {
    let words = S::TABLE.iter().filter(|spec| keep(spec.state));
    words
        .map(|spec| format!("'{}'", spec.name))
        .collect::<Vec<_>>()
        .join(", ")
}
