//! Connection settings: from the URL's parts, the `PG*` variables and `.pgpass`, by setters only.
//!
//! The URL string never reaches the driver, which would print its password in two error texts and a warning.

use std::time::Duration;

use persist_core::{Deadlines, Error, ErrorKind, PostgresUrl, Result};
use secrecy::ExposeSecret as _;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::pgpass;
use crate::tls::{self, Files};

/// How to reach a Postgres database.
///
/// ```
/// use persist_core::DbUrl;
/// use persist_postgres::PostgresConfig;
/// let DbUrl::Postgres(url) = "postgres://ci@db.example.org/ci?sslmode=verify-full".parse()? else { panic!() };
/// let config = PostgresConfig::new(*url).connections(4);
/// # Ok::<(), persist_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    pub(crate) url: PostgresUrl,
    pub(crate) deadlines: Deadlines,
    pub(crate) connections: u32,
}

impl PostgresConfig {
    /// The usual deadlines and 8 connections.
    pub fn new(url: PostgresUrl) -> Self {
        Self {
            url,
            deadlines: Deadlines::default(),
            connections: 8,
        }
    }

    /// Deadlines of every call.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Most connections for all but updates; at least one. Updates have [`FLUSHERS`](persist_core::FLUSHERS) more
    /// of their own, so that slow reads don't keep them waiting.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// The driver's options, with our settings of the session unless a pooler stands between.
    ///
    /// # Errors
    /// `InvalidUrl` for a parameter whose value can't be used.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions> {
        let (options, user_options) = self.bare_options()?;
        if !self.url.pooler {
            return Ok(with_session(options, &user_options, self));
        }
        if !user_options.trim().is_empty() {
            // Those of the URL were refused when it was read.
            let what = "PGOPTIONS can't be used with persist_pooler; set them on the role or the database";
            return Err(Error::new(ErrorKind::InvalidUrl, what));
        }
        // The driver's own, which a pooler refuses as well. Nothing that we read is a float.
        Ok(options.extra_float_digits(None))
    }

    /// The same without any setting of the session, and those that the user asks for.
    ///
    /// # Errors
    /// `InvalidUrl` for a parameter whose value can't be used.
    pub(crate) fn bare_options(&self) -> Result<(PgConnectOptions, String)> {
        let url = &self.url;
        // Takes over PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSL*, PGAPPNAME and PGOPTIONS.
        let mut options = PgConnectOptions::new_without_pgpass();
        if let Some(host) = &url.host {
            // An address of version 6 stands in brackets.
            options = options.host(host.trim_matches(['[', ']']));
        }
        if let Some(port) = url.port {
            options = options.port(port);
        }
        if let Some(user) = &url.user {
            options = options.username(user);
        }
        if let Some(database) = &url.database {
            options = options.database(database);
        }
        let password_set = url.password.is_some() || std::env::var_os("PGPASSWORD").is_some();
        if let Some(password) = &url.password {
            options = options.password(password.expose_secret());
        }
        let mut user_options = options.get_options().unwrap_or_default().to_owned();
        for (name, value) in &url.parameters {
            options = match *name {
                "sslmode" => options.ssl_mode(value.parse().map_err(|_| unusable("sslmode"))?),
                "sslrootcert" => options.ssl_root_cert(value),
                "sslcert" => options.ssl_client_cert(value),
                "sslkey" => options.ssl_client_key(value),
                "statement-cache-capacity" => {
                    let capacity = value.parse().map_err(|_| unusable("statement-cache-capacity"))?;
                    options.statement_cache_capacity(capacity)
                }
                "application_name" => options.application_name(value),
                "options" => {
                    user_options = format!("{user_options} {value}");
                    options
                }
                _ => return Err(unusable("a parameter that is not known here")),
            };
        }
        if options.get_application_name().is_none() {
            options = options.application_name("persist");
        }
        if !password_set
            && let Some(password) = pgpass::password(
                options.get_host(),
                options.get_port(),
                options.get_username(),
                options.get_database().unwrap_or(options.get_username()),
            )
        {
            options = options.password(&password);
        }
        // As libpq has it: a socket needs no TLS, and whoever names an authority wants it asked.
        options = match options.get_ssl_mode() {
            _ if options.get_host().starts_with('/') => options.ssl_mode(PgSslMode::Disable),
            PgSslMode::Require if self.files().name_an_authority() => options.ssl_mode(PgSslMode::VerifyCa),
            _ => options,
        };
        tls::warn_of_plaintext(&options);
        Ok((options.disable_statement_logging(), user_options))
    }

    /// What TLS needs beside the server.
    pub(crate) fn files(&self) -> Files {
        Files::named(&self.url.parameters)
    }

    /// After how long the server itself ends a statement, and a wait for a lock. A lock is given up first, so
    /// that the answer is the exact one.
    pub(crate) fn server_timeouts(&self) -> [(&'static str, Duration); 3] {
        let longest = self
            .deadlines
            .write
            .max(self.deadlines.read)
            .max(Duration::from_millis(4));
        [
            ("statement_timeout", longest),
            (
                "lock_timeout",
                self.deadlines.write.max(Duration::from_millis(4)) * 3 / 4,
            ),
            ("idle_in_transaction_session_timeout", longest * 2),
        ]
    }
}

