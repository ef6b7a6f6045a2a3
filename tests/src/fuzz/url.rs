//! Database URLs.

use std::path::Path;

use persist_core::{DbUrl, ErrorKind, SqliteUrl};
use secrecy::ExposeSecret;

use super::{told, words};

/// Between these stand the parts of a URL.
const MARKS: &str = ":/?#@&=;,.[]%+\\";

/// A shorter word may stand anywhere by accident.
const SHORTEST_SECRET: usize = 4;

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

fn shows_no_secret(url: &DbUrl) {
    let DbUrl::Postgres(parts) = url else { return };
    let shown = format!("{url} {url:?} {parts} {parts:?}");
    let place = format!("postgres://{:?}{:?}", parts.host, parts.database);
    let password = parts.password.as_ref().map(ExposeSecret::expose_secret);
    let hidden = password
        .into_iter()
        .chain(parts.user.as_deref())
        .chain(parts.schema.as_deref())
        .chain(parts.parameters.iter().map(|(_, value)| value.as_str()));
    for value in hidden.filter(|value| value.len() >= SHORTEST_SECRET) {
        // `Debug` of the parts escapes as that of the place does.
        let is_of_place = place.contains(value)
            || [&parts.host, &parts.database]
                .iter()
                .any(|part| part.as_deref().is_some_and(|part| part.contains(value)));
        let is_port = "PostgresUrl(postgres://DbUrl".contains(value)
            || parts.port.is_some_and(|port| format!(":{port}/").contains(value));
        assert!(
            is_of_place || is_port || !shown.contains(value),
            "{value:?} is shown in {shown}"
        );
    }
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
