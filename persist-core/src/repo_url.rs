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

/// A bound for texts made to be slow: each pass takes at least one user out.
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
/// [`CREDENTIAL_PARAMETERS`] go from query and fragment. What looks like a user with a password in the path of a URL goes
/// too, as proxies have it: `https://proxy/user:pass@host`. Everything else stays to the letter.
///
/// Characters of a password that a URL must escape (`/ ? # @`) are taken for it, so that some URLs of no user lose a part: what
/// stands from a colon in a path to the next `@` (`https://host/app:1@v2`, `file:///a:b/c@d`), the host with an empty port or
/// a word in its place before an `@` (`https://host:/app@v2`, `ssh://host:org/app@v2`), and all before the last `@` where more
/// than eight URLs stand in each other. Stored all the same are the rest of a password behind `@` and a slash or a mark of a
/// query (`https://u:p@ss/word@host`, `https://u:p@ss?word@host`), behind digits, which are a port (`https://u:42/word@host`),
/// and one whose own colon is escaped and that has a slash or a mark; one that begins with two slashes in a path
/// (`https://proxy/u://ss@host`), for it looks like another URL; a parameter behind a second mark of a query or a fragment
/// (`?a=1?token=t`, `#/path?token=t`); one with a slash and a mark of a query in another scheme than
/// HTTP, with a mark of a query in a path, or with a slash where there is no scheme or, in a path, where the user has an `@` too
/// and the scheme is another than HTTP; a token in a path that begins as no known one does and follows no `https:/`; what
/// stands in a path before something that looks like the beginning of another URL (`https://proxy/u:pa/https:/ss@host`); and a
/// URL in a query or escaped within another.
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
/// slash too. Over HTTP what follows a colon and is no port is a password, with its `@` as far away as the next mark or the
/// one after it; elsewhere it may be a path, as in `git@host:acme/app?x=a@b`.
fn strip_cut_user_info(url: &str) -> Option<String> {
    let start = authority_start(url);
    let end = start + url[start..].find(['/', '?', '#'])?;
    let (authority, rest) = (&url[start..end], &url[end..]);
    // A slash alone is for those who look at the path.
    if !rest.contains(['?', '#']) || !has_password(authority) {
        return None;
    }
    let reach = rest.find('/').filter(|_| !is_http(&url[..start]));
    let rest = &rest[..reach.unwrap_or(rest.len())];
    // What comes behind the host, `?ref=pkg@1.2`, is none of the user's.
    let at = rest.find('@')?;
    let end = rest[at..].find(['?', '#']).map_or(rest.len(), |mark| at + mark);
    let host = start + authority.len() + rest[..end].rfind('@')? + 1;
    Some(format!("{}{}", &url[..start], &url[host..]))
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
    let start = authority_start(base);
    let end = base[start..].find('/').map_or(base.len(), |at| start + at);
    let (scheme, authority) = (&base[..start], &base[start..end]);
    let user_end = authority.rfind('@');
    if let Some(at) = user_end
        && is_secret(scheme, &authority[..at])
    {
        return Some(format!("{scheme}{}", &base[start + at + 1..]));
    }
    // A password may hold an unescaped slash; then the `@` stands behind it: `https://user:pa/ss@host/path`, and
    // `https://alice@example.org:pa/ss@host/path`.
    // Elsewhere `ssh://git@host:path/a@v1` would look the same.
    let may_hold_slash = is_http(scheme) || user_end.is_none() && scheme.contains("://");
    match base[end..].rfind('@') {
        Some(at) if may_hold_slash && has_password(authority) => {
            Some(format!("{scheme}{}", &base[end + at + 1..]))
        }
        _ => strip_path_user_info(base, end),
    }
}

