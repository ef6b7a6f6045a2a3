//! The stable words of [`Finding::code`](crate::Finding::code), one for each sort of finding of our backends.

/// Much of a table is dead rows.
pub const BLOAT: &str = "bloat";
/// The clocks of the program and of the database differ.
pub const CLOCK_SKEW: &str = "clock_skew";
/// The server has few connections left.
pub const CONNECTIONS: &str = "connections";
/// A check that is not ours.
pub const EXTRA_CHECK: &str = "extra_check";
/// A column that is not ours.
pub const EXTRA_COLUMN: &str = "extra_column";
/// An index that is not ours.
pub const EXTRA_INDEX: &str = "extra_index";
/// A trigger or rule that is not ours.
pub const EXTRA_TRIGGER: &str = "extra_trigger";
/// Others may read or write a file of the store.
pub const FILE_MODE: &str = "file_mode";
/// Others may replace the files of the store.
pub const FOLDER_MODE: &str = "folder_mode";
/// Much of the file is free pages.
pub const FREE_PAGES: &str = "free_pages";
/// The file is damaged, or was not looked through.
pub const INTEGRITY: &str = "integrity";
/// A check holds for new rows only: old ones were never looked at.
pub const INVALID_CHECK: &str = "invalid_check";
/// An index is there and can't be used: its making was interrupted.
pub const INVALID_INDEX: &str = "invalid_index";
/// Transactions have another isolation level.
pub const ISOLATION: &str = "isolation";
/// The log beside the file has grown large.
pub const LOG_LARGE: &str = "log_large";
/// A fact of the store about itself is not there.
pub const META_MISSING: &str = "meta_missing";
/// A fact of the store about itself can't be true.
pub const META_WRONG: &str = "meta_wrong";
/// A check of states is not there.
pub const MISSING_CHECK: &str = "missing_check";
/// A column that statements name is not there.
pub const MISSING_COLUMN: &str = "missing_column";
/// An index is not there.
pub const MISSING_INDEX: &str = "missing_index";
/// A table has no primary key.
pub const MISSING_KEY: &str = "missing_key";
/// A table of ours is not there.
pub const MISSING_TABLE: &str = "missing_table";
/// The file is on a file system of a network.
pub const NETWORK_FILE: &str = "network_file";
/// A newer program has changed the schema.
pub const NEWER_SCHEMA: &str = "newer_schema";
/// Sequence numbers would be given a second time.
pub const NEXT_SEQ: &str = "next_seq";
/// What was acknowledged may be lost in a crash.
pub const NOT_DURABLE: &str = "not_durable";
/// A migration of this program is not applied.
pub const PENDING_MIGRATION: &str = "pending_migration";
/// The connection is not encrypted.
pub const PLAINTEXT_CONNECTION: &str = "plaintext_connection";
/// A pooler stands between, and hides what is behind it.
pub const POOLER: &str = "pooler";
/// A setting of the file is not what it should be.
pub const PRAGMA: &str = "pragma";
/// The role has more rights than it needs, or less than mending wants.
pub const ROLE_RIGHTS: &str = "role_rights";
/// Rows may be hidden from the role.
pub const ROW_SECURITY: &str = "row_security";
/// The server's version is not one that was tested.
pub const SERVER_VERSION: &str = "server_version";
/// The connection is encrypted, and the server has not proved who it is.
pub const TLS_UNVERIFIED: &str = "tls_unverified";
/// Dead rows are not cleaned up.
pub const VACUUM_OVERDUE: &str = "vacuum_overdue";
/// Rows are not frozen in time: the server will stop taking writes.
pub const WRAPAROUND: &str = "wraparound";
/// A check of our name demands something else.
pub const WRONG_CHECK: &str = "wrong_check";
/// What the database fills in by itself, or computes, is not what we rely on.
pub const WRONG_DEFAULT: &str = "wrong_default";
/// An index of our name is of other columns or rows.
pub const WRONG_INDEX: &str = "wrong_index";
/// The primary key is of other columns.
pub const WRONG_KEY: &str = "wrong_key";
/// A column takes null and must not, or the other way round.
pub const WRONG_NULLABILITY: &str = "wrong_nullability";
/// A table lacks a storage option, or has another value.
pub const WRONG_OPTION: &str = "wrong_option";
/// What goes by the name of a table is another sort of thing.
pub const WRONG_TABLE: &str = "wrong_table";
/// A column has another type or collation.
pub const WRONG_TYPE: &str = "wrong_type";

/// Slots are of transactions that the server has yet to begin, as after a restore into another one.
pub const XID_AHEAD: &str = "xid_ahead";

/// All of them, in the order of the alphabet.
pub const ALL: [&str; 45] = [
    BLOAT,
    CLOCK_SKEW,
    CONNECTIONS,
    EXTRA_CHECK,
    EXTRA_COLUMN,
    EXTRA_INDEX,
    EXTRA_TRIGGER,
    FILE_MODE,
    FOLDER_MODE,
    FREE_PAGES,
    INTEGRITY,
    INVALID_CHECK,
    INVALID_INDEX,
    ISOLATION,
    LOG_LARGE,
    META_MISSING,
    META_WRONG,
    MISSING_CHECK,
    MISSING_COLUMN,
    MISSING_INDEX,
    MISSING_KEY,
    MISSING_TABLE,
    NETWORK_FILE,
    NEWER_SCHEMA,
    NEXT_SEQ,
    NOT_DURABLE,
    PENDING_MIGRATION,
    PLAINTEXT_CONNECTION,
    POOLER,
    PRAGMA,
    ROLE_RIGHTS,
    ROW_SECURITY,
    SERVER_VERSION,
    TLS_UNVERIFIED,
    VACUUM_OVERDUE,
    WRAPAROUND,
    WRONG_CHECK,
    WRONG_DEFAULT,
    WRONG_INDEX,
    WRONG_KEY,
    WRONG_NULLABILITY,
    WRONG_OPTION,
    WRONG_TABLE,
    WRONG_TYPE,
    XID_AHEAD,
];
