//! How values are shown to people, and typed by them: the same on a command line and on a page.

pub mod span;
pub mod visible;

use std::error::Error as _;

use persist_core::Error;

/// An error and its causes, without those that an outer text has already said.
pub fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use persist_core::ErrorKind;

    use super::*;

    #[test]
    fn each_cause_is_said_once() {
        let inner = Error::new(ErrorKind::Unavailable, "refused");
        let middle = Error::new(ErrorKind::Unavailable, "no connection: refused").caused_by(inner);
        let outer = Error::new(ErrorKind::Unavailable, "the database is away")
            .during("jobs")
            .caused_by(middle);
        assert_eq!(
            with_causes(&outer),
            "jobs: the database is away: no connection: refused"
        );
    }
}