/// Users in the path of a URL: `https://proxy:8443/user:pass@host`, slashes merged as in
/// `https://proxy/https:/user:pass@host`, or with a token. A file's path stays, but for
/// its first segment.
fn strip_path_user_info(base: &str, path: usize) -> Option<String> {
    // `host:/srv` is no URL's beginning.
    let may_begin = |(at, segment): (usize, &str)| is_http(segment) || at > 0 && segment.ends_with(':');
    let is_url = base.contains("://") || base.split('/').enumerate().any(may_begin);
    if !is_url || is_scheme(&base[..authority_start(base)], &["file"]) {
        return None;
    }
    let mut is_http_now = is_http(&base[..authority_start(base)]);
    let mut kept: Vec<&str> = Vec::new();
    // Where a user began whose password goes on behind a slash.
    let mut begun = None;
    let mut segments = base[path..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment.rsplit_once('@') {
            Some((user_info, host)) => {
                let is_user =
                    begun.is_some() || is_secret(kept.last().copied().unwrap_or_default(), user_info);
                kept.truncate(begun.take().unwrap_or(kept.len()));
                // `alice@example.org:pa/ss@host`; elsewhere it may be `git@host:path`.
                if !is_user && is_http_now && has_password(segment) {
                    begun = Some(kept.len());
                }
                kept.push(if is_user { host } else { segment });
                continue;
            }
            None if begins_url(segment, segments.peek()) => {
                begun = None;
                is_http_now = is_http(segment);
            }
            None if has_password(segment) => begun = begun.or(Some(kept.len())),
            None => {}
        }
        kept.push(segment);
    }
    let clean = kept.join("/");
    (clean != base[path..]).then(|| format!("{}{clean}", &base[..path]))
}

/// Whether another URL begins with a segment of a path, `https:` for instance, and not a user's password.
fn begins_url(segment: &str, next: Option<&&str>) -> bool {
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c);
    let Some(name) = segment.strip_suffix(':') else {
        return false;
    };
    let is_scheme_like = !name.is_empty() && name.split("::").all(|word| word.chars().all(of_scheme));
    is_scheme_like && (is_scheme(segment, &["http", "https", "ssh"]) || next == Some(&""))
}

/// Git takes `scheme://[user@]host/path`, `[user@]host:path` and plain paths. Without a scheme it is the beginning, and
/// behind stray slashes (`https:/u:p@h`) the first segment.
fn authority_start(text: &str) -> usize {
    let start = match scheme_end(text, "://") {
        Some(at) => at + 3,
        None => scheme_end(text, ":/").map_or(0, |at| at + 1),
    };
    text.len() - text[start..].trim_start_matches('/').len()
}

/// Where the scheme ends, `ext::https` too. In `git:pw@h:a://b` the mark is a part of the path.
fn scheme_end(text: &str, mark: &str) -> Option<usize> {
    text.find(mark).filter(|at| !text[..*at].contains(['/', '@']))
}

/// Whether a colon begins something that is no port, behind an `@` of the user's own name if there is one, as in
/// `alice@example.org:pa`. The colons of `[::1]:8443` begin no password.
fn has_password(authority: &str) -> bool {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_port = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    !(host.starts_with('[') && host.contains(']'))
        && host.split_once(':').is_some_and(|(_, word)| !is_port(word))
}

/// `https://`, `ext::https://`, `git+https://`, `https:/`, `https:`.
fn is_http(scheme: &str) -> bool {
    is_scheme(scheme, &["http", "https"])
}

fn is_scheme(scheme: &str, names: &[&str]) -> bool {
    let Some(name) = scheme.trim_end_matches('/').strip_suffix(':') else {
        return false;
    };
    let name = name.rsplit(['+', ':']).next().unwrap_or_default();
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a password is in it or the user is a token.
fn is_secret(scheme: &str, user_info: &str) -> bool {
    let user = percent_decode_str(user_info).decode_utf8_lossy();
    let known = TOKEN_PREFIXES.iter().any(|prefix| user.starts_with(prefix));
    known || user.contains(':') || (is_http(scheme) && user.len() >= TOKEN_LENGTH)
}

#[cfg(test)]
mod tests;
