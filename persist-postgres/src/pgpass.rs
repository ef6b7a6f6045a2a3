//! The password file: `host:port:database:user:password` lines, `*` for any, `\` before `:` and `\`.
//!
//! The driver's own reader looks before the URL's host and user are known, and logs malformed lines, which
//! may be passwords.

use std::path::PathBuf;

/// The password of the first line that fits, from `PGPASSFILE` or `~/.pgpass`.
pub(crate) fn password(host: &str, port: u16, user: &str, database: &str) -> Option<String> {
    let path = match std::env::var_os("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()?.join(".pgpass"),
    };
    let metadata = std::fs::metadata(&path).ok()?;
    if !metadata.is_file() || readable_by_others(&metadata) {
        tracing::warn!(path = %path.display(), "ignoring the password file: it must be a file with mode 0600");
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    // libpq: a socket folder is looked up as localhost.
    let host = if host.starts_with('/') { "localhost" } else { host };
    find(&text, [host, &port.to_string(), database, user])
}

#[cfg(unix)]
fn readable_by_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn readable_by_others(_: &std::fs::Metadata) -> bool {
    false
}

fn find(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut rest = line;
            for wanted in wanted {
                let (field, tail) = field(rest);
                let tail = tail?;
                let any = rest.starts_with("*:");
                if !any && field != wanted {
                    return None;
                }
                rest = tail;
            }
            let (password, _) = field(rest);
            Some(password)
        })
}

/// The unescaped text before the next bare colon, and what follows that colon.
fn field(text: &str) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            ':' => return (value, Some(&text[at + 1..])),
            other => value.push(other),
        }
    }
    (value, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let text = "# c\nbroken\nother:5432:ci:me:no\r\n\ndb:5432:*:me:p\\:a\\\\ss \r\n*:*:*:*:rest\n";
        assert_eq!(
            find(text, ["db", "5432", "ci", "me"]).as_deref(),
            Some("p:a\\ss ")
        );
        assert_eq!(find(text, ["db", "5433", "ci", "me"]).as_deref(), Some("rest"));
        assert_eq!(find("\\*:1:d:u:p", ["db", "1", "d", "u"]), None);
        assert_eq!(
            find("a\\:b:1:d:u:p", ["a:b", "1", "d", "u"]).as_deref(),
            Some("p")
        );
    }
}
