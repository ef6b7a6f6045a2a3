//! Cursors.

use persist_core::{
    Cursor, Error, ErrorKind, EventOrder, EventPosition, EventQuery, JobQuery, Order, Position, VmQuery,
};
use uuid::Uuid;

use crate::sample;

const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::ById];

/// A text is a position or `InvalidInput`; a position is the same after packing and unpacking; and
/// every query either begins at it or refuses it as `InvalidInput`.
///
/// The bytes are taken as a cursor, and as the position inside of a whole one: no search finds its sum.
///
/// # Panics
/// If not.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let given = Cursor::from_text(text);
    let found = given.decode();
    match &found {
        // What was damaged is not taken. Another text of the same position would need a sum of its own.
        Ok(position) => assert_eq!(Cursor::encode(position), given),
        Err(error) => is_refusal(error),
    }
    for position in found.into_iter().chain(serde_json::from_str(text)) {
        let cursor = Cursor::encode(&position);
        assert_eq!(cursor.decode().ok().as_ref(), Some(&position));
        let is_safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        assert!(cursor.as_str().bytes().all(is_safe), "{cursor}");
        // Random changes hardly find the lengths at which more text is one more byte, or padding.
        for more in ["A", "AA", "=", "=="] {
            let longer = Cursor::from_text(format!("{cursor}{more}"));
            is_refusal(&longer.decode().expect_err("nothing stands behind a cursor"));
        }
        begins_only_its_own(&cursor, Some(&position));
    }
    begins_only_its_own(&given, given.decode().ok().as_ref());
}

fn is_refusal(error: &Error) {
    assert_eq!(
        (error.kind(), error.context("field")),
        (ErrorKind::InvalidInput, Some("after")),
        "{error}"
    );
}

fn begins_only_its_own(cursor: &Cursor, position: Option<&Position>) {
    let after = Some(cursor.clone());
    for order in ORDERS {
        let jobs = JobQuery::default().order(order).after(after.clone());
        let begin = match position {
            Some(Position::Job(of, at, id)) if *of == order => Some((*at, *id)),
            _ => None,
        };
        begins(begin.map(Some), jobs.position());
        begins(begin.map(|_| jobs.clone()), jobs.check());

        let vms = VmQuery::default().order(order).after(after.clone());
        let begin = match position {
            Some(Position::Vm(of, at, id, name)) if *of == order => Some((*at, *id, name.clone())),
            _ => None,
        };
        let key = vms.position();
        begins(
            begin.clone().map(Some),
            key.map(|key| key.map(|(at, key)| (at, key.request_id, key.domain_name))),
        );
        begins(begin.map(|_| vms.clone()), vms.check());
    }
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        let query = EventQuery::default().order(order).after(after.clone());
        let (own, other) = (sample::id(1), sample::id(2));
        let own = match position {
            Some(Position::EventSeq(of, _)) => *of,
            _ => own,
        };
        let begin = query.check(own);
        match (order, position, &begin) {
            (
                EventOrder::ByKey,
                Some(Position::EventKey(id, name, rank)),
                Ok(EventPosition::Key(Some(key))),
            ) => {
                assert_eq!((key.0.key(), key.1.get()), ((*id, name.as_str()), *rank));
            }
            (EventOrder::BySeq, Some(Position::EventSeq(_, seq)), Ok(EventPosition::Seq(Some(of)))) => {
                assert_eq!(of.get(), *seq);
                let elsewhere = if own == other { Uuid::nil() } else { other };
                is_refusal(&query.check(elsewhere).expect_err("it is bound to its store"));
            }
            (EventOrder::BySeq, Some(Position::EventSeq(..)), Err(error)) => panic!("{error}"),
            (_, _, Err(error)) => is_refusal(error),
            (_, _, Ok(begun)) => panic!("{position:?} begins at {begun:?}"),
        }
    }
}

fn begins<T: PartialEq + std::fmt::Debug>(expected: Option<T>, found: Result<T, Error>) {
    match (expected, found) {
        (Some(expected), found) => assert_eq!(found.ok(), Some(expected)),
        (None, Err(error)) => is_refusal(&error),
        (None, Ok(begun)) => panic!("a cursor that is not its own begins at {begun:?}"),
    }
}
