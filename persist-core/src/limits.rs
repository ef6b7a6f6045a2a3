//! The limits and the normalisation of every text, equal on every backend because no backend has its own.

use crate::error::{Error, Result};

/// Most bytes of a `domain_name`.
pub const DOMAIN_NAME_BYTES: usize = 255;
/// Most bytes of a `repo_url`, after credentials are stripped.
pub const REPO_URL_BYTES: usize = 2_048;
/// Most hex digits of a `commit_sha`: a SHA-256.
pub const COMMIT_SHA_DIGITS: usize = 64;
/// Fewest hex digits of a `commit_sha`: git's shortest abbreviation.
pub const COMMIT_SHA_MIN_DIGITS: usize = 4;
/// Most bytes of a `runs_on`.
pub const RUNS_ON_BYTES: usize = 256;
/// Most bytes of a `backend`.
pub const BACKEND_BYTES: usize = 64;
/// Most bytes of an `overlay_path` or a `seed_path`: Linux's `PATH_MAX`.
pub const PATH_BYTES: usize = 4_096;
/// Most bytes of an `actor`.
pub const ACTOR_BYTES: usize = 128;
/// Most bytes of a `reason`; a longer one is cut.
pub const REASON_BYTES: usize = 1_024;
/// Rows of a page where a query names no limit.
pub const PAGE: u32 = 50;
/// Most rows of a page.
pub const LARGEST_PAGE: u32 = 1_000;

/// Empty text means absent; NUL and too many bytes are refused.
///
/// # Errors
/// `InvalidInput` naming the field and its limit, never the value.
pub fn text(field: &'static str, value: Option<String>, most_bytes: usize) -> Result<Option<String>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    refuse_nul(field, &value)?;
    if value.len() > most_bytes {
        let what = format!("must be at most {most_bytes} bytes, is {}", value.len());
        return Err(Error::invalid(field, what).with("limit", most_bytes));
    }
    Ok(Some(value))
}

/// A `reason`: as [`text`], but a long one is cut at a character boundary and ends in `…`.
///
/// # Errors
/// `InvalidInput` for NUL.
pub fn reason(value: Option<String>) -> Result<Option<String>> {
    const ELLIPSIS: &str = "…";
    let Some(mut value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    refuse_nul("reason", &value)?;
    if value.len() > REASON_BYTES {
        value.truncate(value.floor_char_boundary(REASON_BYTES - ELLIPSIS.len()));
        value.push_str(ELLIPSIS);
    }
    Ok(Some(value))
}

/// A `commit_sha`: 4–64 hex digits, lower case.
///
/// # Errors
/// `InvalidInput` for another length or another character.
pub fn commit_sha(value: Option<String>) -> Result<Option<String>> {
    hex(value, COMMIT_SHA_MIN_DIGITS)
}

/// A prefix of a `commit_sha`, as a filter takes it: 1–64 hex digits, lower case.
///
/// # Errors
/// `InvalidInput` for another length or another character.
pub fn commit_sha_prefix(value: Option<String>) -> Result<Option<String>> {
    hex(value, 1)
}

fn hex(value: Option<String>, fewest: usize) -> Result<Option<String>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let digits = value.len();
    if !(fewest..=COMMIT_SHA_DIGITS).contains(&digits) || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::invalid(
            "commit_sha",
            format_args!("must be {fewest} to {COMMIT_SHA_DIGITS} hex digits"),
        )
        .with("limit", COMMIT_SHA_DIGITS));
    }
    Ok(Some(value.to_ascii_lowercase()))
}

/// A `domain_name`: 1–255 bytes.
///
/// # Errors
/// `InvalidInput` when it is empty, too long, or holds NUL.
pub fn domain_name(value: String) -> Result<String> {
    text("domain_name", Some(value), DOMAIN_NAME_BYTES)?
        .ok_or_else(|| Error::invalid("domain_name", "must not be empty"))
}

/// The number of rows of a page: 1 to 1,000.
///
/// # Errors
/// `InvalidInput` outside.
pub fn page(limit: u32) -> Result<u32> {
    if (1..=LARGEST_PAGE).contains(&limit) {
        Ok(limit)
    } else {
        Err(Error::invalid(
            "limit",
            format_args!("must be 1 to {LARGEST_PAGE} rows, is {limit}"),
        ))
    }
}

fn refuse_nul(field: &'static str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::invalid(field, "must not contain a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_a_reason_is_cut_at_a_character() {
        for filler in ["x", "ü", "語", "🦀"] {
            let cut = reason(Some(filler.repeat(1_025))).unwrap().unwrap();
            assert!(
                cut.len() <= REASON_BYTES && cut.len() > REASON_BYTES - 8,
                "{}",
                cut.len()
            );
            assert!(cut.ends_with('…') && cut.starts_with(filler));
        }
        let exact = "x".repeat(REASON_BYTES);
        assert_eq!(reason(Some(exact.clone())).unwrap(), Some(exact));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        assert_eq!(
            text("actor", Some("a".repeat(128)), 128).unwrap().unwrap().len(),
            128
        );
        let error = text("actor", Some("a".repeat(129)), 128).unwrap_err();
        assert_eq!(error.to_string(), "actor: must be at most 128 bytes, is 129");
        assert_eq!(commit_sha(Some("ABCD".into())).unwrap().as_deref(), Some("abcd"));
        for wrong in ["abc".to_owned(), "f".repeat(65), "abcg".into(), "é123".into()] {
            assert!(commit_sha(Some(wrong)).is_err());
        }
        assert_eq!(text("actor", Some(String::new()), 128).unwrap(), None);
    }
}
