//! The exchange format: one update a line, for import, export, the spool and tests.

mod lines;
mod shape;

pub use lines::{LINE_BYTES, Lines, NumberedLine};

use uuid::Uuid;

use crate::attempt::Attempt;
use crate::attributes::{Attribute, Attributes};
use crate::claim::Claim;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::jsonl::shape::{Fields, Kind, Line, Scalar};
use crate::state::{JobState, State, StateTable, VmState};
use crate::subject::Subject;
use crate::time;
use crate::update::{JobUpdate, Update, VmUpdate};

const JOB_FIELDS: &str = "request_id, state, at, attempt, repo_url, commit_sha, runs_on, actor, reason";
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
        let column = error.column().max(1);
        let what = if error.is_data() {
            format!("{what} (column {column})")
        } else {
            // Cut off, or no JSON at all, or a number beyond all that one can hold.
            format!(
                "not readable as JSON: {what} (column {column}); a line is one object, {{\"job\": {{…}}}} or {{\"vm\": {{…}}}}"
            )
        };
        Error::new(ErrorKind::InvalidInput, what)
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
                self.at = value
                    .optional_text("at")?
                    .map(|text| time::parse("at", &text))
                    .transpose()?;
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

/// The line, without its line feed, of an event: the update that would claim and fill its slot.
pub fn line(event: &Event) -> String {
    write(&Said {
        subject: &event.subject,
        state: event.state,
        at: event.at,
        attempt: event.attempt(),
        attributes: &event.attributes,
        actor: event.actor.as_deref(),
        reason: event.reason.as_deref(),
    })
}

/// The line, without its line feed, of a claim. Reading and checking it gives an equal claim.
///
/// ```
/// use persist_core::{JobState, JobUpdate, SystemClock, jsonl};
/// let claim = JobUpdate::new(uuid::Uuid::from_u128(7), JobState::Queued).check(&SystemClock)?;
/// assert_eq!(jsonl::parse(&jsonl::claim_line(&claim))?.check(&SystemClock)?, claim);
/// # Ok::<(), persist_core::Error>(())
/// ```
pub fn claim_line(claim: &Claim) -> String {
    write(&Said {
        subject: claim.subject(),
        state: claim.state(),
        at: claim.at(),
        attempt: claim.attempt(),
        attributes: claim.attributes(),
        actor: claim.actor(),
        reason: claim.reason(),
    })
}

/// What a line says.
struct Said<'a> {
    subject: &'a Subject,
    state: State,
    at: time::Timestamp,
    attempt: Attempt,
    attributes: &'a Attributes,
    actor: Option<&'a str>,
    reason: Option<&'a str>,
}

fn write(said: &Said<'_>) -> String {
    let mut out = String::with_capacity(256);
    out.push_str(if said.subject.is_vm() {
        r#"{"vm":{"#
    } else {
        r#"{"job":{"#
    });
    let (request_id, domain_name) = said.subject.key();
    member(&mut out, "request_id", Some(&request_id.to_string()));
    member(
        &mut out,
        "domain_name",
        Some(domain_name).filter(|name| !name.is_empty()),
    );
    member(&mut out, "state", Some(said.state.name()));
    member(&mut out, "at", Some(&time::format(said.at)));
    out.push_str(",\"attempt\":");
    out.push_str(&said.attempt.to_string());
    for attribute in Attribute::ALL {
        member(&mut out, attribute.name(), said.attributes.get(attribute));
    }
    member(&mut out, "actor", said.actor);
    member(&mut out, "reason", said.reason);
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
