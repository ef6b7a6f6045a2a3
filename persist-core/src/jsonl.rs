//! The exchange format: one update a line, for import, export, the spool and tests.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Read as _};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::attributes::Attribute;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::state::{JobState, StateTable, VmState};
use crate::time;
use crate::update::{JobUpdate, Update, VmUpdate};

/// Most bytes of a line, without its line feed.
pub const LINE_BYTES: usize = 64 * 1024;

const JOB_FIELDS: &str =
    "request_id, state, at, attempt, repo_url, commit_sha, runs_on, actor, reason";
const VM_FIELDS: &str =
    "request_id, domain_name, state, at, attempt, backend, overlay_path, seed_path, actor, reason";

/// Reads one line. Limits are left to `check`.
///
/// # Errors
/// `InvalidInput` that says what is wrong, in which column or field, without showing values.
///
/// ```
/// let update = persist_core::jsonl::parse(
///     r#"{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000001","state":"queued"}}"#)?;
/// # Ok::<(), persist_core::Error>(())
/// ```
pub fn parse(line: &str) -> Result<Update> {
    let Line { kind, fields } = serde_json::from_str(line).map_err(|error| {
        // serde_json's own texts name positions and expected syntax; ours, below, name fields. None holds a value.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Error::new(ErrorKind::InvalidInput, format!("{what} (column {})", error.column()))
    })?;
    match kind {
        Kind::Job => job(fields),
        Kind::Vm => vm(fields),
    }
}

// The two builders share setters, not a type.
macro_rules! finish {
    ($update:expr, $common:expr) => {{
        let mut update = $update;
        if let Some(at) = $common.at {
            update = update.at(at);
        }
        if let Some(attempt) = $common.attempt {
            update = update.attempt(attempt);
        }
        if let Some(actor) = $common.actor {
            update = update.actor(actor);
        }
        if let Some(reason) = $common.reason {
            update = update.reason(reason);
        }
        Update::from(update)
    }};
}

fn job(fields: Fields<'_>) -> Result<Update> {
    let mut common = Common::default();
    let (mut state, mut attributes) = (None, Vec::new());
    for (name, value) in fields {
        match name.as_ref() {
            "state" => state = Some(JobState::parse(&value.text("state")?)?),
            other => match Attribute::JOB.iter().find(|attribute| attribute.name() == other) {
                Some(attribute) => attributes.push((*attribute, value.optional_text(attribute.name())?)),
                None => common.take(&name, value, JOB_FIELDS)?,
            },
        }
    }
    let mut update = JobUpdate::new(common.request_id()?, state.ok_or_else(|| missing("state"))?);
    for (attribute, value) in attributes {
        let Some(value) = value else { continue };
        update = match attribute {
            Attribute::RepoUrl => update.repo_url(value),
            Attribute::CommitSha => update.commit_sha(value),
            _ => update.runs_on(value),
        };
    }
    Ok(finish!(update, common))
}

fn vm(fields: Fields<'_>) -> Result<Update> {
    let mut common = Common::default();
    let (mut state, mut domain_name, mut attributes) = (None, None, Vec::new());
    for (name, value) in fields {
        match name.as_ref() {
            "state" => state = Some(VmState::parse(&value.text("state")?)?),
            "domain_name" => domain_name = Some(value.text("domain_name")?),
            other => match Attribute::VM.iter().find(|attribute| attribute.name() == other) {
                Some(attribute) => attributes.push((*attribute, value.optional_text(attribute.name())?)),
                None => common.take(&name, value, VM_FIELDS)?,
            },
        }
    }
    let domain_name = domain_name.ok_or_else(|| missing("domain_name"))?;
    let state = state.ok_or_else(|| missing("state"))?;
    let mut update = VmUpdate::new(common.request_id()?, domain_name, state);
    for (attribute, value) in attributes {
        let Some(value) = value else { continue };
        update = match attribute {
            Attribute::Backend => update.backend(value),
            Attribute::OverlayPath => update.overlay_path(value),
            _ => update.seed_path(value),
        };
    }
    Ok(finish!(update, common))
}

/// The fields that both kinds have.
#[derive(Default)]
struct Common {
    request_id: Option<Uuid>,
    at: Option<time::Timestamp>,
    attempt: Option<u32>,
    actor: Option<String>,
    reason: Option<String>,
}

impl Common {
    fn take(&mut self, name: &str, value: Scalar<'_>, known: &str) -> Result<()> {
        match name {
            "request_id" => {
                let text = value.text("request_id")?;
                let id = Uuid::parse_str(&text).map_err(|_| Error::invalid("request_id", "is not a UUID"))?;
                self.request_id = Some(id);
            }
            "at" => {
                self.at = value.optional_text("at")?.map(|text| time::parse("at", &text)).transpose()?;
            }
            "attempt" => self.attempt = value.attempt()?,
            "actor" => self.actor = value.optional_text("actor")?,
            "reason" => self.reason = value.optional_text("reason")?,
            _ => {
                let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("unknown field {shown}; known are {known}"),
                ));
            }
        }
        Ok(())
    }

    fn request_id(&self) -> Result<Uuid> {
        self.request_id.ok_or_else(|| missing("request_id"))
    }
}

fn missing(field: &'static str) -> Error {
    Error::invalid(field, "is missing")
}

enum Kind {
    Job,
    Vm,
}

/// `{"job":{…}}` or `{"vm":{…}}`.
struct Line<'a> {
    kind: Kind,
    fields: Fields<'a>,
}

type Fields<'a> = Vec<(Cow<'a, str>, Scalar<'a>)>;

/// A field's value before it is known which field it is.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(i128),
    Null,
    Other,
}

