//! Database URLs.

use std::path::Path;

use persist_core::{DbUrl, ErrorKind, SqliteUrl};

use super::{told, words};

/// Between these stand the parts of a URL.
const MARKS: &str = ":/?#@&=;,.[]%+\\";

/// A URL is parsed, or refused as `InvalidUrl` by a text that shows nothing of it. What is parsed is shown without
/// user, password and parameters, and what is shown leads to the same database.
///
/// # Panics
/// If not.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<DbUrl>() {
        Ok(url) => {
            shows_no_secret(&url);
            leads_to_the_same(&url);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{text:?}");
            let told = told(&error);
            for word in words(text, MARKS) {
                assert!(!told.contains(word), "{text:?} is told as {told}");
            }
        }
    }
}

/// Nothing but host, port and database is in what is shown.
fn shows_no_secret(url: &DbUrl) {
    let DbUrl::Postgres(parts) = url else { return };
    let port = parts.port.map(|port| format!(":{port}")).unwrap_or_default();
    let [host, database] = [&parts.host, &parts.database].map(|part| part.as_deref().unwrap_or_default());
    let place = format!("postgres://{host}{port}/{database}");
    assert_eq!(
        (url.to_string(), parts.to_string()),
        (place.clone(), place.clone())
    );
    let debug = (format!("{url:?}"), format!("{parts:?}"));
    assert_eq!(
        debug,
        (format!("DbUrl({place})"), format!("PostgresUrl({place})"))
    );
}

/// Where its parts need no escape: it is for people, not for opening.
fn leads_to_the_same(url: &DbUrl) {
    let is_plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    let again = || {
        let shown = url.to_string();
        let again: DbUrl = shown.parse().unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(again.backend(), url.backend(), "{shown}");
        again
    };
    match url {
        DbUrl::Postgres(parts) => {
            // A number is an address to a URL, of whatever form: `1` is 0.0.0.1.
            let is_name = |host: &str| is_plain(host) && host.starts_with(|c: char| c.is_ascii_lowercase());
            if !parts
                .host
                .as_deref()
                .is_some_and(|host| is_name(host) && !host.starts_with("xn--"))
                || !parts.database.as_deref().is_none_or(is_plain)
            {
                return;
            }
            let DbUrl::Postgres(same) = again() else {
                unreachable!("the backends are equal")
            };
            assert_eq!(
                (&same.host, same.port, &same.database),
                (&parts.host, parts.port, &parts.database)
            );
            assert!(same.user.is_none() && same.password.is_none() && same.parameters.is_empty());
        }
        DbUrl::Sqlite(SqliteUrl { path: Some(path), .. }) => {
            if path
                .to_str()
                .is_some_and(|path| path.split('/').all(is_plain) && !path.starts_with("//"))
            {
                let DbUrl::Sqlite(same) = again() else {
                    unreachable!("the backends are equal")
                };
                assert_eq!(same.path.as_deref(), Some(Path::new(path)));
            }
        }
        _ => assert_eq!(again().to_string(), url.to_string()),
    }
}
