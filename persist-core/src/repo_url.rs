//! Credentials in repository URLs, and how they are taken out before anything stores or prints one.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::Result;
use crate::limits;

/// Query and fragment parameters that carry credentials, lower case.
pub const CREDENTIAL_PARAMETERS: [&str; 26] = [
    "access_key",
    "access_token",
    "api_key",
    "api_token",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "client_secret",
    "credential",
    "credentials",
    "deploy_token",
    "id_token",
    "job_token",
    "jwt",
    "oauth_token",
    "pass",
    "passwd",
    "password",
    "private_token",
    "pwd",
    "refresh_token",
    "secret",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
];

/// Beginnings of access tokens that forges hand out, which people put where the user name goes.
const TOKEN_PREFIXES: [&str; 12] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glcbt-",
    "gitea_",
    "ATCTT",
    "bbp_",
];

/// A user name in an `http` URL from this length on is taken for a token.
const TOKEN_LENGTH: usize = 20;

/// A bound for texts made to be slow: each pass takes one user out.
const MOST_PASSES: usize = 8;

/// A `repo_url` fit to be stored: without credentials, within its limit, empty as absent.
///
/// # Errors
/// `InvalidInput` for NUL and for more than 2,048 bytes, never showing the value.
pub fn normalize(value: Option<String>) -> Result<Option<String>> {
    let stripped = value.map(|value| strip_credentials(&value));
    limits::text("repo_url", stripped, limits::REPO_URL_BYTES)
}

/// The URL without credentials: a password takes its user name along, a token that stands as user name
/// goes, a bare user stays (`ssh://git@host/…`, `git@host:path`), and the parameters of
/// [`CREDENTIAL_PARAMETERS`] go from query and fragment. Everything else stays to the letter.
///
/// ```
/// use persist_core::repo_url::strip_credentials;
/// assert_eq!(strip_credentials("https://ci:hunter2@example.org/a.git?token=x&ref=y"), "https://example.org/a.git?ref=y");
/// assert_eq!(strip_credentials("git@example.org:acme/app.git"), "git@example.org:acme/app.git");
/// ```
pub fn strip_credentials(url: &str) -> String {
    let mut before = Cow::Borrowed(url);
    // What is left may look as if it had credentials: `https://u:p@/x:y@h` without the first. It is stored only when
    // it can come again, from an export, and stay as it is.
    for _ in 0..MOST_PASSES {
        let after = strip_once(&before);
        if after == before {
            return after;
        }
        before = Cow::Owned(after);
    }
    // No URL has so many; without an `@` there is no user.
    strip_once(before.rsplit('@').next().unwrap_or_default())
}

fn strip_once(url: &str) -> String {
    let url = in_each_url(url, strip_cut_user_info);
    let (rest, fragment) = cut(&url, '#');
    let (base, query) = cut(rest, '?');
    let mut clean = in_each_url(base, strip_user_info).into_owned();
    for (mark, part) in [('?', query), ('#', fragment)] {
        let Some(part) = part else { continue };
        let kept: Vec<_> = part
            .split('&')
            .filter(|pair| !pair.split(';').any(is_credential))
            .collect();
        if !kept.is_empty() {
            clean.push(mark);
            clean.push_str(&kept.join("&"));
        }
    }
    clean
}

/// Strips the whole, and then each URL that stands in its path or behind a stray word, as `proxy.example/https://u:p@h` and
/// `git@https://u:p@h` have it. The whole first: its password may hold what looks like a URL.
fn in_each_url<'a>(url: &'a str, strip: fn(&str) -> Option<String>) -> Cow<'a, str> {
    // Nearly all are stored without a user: nothing is copied then.
    if !url.contains('@') {
        return Cow::Borrowed(url);
    }
    let mut text = strip(url).map_or(Cow::Borrowed(url), Cow::Owned);
    // What stands in a query is a parameter's value; and without an `@` behind it a mark begins no user.
    let path = text.find(['?', '#']).unwrap_or(text.len());
    let Some(mut end) = text.rfind('@').map(|at| at.min(path)) else {
        return text;
    };
    for pass in 0..=MOST_PASSES {
        let Some(mark) = text[..end].rfind("://") else {
            return text;
        };
        let of_scheme = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c);
        let scheme = text[..mark].trim_end_matches(of_scheme).len();
        if scheme == 0 {
            return text;
        }
        if pass == MOST_PASSES {
            break;
        }
        if let Some(stripped) = strip(&text[scheme..]) {
            text = Cow::Owned(format!("{}{stripped}", &text[..scheme]));
        }
        end = scheme;
    }
    // No URL holds so many others; without an `@` there is no user.
    Cow::Owned(text.rsplit('@').next().unwrap_or_default().to_owned())
}