/// Startup options, in the driver's own spelling: a space separates, a backslash escapes.
fn with_session(
    mut options: PgConnectOptions,
    user_options: &str,
    config: &PostgresConfig,
) -> PgConnectOptions {
    // The driver's setter only appends pairs, so the user's own text goes through it pair by pair.
    let taken = options.get_options().unwrap_or_default().len();
    for pair in pairs(user_options.get(taken..).unwrap_or_default()) {
        options = options.options([pair]);
    }
    let timeouts = config
        .server_timeouts()
        .map(|(name, time)| (name, format!("{}ms", time.as_millis())));
    let commit = pairs(user_options)
        .into_iter()
        .rev()
        .find(|(name, _)| name == "synchronous_commit");
    let stronger = commit.is_some_and(|(_, value)| value == "remote_apply");
    options
        .options((!stronger).then_some(("synchronous_commit", "on")))
        .options([("default_transaction_isolation", "read committed")])
        .options(PLANNER)
        .options(timeouts)
        .options([(ARRIVED, "on")])
}

/// A setting of nobody else's: where it is missing, a pooler on the way has dropped ours.
const ARRIVED: &str = "persist.arrived";

/// What our statements ask of the planner. They join a few hundred keys with tables by their primary keys; a plan
/// that was made while a table was young would hash or merge all of it for ever after (measured: 7,000 instead of
/// 20,000 updates/s), and none is worth compiling.
pub(crate) const PLANNER: [(&str, &str); 3] = [
    ("jit", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The `-c name=value` and `--name=value` words of an options text.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => words.last_mut().expect("never empty").extend(characters.next()),
            ' ' => words.push(String::new()),
            other => words.last_mut().expect("never empty").push(other),
        }
    }
    let word = |word: &str| {
        let word = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix("-c"))
            .unwrap_or(word);
        word.split_once('=')
            .map(|(name, value)| (name.replace('-', "_"), value.to_owned()))
    };
    words.iter().filter_map(|text| word(text)).collect()
}

fn unusable(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidUrl,
        format!("database URL: {what} can't be used"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::DbUrl;

    fn config(text: &str) -> PostgresConfig {
        let DbUrl::Postgres(url) = text.parse().unwrap() else {
            panic!("{text}")
        };
        PostgresConfig::new(*url)
    }

    #[test]
    fn parts_parameters_and_session_settings_arrive() {
        let text = "postgres://me:p%40ss@db.example.org:5433/ci?sslmode=verify-full&application_name=x\
                    &options[work_mem]=8%20MB&options=--geqo=off";
        let options = config(text).connect_options().unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("db.example.org", 5433));
        assert_eq!(
            (options.get_username(), options.get_database()),
            ("me", Some("ci"))
        );
        assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull));
        assert_eq!(options.get_application_name(), Some("x"));
        let session = options.get_options().unwrap();
        assert!(session.starts_with(r"-c work_mem=8\ MB -c geqo=off"), "{session}");
        assert!(session.contains("-c synchronous_commit=on"), "{session}");
        assert!(
            session.contains(r"-c default_transaction_isolation=read\ committed"),
            "{session}"
        );
        assert!(
            session.contains("-c statement_timeout=10000ms -c lock_timeout=7500ms"),
            "{session}"
        );
    }

    #[test]
    fn a_pooler_gets_no_startup_options() {
        let options = config("postgres://db/ci?persist_pooler=transaction")
            .connect_options()
            .unwrap();
        assert_eq!(options.get_options(), None);
        assert_eq!(options.get_application_name(), Some("persist"));
    }

    #[test]
    fn an_authority_that_is_named_is_asked_and_a_socket_needs_none() {
        let mode = |text: &str| config(text).connect_options().unwrap().get_ssl_mode();
        assert!(matches!(
            mode("postgres://db/ci?sslmode=require"),
            PgSslMode::Require
        ));
        let named = "postgres://db/ci?sslmode=require&sslrootcert=ca.pem";
        assert!(matches!(mode(named), PgSslMode::VerifyCa));
        let socket = "postgres:///ci?host=/run/postgresql&sslmode=verify-full";
        assert!(matches!(mode(socket), PgSslMode::Disable));
        let options = config("postgres://[::1]:5433/ci").connect_options().unwrap();
        assert_eq!(options.get_host(), "::1");
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", config("postgres://me:hunter2@db/ci")).contains("hunter2"));
    }
}
