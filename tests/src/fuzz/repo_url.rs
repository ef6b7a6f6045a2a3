//! Credentials in repository URLs.

use persist_core::repo_url::{CREDENTIAL_PARAMETERS, normalize, strip_credentials};
use persist_core::{ErrorKind, limits};

use super::told;

/// What is stored has no password and no credential parameter, nothing in it was not in what was given, and it is
/// stored as it is when it comes again, as by an export and an import.
///
/// # Panics
/// If not.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let stripped = strip_credentials(text);
    assert_eq!(
        strip_credentials(&stripped),
        stripped,
        "a second pass, of {text:?}"
    );
    assert!(
        is_left_of(&stripped, text),
        "{stripped:?} is not what is left of {text:?}"
    );
    has_no_credentials(&stripped, text);
    match normalize(Some(text.to_owned())) {
        Ok(stored) => assert_eq!(stored.unwrap_or_default(), stripped),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(stripped.contains('\0') || stripped.len() > limits::REPO_URL_BYTES);
            // Told by name alone, whatever it was.
            assert!(
                told(&error).contains("repo_url") && told(&error).len() < 400,
                "{error:?}"
            );
        }
    }
}

/// As a client of the forge would read it.
fn has_no_credentials(stripped: &str, text: &str) {
    let Ok(url) = url::Url::parse(stripped) else {
        return;
    };
    // A backslash, a tab or a line feed means something in the URLs of a browser alone, and Git refuses it.
    let is_odd = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
    if stripped.contains(is_odd) {
        return;
    }
    if url.scheme().starts_with("http") {
        assert!(url.password().is_none(), "{text:?} is stored as {stripped:?}");
    }
    for part in [url.query(), url.fragment()].into_iter().flatten() {
        for (name, _) in url::form_urlencoded::parse(part.as_bytes()) {
            let name = name.to_ascii_lowercase();
            assert!(
                !CREDENTIAL_PARAMETERS.contains(&name.as_str()),
                "{text:?} is stored as {stripped:?}"
            );
        }
    }
}

/// Whether the characters of `part` stand in `whole` in this order.
fn is_left_of(part: &str, whole: &str) -> bool {
    let mut rest = whole.chars();
    part.chars().all(|c| rest.any(|other| other == c))
}
