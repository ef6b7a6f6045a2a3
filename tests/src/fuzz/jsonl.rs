//! Lines of the exchange format.

use persist_core::jsonl::{LINE_BYTES, Lines, line};
use persist_core::{Claim, Error, ErrorKind, Event, FixedClock, Seq, Slot};

use crate::sample;

/// A file of any bytes is read to its end, each line an update or `InvalidInput` by a text that moves no terminal; and
/// what is accepted is written as a line that means the same and is written so again.
///
/// # Panics
/// If not.
pub fn check(bytes: &[u8]) {
    let (mut last, mut lines) = (0, 0);
    for numbered in Lines::new(bytes) {
        let numbered = numbered.expect("reading from memory does not fail");
        assert!(numbered.number > last, "{} after {last}", numbered.number);
        (last, lines) = (numbered.number, lines + 1);
        let claim = numbered
            .update
            .and_then(|update| update.check(&FixedClock(sample::at(0))));
        match claim {
            Ok(claim) => reads_equal(&claim),
            Err(error) => is_refusal(&error),
        }
    }
    let fed = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!(last <= fed + 1, "line {last} of {}", fed + 1);
    if last == 0 {
        let text = std::str::from_utf8(bytes).expect("only blank lines are skipped");
        assert!(text.trim_start_matches('\u{feff}').trim().is_empty(), "{text:?}");
    }
}

fn is_refusal(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let text = error.to_string();
    assert!(!text.contains(char::is_control) && text.len() < 1_000, "{text:?}");
}

fn reads_equal(claim: &Claim) {
    let written = write(claim);
    assert!(
        written.len() <= LINE_BYTES && !written.contains('\n'),
        "{written}"
    );
    let mut lines = Lines::new(written.as_bytes());
    let read = lines
        .next()
        .expect("one line")
        .expect("reading from memory does not fail");
    // Of a time of its own: the line must say the time.
    let again = read
        .update
        .and_then(|update| update.check(&FixedClock(sample::at(9_999))));
    match again {
        Ok(again) => {
            assert_eq!(&again, claim, "{written}");
            assert_eq!(write(&again), written);
        }
        Err(error) => panic!("{written}: {error}"),
    }
    assert!(lines.next().is_none(), "{written}");
}

fn write(claim: &Claim) -> String {
    let (subject, slot) = (claim.subject().clone(), Slot::claimed_by(claim));
    line(&Event::new(Seq::new(0), claim.at(), subject, slot))
}
