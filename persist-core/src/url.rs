//! Database URLs: parsed by allow-list, shown without secrets.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use crate::error::{Error, ErrorKind, Result};

/// The schemes that persist knows, for messages.
pub const SCHEMES: &str = "postgres://, postgresql://, sqlite:, memory: and none:";

/// A database URL. `Debug` and `Display` are rebuilt from scheme, host, port and database: no user, no
/// password, no parameter.
///
/// ```
/// use persist_core::DbUrl;
/// let url: DbUrl = "postgres://ci:hunter2@db.example.org/ci?sslmode=verify-full".parse()?;
/// assert_eq!(url.to_string(), "postgres://db.example.org/ci");
/// assert!("postgers://db/ci".parse::<DbUrl>().is_err());
/// # Ok::<(), persist_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum DbUrl {
    /// `postgres://…`, `postgresql://…`
    Postgres(Box<PostgresUrl>),
    /// `sqlite://path`, `sqlite:path`, `sqlite::memory:`
    Sqlite(SqliteUrl),
    /// `memory:`, `memory:name`
    Memory(Option<String>),
    /// `none:`
    None,
}

/// The parts of a Postgres URL. What is `None` comes from the `PG*` variables or the driver's default.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PostgresUrl {
    /// Host name, address, or absolute folder of a Unix socket.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// Database name.
    pub database: Option<String>,
    /// The other libpq-style parameters, in order, by the names of [`POSTGRES_PARAMETERS`].
    pub parameters: Vec<(&'static str, String)>,
    /// `persist_schema`: the schema of our tables, instead of the first of the search path.
    pub schema: Option<String>,
    /// `persist_pooler=transaction`: PgBouncer or its like stands between. What it would drop, as `options`, is refused.
    pub pooler: bool,
}

/// Parameters that go to the driver. `options[name]` is taken as `options=-c name=…`.
pub const POSTGRES_PARAMETERS: [&str; 7] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "statement-cache-capacity",
    "application_name",
    "options",
];

const SEVERAL_HOSTS: &str = "several hosts are not supported; name one, or a name that follows the primary";
const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// What a SQLite URL names, and how it may be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteUrl {
    /// The file; `None` for `:memory:`.
    pub path: Option<PathBuf>,
    /// How it may be opened.
    pub mode: SqliteMode,
}

/// `mode=` of a SQLite URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqliteMode {
    /// `ro`: reads only, never migrates.
    ReadOnly,
    /// `rw`: the file must exist.
    #[default]
    ReadWrite,
    /// `rwc`: created where it is missing.
    Create,
}

impl DbUrl {
    /// Name of the backend that the scheme picks: `postgres`, `sqlite`, `memory` or `none`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
            Self::Memory(_) => "memory",
            Self::None => "none",
        }
    }
}

impl std::str::FromStr for DbUrl {
    type Err = Error;

    /// # Errors
    /// `InvalidUrl`, saying what is wrong and never showing the URL.
    fn from_str(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.trim().split_once(':') else {
            return Err(invalid(format!("has no scheme; known are {SCHEMES}")));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" => postgres(rest).map(|url| Self::Postgres(Box::new(url))),
            "sqlite" => sqlite(rest).map(Self::Sqlite),
            "memory" => memory(rest).map(Self::Memory),
            "none" if rest.is_empty() => Ok(Self::None),
            "none" => Err(invalid("none: takes nothing after the colon")),
            // The word is shown only where it can't be a piece of a password typed into the wrong place.
            known
                if known.len() <= 12
                    && known.bytes().all(|b| b.is_ascii_lowercase())
                    && rest.starts_with("//") =>
            {
                Err(invalid(format!("unknown scheme {known}; known are {SCHEMES}")))
            }
            _ => Err(invalid(format!("unknown scheme; known are {SCHEMES}"))),
        }
    }
}

