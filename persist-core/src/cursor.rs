//! Cursors: opaque, versioned, URL-safe places in a listing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::changes::ChangePosition;
use crate::error::{Error, Result};
use crate::page::Order;
use crate::prune::PrunePosition;
use crate::time::{self, Timestamp};

/// The place after a page's last row. Opaque: keep it, hand it back, don't read it.
///
/// A cursor of one backend works on another; only those of [`EventOrder::BySeq`](crate::EventOrder) and
/// of [`Changes`](crate::Changes) are bound to their store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

/// What a cursor holds: the key of the row that it stands after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// In a list of jobs.
    #[serde(rename = "j")]
    Job(Order, #[serde(with = "time::rfc3339")] Timestamp, Uuid),
    /// In a list of VMs.
    #[serde(rename = "v")]
    Vm(Order, #[serde(with = "time::rfc3339")] Timestamp, Uuid, String),
    /// In the history by key.
    #[serde(rename = "k")]
    EventKey(Uuid, String, i64),
    /// In the history by sequence number, of the store with this `instance_id`.
    #[serde(rename = "s")]
    EventSeq(Uuid, i64),
    /// Among the changes of the store that it names.
    #[serde(rename = "c")]
    Change(ChangePosition),
    /// Among the orphans.
    #[serde(rename = "o")]
    Orphan(Uuid, String),
    /// Among the refusals.
    #[serde(rename = "r")]
    Refusal(
        #[serde(with = "time::rfc3339")] Timestamp,
        Uuid,
        String,
        i64,
        String,
    ),
    /// Among what a prune removes.
    #[serde(rename = "p")]
    Prune(PrunePosition),
}

const VERSION: u8 = 1;

impl Cursor {
    /// A cursor of its text, as a URL or a command line carries it. It is checked where it is used.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text: letters, digits, `-` and `_`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Packs a position.
    pub fn encode(position: &Position) -> Self {
        let body = serde_json::to_vec(position).expect("a position has only string and number fields");
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Unpacks it.
    ///
    /// # Errors
    /// `InvalidInput` for a damaged cursor and for one of another version.
    pub fn decode(&self) -> Result<Position> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| damaged())?;
        let [version, a, b, c, d, body @ ..] = bytes.as_slice() else {
            return Err(damaged());
        };
        if *version != VERSION {
            return Err(Error::invalid(
                "after",
                "this cursor is of another version; list again from the start",
            ));
        }
        if crc32fast::hash(body).to_be_bytes() != [*a, *b, *c, *d] {
            return Err(damaged());
        }
        serde_json::from_slice(body).map_err(|_| damaged())
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for a cursor of another listing or order.
pub(crate) fn foreign() -> Error {
    Error::invalid("after", "this cursor belongs to another listing or order")
}

fn damaged() -> Error {
    Error::invalid("after", "this is not a whole cursor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cursor_is_refused_at_every_byte() {
        let at = time::from_micros(1_700_000_000_000_001).unwrap();
        // Of three lengths: the last character of a text holds six bits, four or two.
        for name in ["vm \"7\"", "vm \"78\"", "vm \"789\""] {
            let whole = Cursor::encode(&Position::Vm(
                Order::OldestFirst,
                at,
                Uuid::from_u128(5),
                name.into(),
            ));
            let position = whole.decode().unwrap();
            assert_eq!(Cursor::encode(&position), whole);
            for at in 0..whole.0.len() {
                for other in ["A", "B", "z", "_", "=", " ", ""] {
                    let mut text = whole.0.clone();
                    text.replace_range(at..=at, other);
                    if text != whole.0 {
                        assert!(Cursor(text).decode().is_err(), "byte {at} as {other:?}");
                    }
                }
                assert!(Cursor(whole.0[..at].to_owned()).decode().is_err());
            }
            for more in ["A", "AA", "AAA", "AAAA", "=", "==", " ", "\n"] {
                let text = format!("{whole}{more}");
                assert!(Cursor(text).decode().is_err(), "with {more:?} behind it");
            }
            let mut bytes = URL_SAFE_NO_PAD.decode(&whole.0).unwrap();
            bytes.push(b' ');
            let longer = Cursor(URL_SAFE_NO_PAD.encode(bytes));
            assert!(longer.decode().is_err(), "with a byte behind it");
        }
    }
}
