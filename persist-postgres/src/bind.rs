//! The values of core's list statements as the driver's arguments.

use persist_core::sql::Statement;
use persist_core::{Error, ErrorKind, Result};
use sea_query::{PostgresQueryBuilder, Value};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::{Arguments as _, Encode, Type};

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
        added.map_err(|_| unencoded())?;
    }
    Ok((sql, arguments))
}

/// One more argument.
pub(crate) fn add<'a, T>(arguments: &mut PgArguments, value: T) -> Result<()>
where
    T: Encode<'a, Postgres> + Type<Postgres>,
{
    arguments.add(value).map_err(|_| unencoded())
}

fn unencoded() -> Error {
    Error::new(ErrorKind::Internal, "a value could not be encoded")
}