impl fmt::Display for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) => url.fmt(f),
            Self::Sqlite(SqliteUrl { path: Some(path), .. }) => write!(f, "sqlite:{}", path.display()),
            Self::Sqlite(SqliteUrl { path: None, .. }) => f.write_str("sqlite::memory:"),
            Self::Memory(name) => write!(f, "memory:{}", name.as_deref().unwrap_or_default()),
            Self::None => f.write_str("none:"),
        }
    }
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbUrl({self})")
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}", self.host.as_deref().unwrap_or_default())?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.database.as_deref().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

fn postgres(rest: &str) -> Result<PostgresUrl> {
    if !rest.starts_with("//") {
        return Err(invalid(
            "a Postgres URL looks like postgres://user@host:5432/database",
        ));
    }
    let authority = rest[2..].split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    if hosts.contains(',') {
        return Err(invalid(SEVERAL_HOSTS));
    }
    if rest.contains('#') {
        return Err(invalid("a # must be written %23, also in a password"));
    }
    // `url` needs a host where there is a user: the empty one of `postgres://user@/db` is left to libpq's rules.
    let (full, hostless) = match rest
        .strip_prefix("//")
        .filter(|_| hosts.is_empty() && !authority.is_empty())
    {
        Some(tail) => (format!("postgres://{}", tail.replacen('@', "@-", 1)), true),
        None => (format!("postgres:{rest}"), false),
    };
    // Behind the first slash: the end of a password that has one.
    let before_query = rest[2..].split('?').next().unwrap_or_default();
    if before_query
        .split_once('/')
        .is_some_and(|(_, path)| path.contains('@'))
    {
        return Err(invalid(
            "an @ in the database name must be written %40, and a / in a password %2F",
        ));
    }
    let parsed =
        url::Url::parse(&full).map_err(|error| invalid("is not a well-formed URL").caused_by(error))?;
    let mut url = PostgresUrl {
        host: parsed
            .host_str()
            .filter(|host| !host.is_empty() && !hostless)
            .map(|host| decode(host, "host"))
            .transpose()?,
        port: parsed.port(),
        user: Some(decode(parsed.username(), "user")?).filter(|user| !user.is_empty()),
        password: parsed
            .password()
            .map(|word| decode(word, "password"))
            .transpose()?
            .map(SecretString::from),
        database: Some(decode(parsed.path().trim_start_matches('/'), "database")?)
            .filter(|name| !name.is_empty()),
        ..PostgresUrl::default()
    };
    for (key, value) in parsed.query_pairs() {
        postgres_parameter(&mut url, &key, value.into_owned())?;
    }
    let of_session = |(name, _): &(&str, String)| ["options", "statement-cache-capacity"].contains(name);
    if url.pooler && url.parameters.iter().any(of_session) {
        let what =
            "options and statement-cache-capacity can't be used with persist_pooler; set options on the role";
        return Err(invalid(what));
    }
    for (what, value) in [
        ("host", &url.host),
        ("user", &url.user),
        ("database", &url.database),
    ] {
        if value.as_ref().is_some_and(|value| value.contains('\0')) {
            return Err(invalid(format!("{what} must not contain a NUL character")));
        }
    }
    Ok(url)
}

