//! The values of core's list statements as the driver's arguments.

use persist_core::sql::Statement;
use persist_core::{Error, ErrorKind, Result};
use sea_query::{PostgresQueryBuilder, Value};
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

/// Text and arguments of a statement.
pub(crate) fn render(statement: &Statement) -> Result<(String, PgArguments)> {
    let (sql, values) = statement.build(PostgresQueryBuilder);
    let mut arguments = PgArguments::default();
    for value in values.0 {
        // The closed list of what core's builders bind.
        let added = match value {
            Value::Uuid(value) => arguments.add(value),
            Value::ChronoDateTimeUtc(value) => arguments.add(value),
            Value::String(value) => arguments.add(value),
            Value::BigInt(value) => arguments.add(value),
            // Postgres has no unsigned type: limits, which are at most 1,001.
            Value::BigUnsigned(value) => arguments.add(value.map(u64::cast_signed)),
            _ => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a statement binds a type that is not known here",
                ));
            }
        };
        added.map_err(|_| Error::new(ErrorKind::Internal, "a value could not be encoded"))?;
    }
    Ok((sql, arguments))
}
