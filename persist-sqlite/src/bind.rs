//! The values of core's list statements as the driver's.

use persist_core::sql::Statement;
use persist_core::{Error, ErrorKind};
use rusqlite::types::Value as Bound;
use rusqlite::{CachedStatement, Connection, Rows, params_from_iter};
use sea_query::{SqliteQueryBuilder, Value};

use crate::error::Failed;

/// A statement with its values, ready to run.
pub(crate) struct Select<'c> {
    prepared: CachedStatement<'c>,
    values: Vec<Bound>,
}

impl<'c> Select<'c> {
    pub(crate) fn new(connection: &'c Connection, statement: &Statement) -> Result<Self, Failed> {
        let (sql, values) = statement.build(SqliteQueryBuilder);
        let values = values.0.into_iter().map(bound).collect::<Result<_, _>>()?;
        Ok(Self {
            prepared: connection.prepare_cached(&sql)?,
            values,
        })
    }

    pub(crate) fn rows(&mut self) -> Result<Rows<'_>, Failed> {
        Ok(self.prepared.query(params_from_iter(&self.values))?)
    }
}

/// The closed list of what core's builders bind.
fn bound(value: Value) -> Result<Bound, Error> {
    let bound = match value {
        Value::Bytes(value) => value.map(Bound::Blob),
        Value::String(value) => value.map(Bound::Text),
        Value::BigInt(value) => value.map(Bound::Integer),
        // SQLite has no unsigned type: limits, which are at most 1,001.
        Value::BigUnsigned(value) => value.map(|number| Bound::Integer(number.cast_signed())),
        _ => {
            return Err(Error::new(
                ErrorKind::Internal,
                "a statement binds a type that is not known here",
            ));
        }
    };
    Ok(bound.unwrap_or(Bound::Null))
}