fn postgres_parameter(url: &mut PostgresUrl, key: &str, value: String) -> Result<()> {
    if value.contains('\0') {
        return Err(invalid("a parameter must not contain a NUL character"));
    }
    match key {
        "host" | "hostaddr" if value.contains(',') => {
            return Err(invalid(SEVERAL_HOSTS));
        }
        "hostaddr" if value.parse::<std::net::IpAddr>().is_err() => {
            return Err(invalid("hostaddr must be an IP address"));
        }
        "host" | "hostaddr" => url.host = Some(value).filter(|value| !value.is_empty()),
        "port" => url.port = Some(value.parse().map_err(|_| invalid("port must be 1 to 65535"))?),
        "user" => url.user = Some(value).filter(|value| !value.is_empty()),
        "password" => url.password = Some(value.into()),
        "dbname" => url.database = Some(value).filter(|value| !value.is_empty()),
        "persist_schema" => url.schema = Some(schema_name(value)?),
        "persist_pooler" if value == "transaction" => url.pooler = true,
        "persist_pooler" => return Err(invalid("persist_pooler must be transaction")),
        _ => {
            let alias = match key {
                "ssl-mode" => "sslmode",
                "ssl-root-cert" | "ssl-ca" => "sslrootcert",
                "ssl-cert" => "sslcert",
                "ssl-key" => "sslkey",
                other => other,
            };
            if let Some(name) = alias
                .strip_prefix("options[")
                .and_then(|name| name.strip_suffix(']'))
            {
                let escaped = value.replace('\\', "\\\\").replace(' ', "\\ ");
                url.parameters.push(("options", format!("-c {name}={escaped}")));
                return Ok(());
            }
            let Some(known) = POSTGRES_PARAMETERS.iter().find(|known| **known == alias) else {
                return Err(unknown_parameter(
                    key,
                    &["persist_schema", "persist_pooler", "host", "sslmode"],
                ));
            };
            if *known == "sslmode" && !SSL_MODES.contains(&value.as_str()) {
                return Err(invalid(
                    "sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
                ));
            }
            if *known == "statement-cache-capacity" && value.parse::<usize>().is_err() {
                return Err(invalid("statement-cache-capacity must be a number"));
            }
            url.parameters.push((known, value));
        }
    }
    Ok(())
}

fn schema_name(name: String) -> Result<String> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let starts = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    if !plain || !starts || name.len() > 63 || name.starts_with("pg_") {
        return Err(invalid(
            "persist_schema must be 1 to 63 of a-z, 0-9 and _, and not begin with a digit or pg_",
        ));
    }
    Ok(name)
}

fn sqlite(rest: &str) -> Result<SqliteUrl> {
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = path.strip_prefix("//").unwrap_or(path);
    let mut mode = None;
    for pair in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            ("mode", "ro") => mode = Some(SqliteMode::ReadOnly),
            ("mode", "rw") => mode = Some(SqliteMode::ReadWrite),
            ("mode", "rwc") => mode = Some(SqliteMode::Create),
            ("mode", _) => return Err(invalid("mode must be ro, rw or rwc")),
            _ => return Err(unknown_parameter(key, &["mode"])),
        }
    }
    if path == ":memory:" {
        if mode == Some(SqliteMode::ReadOnly) {
            return Err(invalid("sqlite::memory: can't be read-only"));
        }
        return Ok(SqliteUrl {
            path: None,
            mode: SqliteMode::Create,
        });
    }
    let path = decode(path, "path")?;
    if path.is_empty() || path.contains('\0') {
        return Err(invalid("a SQLite URL names a file: sqlite://persist.db?mode=rwc"));
    }
    Ok(SqliteUrl {
        path: Some(PathBuf::from(path)),
        mode: mode.unwrap_or_default(),
    })
}

fn memory(name: &str) -> Result<Option<String>> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !plain || name.len() > 64 {
        return Err(invalid(
            "memory: takes a name of up to 64 letters, digits, -, _ and ., or nothing",
        ));
    }
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

fn decode(text: &str, what: &'static str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned)
        .map_err(|_| invalid(format!("{what} is not UTF-8")))
}

fn unknown_parameter(key: &str, some_known: &[&str]) -> Error {
    // Part of a password with an unescaped `&` or `?` would arrive here as a name: only what is near to a known
    // one is shown.
    let folded = key.to_ascii_lowercase().replace(['_', '-'], "");
    let is_near = |known: &&&str| known.replace(['_', '-'], "") == folded;
    let mut known = some_known.iter().chain(&POSTGRES_PARAMETERS);
    let is_word = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let is_ours = key.starts_with("persist_") && is_word && key.len() <= 32;
    let name = match known.find(is_near) {
        Some(near) => format!("{key}; is {near} meant?"),
        None if is_ours => key.to_owned(),
        None => "name withheld".to_owned(),
    };
    invalid(format!(
        "unknown parameter ({name}); known are {} and others",
        some_known.join(", ")
    ))
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidUrl, format!("database URL: {}", what.into()))
}

#[cfg(test)]
mod tests;