impl Scalar<'_> {
    fn text(self, field: &'static str) -> Result<String> {
        self.optional_text(field)?.ok_or_else(|| Error::invalid(field, "must not be null"))
    }

    fn optional_text(self, field: &'static str) -> Result<Option<String>> {
        match self {
            Self::Text(text) => Ok(Some(text.into_owned())),
            Self::Null => Ok(None),
            Self::Number(_) | Self::Other => Err(Error::invalid(field, "must be a string")),
        }
    }

    fn attempt(self) -> Result<Option<u32>> {
        let range = || Error::invalid("attempt", format_args!("must be a whole number, 1 to {}", Attempt::MAX));
        match self {
            Self::Number(number) => u32::try_from(number).map(Some).map_err(|_| range()),
            Self::Null => Ok(None),
            Self::Text(_) | Self::Other => Err(range()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Texts that borrow from the line where they hold no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Name(text)),
            Scalar::Number(_) | Scalar::Null | Scalar::Other => Err(de::Error::custom("a name must be a string")),
        }
    }
}

struct FieldMap<'a>(Fields<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for FieldMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = FieldMap<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the update's fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Fields<'de> = Vec::with_capacity(10);
                while let Some(Name(name)) = map.next_key()? {
                    if fields.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(de::Error::custom("a field stands twice"));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(FieldMap(fields))
            }
        }
        deserializer.deserialize_map(Object).map_err(withhold_value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outer;
        impl<'de> Visitor<'de> for Outer {
            type Value = Line<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"{"job":{…}} or {"vm":{…}}"#)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                const SHAPE: &str = r#"a line is {"job":{…}} or {"vm":{…}}"#;
                let Some(Name(name)) = map.next_key()? else { return Err(de::Error::custom(SHAPE)) };
                let kind = match name.as_ref() {
                    "job" => Kind::Job,
                    "vm" => Kind::Vm,
                    _ => return Err(de::Error::custom(SHAPE)),
                };
                let FieldMap(fields) = map.next_value()?;
                if map.next_key::<Name<'de>>()?.is_some() {
                    return Err(de::Error::custom(SHAPE));
                }
                Ok(Line { kind, fields })
            }
        }
        deserializer.deserialize_map(Outer).map_err(withhold_value)
    }
}

/// serde's text for a value of the wrong type shows the value.
fn withhold_value<E: de::Error>(error: E) -> E {
    let text = error.to_string();
    if text.starts_with("invalid type") { E::custom("expected an object here") } else { error }
}

/// The line, without its line feed, of an event: the update that would claim and fill its slot.
pub fn line(event: &Event) -> String {
    let mut out = String::with_capacity(256);
    out.push_str(if event.subject.is_vm() { r#"{"vm":{"# } else { r#"{"job":{"# });
    let (request_id, domain_name) = event.subject.key();
    member(&mut out, "request_id", Some(&request_id.to_string()));
    member(&mut out, "domain_name", Some(domain_name).filter(|name| !name.is_empty()));
    member(&mut out, "state", Some(event.state.name()));
    member(&mut out, "at", Some(&time::format(event.at)));
    out.push_str(",\"attempt\":");
    out.push_str(&event.attempt().to_string());
    for attribute in Attribute::ALL {
        member(&mut out, attribute.name(), event.attributes.get(attribute));
    }
    member(&mut out, "actor", event.actor.as_deref());
    member(&mut out, "reason", event.reason.as_deref());
    out.push_str("}}");
    out
}

fn member(out: &mut String, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    out.push_str(&serde_json::to_string(value).expect("a string"));
}

/// A line of a file: its number from 1, and the update or what is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct NumberedLine {
    /// From 1.
    pub number: u64,
    /// The update, or why there is none.
    pub update: Result<Update>,
}

/// Reads a file of updates in constant memory. Blank lines are skipped; CRLF and a byte-order mark are taken;
/// a bad line is reported with its number and the next one read.
///
/// Yields `Err` only when reading itself fails, and then ends.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
    buffer: Vec<u8>,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads from here.
    pub fn new(input: R) -> Self {
        Self { input, number: 0, buffer: Vec::with_capacity(1024), failed: false }
    }

    /// The next raw line into `buffer`, at most one byte beyond the limit; `None` at the end.
    fn fill(&mut self) -> io::Result<Option<Result<()>>> {
        self.buffer.clear();
        // Two more than the limit: the line feed, and a carriage return before it.
        let limit = LINE_BYTES as u64 + 2;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.buffer.last() == Some(&b'\n');
        if !ended && read as u64 == limit {
            self.skip_line()?;
        }
        if self.number == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.buffer.drain(..3);
        }
        for end in [b'\n', b'\r'] {
            if self.buffer.last() == Some(&end) {
                self.buffer.pop();
            }
        }
        if self.buffer.len() > LINE_BYTES {
            let what = format!("the line is longer than {LINE_BYTES} bytes");
            return Ok(Some(Err(Error::new(ErrorKind::InvalidInput, what))));
        }
        Ok(Some(Ok(())))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |at| at + 1);
            self.input.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<NumberedLine>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.failed {
                return None;
            }
            let update = match self.fill() {
                Ok(None) => return None,
                Ok(Some(Err(error))) => Err(error),
                Ok(Some(Ok(()))) => match std::str::from_utf8(&self.buffer) {
                    Ok(text) if text.trim().is_empty() => continue,
                    Ok(text) => parse(text),
                    Err(error) => Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!("not UTF-8 (column {})", error.valid_up_to() + 1),
                    )),
                },
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            };
            return Some(Ok(NumberedLine { number: self.number, update }));
        }
    }
}