/// `https://user:pa?ss@host/path`: a password with an unescaped `?` or `#`, which would end the authority, and perhaps a
/// slash too. Over HTTP what follows a colon and is no port is a password, however far away its `@` stands; elsewhere it may
/// be a path, as in `git@host:acme/app?x=a@b`.
fn strip_cut_user_info(url: &str) -> Option<String> {
    let start = scheme_end(url, "://").map_or(0, |at| at + 3);
    let end = start + url[start..].find(['/', '?', '#'])?;
    let (authority, rest) = (&url[start..end], &url[end..]);
    // Behind an `@` of the user's own name, as `alice@example.org:pa?ss@host` has it.
    let name_and_word = &authority[authority.rfind('@').map_or(0, |at| at + 1)..];
    let (_, word) = name_and_word
        .split_once(':')
        .filter(|_| !is_ipv6(name_and_word))?;
    // A slash alone is for those who look at the path.
    if is_port(word) || !rest.contains(['?', '#']) {
        return None;
    }
    let is_http = url[..start].to_ascii_lowercase().starts_with("http");
    let reach = rest.find('/').filter(|_| !is_http).unwrap_or(rest.len());
    let at = rest[..reach].rfind('@')?;
    Some(format!("{}{}", &url[..start], &rest[at + 1..]))
}

fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark)
        .map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_credential(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    CREDENTIAL_PARAMETERS.contains(&name.as_str())
}

fn strip_user_info(base: &str) -> Option<String> {
    // Git takes `scheme://[user@]host/path`, `[user@]host:path` and plain paths. Where there is no scheme the
    // part before the first slash is looked at, and after stray slashes (`https:/u:p@h`) the first segment.
    let start = match scheme_end(base, "://") {
        Some(at) => at + 3,
        None => scheme_end(base, ":/").map_or(0, |at| at + 1),
    };
    let start = start + leading_slashes(&base[start..]);
    let end = base[start..].find('/').map_or(base.len(), |at| start + at);
    // A password may hold an unescaped slash; then the `@` stands behind it.
    let authority = &base[start..end];
    let Some(at) = authority.rfind('@') else {
        return strip_late_user_info(base, start);
    };
    let scheme = base[..start].to_ascii_lowercase();
    if is_secret(&scheme, &authority[..at]) {
        Some(format!("{}{}", &base[..start], &base[start + at + 1..]))
    } else if scheme.starts_with("http") {
        // `https://alice@example.org:pa/ss@host/path`. Elsewhere `git@host:path/a@v1` would look the same.
        strip_late_user_info(base, start)
    } else {
        None
    }
}

/// `https://user:pa/ss@host/path`: no `@` before the first slash, but a colon that begins no port. Behind a plain host a
/// user can stand in the path, as in `https://proxy:8443/user:pass@host` and, slashes merged, `https://proxy/https:/user:pass@host`.
fn strip_late_user_info(base: &str, start: usize) -> Option<String> {
    let rest = &base[start..];
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let host = authority.rsplit('@').next().unwrap_or_default();
    let word = host.split_once(':').filter(|_| !is_ipv6(host));
    if !word.is_some_and(|(_, word)| !is_port(word)) {
        return strip_path_user_info(base, start + authority.len());
    }
    let at = rest.rfind('@').filter(|at| *at > authority.len());
    let at = at.filter(|_| base[..start].contains("://"))?;
    Some(format!("{}{}", &base[..start], &rest[at + 1..]))
}

/// A segment `user:pass@host` of a path becomes `host`, and so does one with a token as its user. A file's path stays.
fn strip_path_user_info(base: &str, path: usize) -> Option<String> {
    let kept = |segment: &str| match segment.rfind('@') {
        Some(at) if is_secret("", &segment[..at]) => at + 1,
        _ => 0,
    };
    let segments = base[path..].split('/').map(|segment| &segment[kept(segment)..]);
    let clean = segments.collect::<Vec<_>>().join("/");
    (base.contains(":/") && clean != base[path..]).then(|| format!("{}{clean}", &base[..path]))
}

/// Where the scheme ends, `ext::https` too. In `git:pw@h:a://b` the mark is a part of the path.
fn scheme_end(text: &str, mark: &str) -> Option<usize> {
    text.find(mark).filter(|at| !text[..*at].contains(['/', '@']))
}

/// `[::1]:8443`, whose colons begin no password.
fn is_ipv6(host: &str) -> bool {
    host.starts_with('[')
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn leading_slashes(text: &str) -> usize {
    text.len() - text.trim_start_matches('/').len()
}

/// Whether a password is in it or the user is a token.
fn is_secret(scheme: &str, user_info: &str) -> bool {
    let user = percent_decode_str(user_info).decode_utf8_lossy();
    let known = TOKEN_PREFIXES.iter().any(|prefix| user.starts_with(prefix));
    known || user.contains(':') || (scheme.starts_with("http") && user.len() >= TOKEN_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_credentials_go_and_everything_else_stays() {
        let table = [
            ("https://example.org/a.git", "https://example.org/a.git"),
            ("https://u:p@example.org/a.git", "https://example.org/a.git"),
            ("https://u:p@ss@example.org/a.git", "https://example.org/a.git"),
            ("https://u:pa/ss@example.org/a.git", "https://example.org/a.git"),
            ("https://u:pa?ss@example.org/a.git", "https://example.org/a.git"),
            ("https://u:pa#s@s@example.org/a?x=1", "https://example.org/a?x=1"),
            ("https://u:pa?s/s@example.org/a", "https://example.org/a"),
            ("https://u:p/a?s@example.org/a", "https://example.org/a"),
            ("git@h:acme/app?x=a@b", "git@h:acme/app?x=a@b"),
            ("ssh://git@h:acme/app?x=a@b", "ssh://git@h:acme/app?x=a@b"),
            ("https://u@corp.org:pa?ss@h/a.git", "https://h/a.git"),
            ("https://u@corp.org:pa/ss@h/a.git", "https://h/a.git"),
            ("https://u@h:8443/a@v1", "https://u@h:8443/a@v1"),
            ("https://u@h:8443?x=a@b", "https://u@h:8443?x=a@b"),
            ("ssh://git@h:acme/a@v1", "ssh://git@h:acme/a@v1"),
            ("https://u@[::1]:8443/a@v1", "https://u@[::1]:8443/a@v1"),
            ("https://[::1]/a@v1?x=a@b", "https://[::1]/a@v1?x=a@b"),
            ("https://u@[::1]:8443?x=a@b", "https://u@[::1]:8443?x=a@b"),
            ("git:pa?ss@h:acme/a.git", "h:acme/a.git"),
            ("https://h:8080?mail=a@b", "https://h:8080?mail=a@b"),
            ("https://h/a?x=1;token=t&ref=y", "https://h/a?ref=y"),
            ("https://u%3Ap@example.org/a.git", "https://example.org/a.git"),
            ("https://:p@example.org/a.git", "https://example.org/a.git"),
            (
                "https://0123456789abcdef0123:x-oauth-basic@example.org/a",
                "https://example.org/a",
            ),
            ("https://ghp_abc@example.org/a", "https://example.org/a"),
            (
                "https://0123456789abcdef0123@example.org/a",
                "https://example.org/a",
            ),
            ("https://alice@example.org/a", "https://alice@example.org/a"),
            ("ssh://git@example.org/a", "ssh://git@example.org/a"),
            ("ssh://git:pw@example.org:22/a", "ssh://example.org:22/a"),
            ("git@example.org:acme/app.git", "git@example.org:acme/app.git"),
            ("git:pw@example.org:acme/app.git", "example.org:acme/app.git"),
            ("https:/u:p@example.org/a", "https:/example.org/a"),
            ("https:///u:p@example.org/a", "https:///example.org/a"),
            ("/srv/git/a@b:c.git", "/srv/git/a@b:c.git"),
            ("https://h/a@b:c.git", "https://h/a@b:c.git"),
            ("/srv/git/a:b@c.git", "/srv/git/a:b@c.git"),
            ("https://proxy:8443/u:p@h/a", "https://proxy:8443/h/a"),
            ("https://proxy/https:/u:p@h/a", "https://proxy/https:/h/a"),
            (
                "https://alice@proxy/https:/u%3Ap@h/a",
                "https://alice@proxy/https:/h/a",
            ),
            ("proxy/https:/u:p@h/a", "proxy/https:/h/a"),
            ("https://proxy/ghp_0123456789@h/a", "https://proxy/h/a"),
            (
                "https://proxy/cache:v2/https://u:p@h/a",
                "https://proxy/cache:v2/https://h/a",
            ),
            (
                "https://proxy/cache:v2/https://u:p/s@h/a",
                "https://proxy/cache:v2/https://h/a",
            ),
            ("https://h/app:tag@v1", "https://h/v1"),
            (
                "https://h/a-branch-with-a-long-name@v1",
                "https://h/a-branch-with-a-long-name@v1",
            ),
            ("https://example.org:8443/a@v1", "https://example.org:8443/a@v1"),
            ("https://h/a?token=t", "https://h/a"),
            ("https://h/a?TOKEN=t&ref=x", "https://h/a?ref=x"),
            ("https://h/a?ref=x&private%5Ftoken=t#L1", "https://h/a?ref=x#L1"),
            ("https://h/a#access_token=t&x=1", "https://h/a#x=1"),
            ("https://h/a?tokens=2", "https://h/a?tokens=2"),
            ("https://u:p@/x:y@h/a", "https:///h/a"),
            ("git:pw@h:acme/a://b", "h:acme/a://b"),
            ("git@https://u:p@h/a", "git@https://h/a"),
            ("proxy.example/https://u:p@h/a", "proxy.example/https://h/a"),
            (
                "https://proxy.example/https://u:p@h/a",
                "https://proxy.example/https://h/a",
            ),
            ("//https://u:p@h/a", "//https://h/a"),
            ("proxy/https://ghp_0123456789@h/a", "proxy/https://h/a"),
            ("proxy/https://u:pa?ss@h/a", "proxy/https://h/a"),
            ("https://u:a://b@h/a", "https://h/a"),
            ("https://u:pw://x:y@h/a", "https://h/a"),
            ("https://u:secret://ghp_0123456789@h/a", "https://h/a"),
            (
                "https://h/a?ref=http://b:c?y&token=ab@cd",
                "https://h/a?ref=http://b:c?y",
            ),
            (
                "p/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b/?mail=x@y",
                "p/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b/?mail=x@y",
            ),
            (
                "https://h/a?next=http://b:c?mail=x@y",
                "https://h/a?next=http://b:c?mail=x@y",
            ),
            (
                "proxy/https://u:p@h/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b",
                "proxy/https://h/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b",
            ),
            ("https://proxy/https://git@h/a", "https://proxy/https://git@h/a"),
            ("https:u:p@h/a:/b", "h/a:/b"),
            ("ext::https://u:p@h/a", "ext::https://h/a"),
            (
                "https://u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@h/a",
                "h/a",
            ),
            ("", ""),
        ];
        for (given, stored) in table {
            assert_eq!(strip_credentials(given), stored, "{given}");
            assert_eq!(
                strip_credentials(stored),
                stored,
                "a second pass changes {stored}"
            );
        }
    }
    #[test]
    fn what_is_stored_is_what_is_left_within_the_limit() {
        let stored = |text: &str| normalize(Some(text.to_owned())).unwrap();
        assert_eq!(stored("https://u:p@h/a"), Some("https://h/a".into()));
        assert_eq!((stored(""), stored("?token=t")), (None, None));
        assert_eq!(normalize(None).unwrap(), None);
        assert!(normalize(Some("a\0".into())).is_err());
        let longest = "a".repeat(limits::REPO_URL_BYTES);
        assert_eq!(stored(&format!("{longest}?token=t")), Some(longest.clone()));
        assert!(normalize(Some(longest + "a")).is_err());
    }
}
