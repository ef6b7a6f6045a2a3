//! The file of a digest: a line for each job, by which a later edit or deletion of its history is found.
//!
//! `{"persist_digest":1,"instance_id":"…","until":"…"}`, then for each job in the order of ids `{"id":"…","slots":5,"marks":"…"}`,
//! and at the end how many they are and the SHA-256 of all that is before. A mark is 17 bytes a slot of the job or its VMs, in the
//! order of keys: which of its blanks were filled, and the first half of the SHA-256 of what it said. So a blank that is filled
//! later changes nothing, and anything else does. The file holds no value of any row.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::TimeDelta;
use persist::{Attribute, Event, Timestamp, time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::exit::{Code, Failure};

const VERSION: u32 = 1;

/// What was recorded later is left out: an update that is under way while the history is read could yet appear in it.
const YOUNGEST: TimeDelta = TimeDelta::seconds(60);
/// A store in which nothing was recorded for so long is at rest, however far its clock is from ours.
const AT_REST: TimeDelta = TimeDelta::hours(1);

/// Longest line that is read, bytes: a job of some three million slots.
const LONGEST_LINE: u64 = 64 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    persist_digest: u32,
    instance_id: Option<Uuid>,
    /// What was recorded before this time is in it.
    #[serde(with = "time::rfc3339")]
    pub(super) until: Timestamp,
}

/// The digest of a job and its VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) id: Uuid,
    pub(super) slots: u64,
    marks: String,
}

impl Line {
    pub(super) fn marks(&self) -> Option<Vec<Mark>> {
        let bytes = STANDARD_NO_PAD.decode(&self.marks).ok()?;
        let (marks, []) = bytes.as_chunks::<MARK>() else {
            return None;
        };
        (marks.len() as u64 == self.slots).then(|| marks.iter().map(|mark| Mark(*mark)).collect())
    }
}

const MARK: usize = 17;

/// What a slot said when it was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark([u8; MARK]);

impl Mark {
    pub(super) fn of(event: &Event) -> Self {
        let filled = texts(event).into_iter().enumerate();
        let filled = filled.fold(0, |filled, (at, text)| filled | u8::from(text.is_some()) << at);
        Self::as_far_as(event, filled)
    }

    /// Of a slot without the texts that are not in `filled`.
    fn as_far_as(event: &Event, filled: u8) -> Self {
        let mut sha256 = Sha256::new();
        let (id, name) = event.subject.key();
        sha256.update(id.as_bytes());
        sha256.update(event.rank.get().to_be_bytes());
        sha256.update(event.at.timestamp_micros().to_be_bytes());
        let said = texts(event).into_iter().enumerate();
        let said = said
            .filter(|(at, _)| filled & 1 << at != 0)
            .map(|(_, text)| text.unwrap_or_default());
        for text in [name, event.state.name()].into_iter().chain(said) {
            // With its length, so that no two lists of texts are one.
            sha256.update((text.len() as u64).to_be_bytes());
            sha256.update(text);
        }
        let mut mark = [filled; MARK];
        mark[1..].copy_from_slice(&sha256.finalize()[..MARK - 1]);
        Self(mark)
    }

    /// Whether the slot says what it said, and whether blanks were filled since.
    pub(super) fn still(self, event: &Event) -> Still {
        let now = Self::of(event);
        if now == self {
            Still::Same
        } else if self.0[0] & !now.0[0] == 0 && Self::as_far_as(event, self.0[0]) == self {
            Still::Filled
        } else {
            Still::Other
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Still {
    Same,
    Filled,
    Other,
}

/// What a slot may leave blank.
fn texts(event: &Event) -> [Option<&str>; 8] {
    let [a, b, c, d, e, f] = Attribute::ALL.map(|attribute| event.attributes.get(attribute));
    [event.actor.as_deref(), event.reason.as_deref(), a, b, c, d, e, f]
}

#[derive(Debug, Serialize, Deserialize)]
struct Foot {
    jobs: u64,
    slots: u64,
    sha256: String,
}

/// What was saved.
#[derive(Debug, Serialize)]
pub(super) struct Saved {
    pub(super) jobs: u64,
    pub(super) slots: u64,
    /// Slots that are too young to be in it.
    pub(super) young: u64,
    /// Of the whole file, as sha256sum tells it.
    pub(super) sha256: String,
}

fn hex(sha256: Sha256) -> String {
    sha256
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn io_failure(path: &Path, doing: &str, error: &std::io::Error) -> Failure {
    Failure::told(
        Code::Failed,
        format!("{} could not be {doing}: {error}", path.display()),
    )
}

/// Writes a new file beside its name, and gives it the name when it is whole.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<tempfile::NamedTempFile>,
    sha256: Sha256,
    until: Timestamp,
    running: Option<(Uuid, Vec<u8>)>,
    saved: Saved,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| io_failure(path, "created", error);
        if path.exists() {
            let what = format!(
                "{} is there already; a digest is never overwritten",
                path.display()
            );
            return Err(Failure::told(Code::Usage, what));
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file.map_err(|error| failed(&error))?),
            sha256: Sha256::new(),
            until: Timestamp::MIN_UTC,
            running: None,
            saved: Saved {
                jobs: 0,
                slots: 0,
                young: 0,
                sha256: String::new(),
            },
        })
    }

    /// `latest` is when the youngest slot was recorded, by the database's clock; `now` is of ours.
    pub(super) fn head(
        &mut self,
        instance_id: Option<Uuid>,
        latest: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.until = match latest {
            Some(latest) if now - latest >= AT_REST => latest + TimeDelta::microseconds(1),
            Some(latest) => now.min(latest) - YOUNGEST,
            None => now - YOUNGEST,
        };
        self.put(&Head {
            persist_digest: VERSION,
            instance_id,
            until: self.until,
        })
    }

    /// Events come by key.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), Failure> {
        if event.recorded_at >= self.until {
            self.saved.young += 1;
            return Ok(());
        }
        let id = event.subject.request_id();
        if self.running.as_ref().is_none_or(|(running, _)| *running != id) {
            self.end_job()?;
        }
        let (_, marks) = self.running.get_or_insert_with(|| (id, Vec::new()));
        marks.extend(Mark::of(event).0);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Saved, Failure> {
        self.end_job()?;
        self.put(&Foot {
            jobs: self.saved.jobs,
            slots: self.saved.slots,
            sha256: hex(self.sha256.clone()),
        })?;
        self.saved.sha256 = hex(self.sha256.clone());
        let failed = |error: &std::io::Error| io_failure(&self.path, "written", error);
        let file = self.file.into_inner().map_err(|error| failed(error.error()))?;
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        file.persist_noclobber(&self.path)
            .map_err(|error| failed(&error.error))?;
        Ok(self.saved)
    }

    fn end_job(&mut self) -> Result<(), Failure> {
        if let Some((id, marks)) = self.running.take() {
            let slots = (marks.len() / MARK) as u64;
            self.saved.jobs += 1;
            self.saved.slots += slots;
            let marks = STANDARD_NO_PAD.encode(marks);
            self.put(&Line { id, slots, marks })?;
        }
        Ok(())
    }

    fn put<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(std::io::Error::other)?;
        line.push(b'\n');
        self.sha256.update(&line);
        self.file
            .write_all(&line)
            .map_err(|error| io_failure(&self.path, "written", &error))
    }
}

/// Reads a file, a line at a time. That it is whole is known at its end.
pub(super) struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
    sha256: Sha256,
    pub(super) head: Head,
    jobs: u64,
    slots: u64,
    is_whole: bool,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| io_failure(path, "opened", &error))?;
        let mut reader = Self {
            path: path.to_owned(),
            lines: BufReader::new(file),
            number: 0,
            sha256: Sha256::new(),
            head: Head {
                persist_digest: 0,
                instance_id: None,
                until: Timestamp::MIN_UTC,
            },
            jobs: 0,
            slots: 0,
            is_whole: false,
        };
        let line = reader.line()?.unwrap_or_default();
        reader.head = serde_json::from_slice(&line).map_err(|_| reader.wrong("is no digest of persist"))?;
        if reader.head.persist_digest != VERSION {
            return Err(reader.wrong("is a digest of another version; use the program that saved it"));
        }
        reader.sha256.update(&line);
        Ok(reader)
    }

    /// Whether it was saved of this store.
    pub(super) fn is_of(&self, instance_id: Option<Uuid>) -> Result<(), Failure> {
        if self.head.instance_id == instance_id {
            return Ok(());
        }
        let shown = |id: Option<Uuid>| id.map_or_else(|| "no id".to_owned(), |id| id.to_string());
        let what = format!(
            "{}: was saved of store {}, this one is {}",
            self.path.display(),
            shown(self.head.instance_id),
            shown(instance_id)
        );
        Err(Failure::told(Code::Failed, what))
    }

    /// The next job, with its marks; `None` at the end of a whole file.
    pub(super) fn next(&mut self) -> Result<Option<(Uuid, Vec<Mark>)>, Failure> {
        if self.is_whole {
            return Ok(None);
        }
        let line = self
            .line()?
            .ok_or_else(|| self.wrong("ends before its last line; it was cut"))?;
        if let Ok(job) = serde_json::from_slice::<Line>(&line) {
            self.sha256.update(&line);
            self.jobs += 1;
            self.slots += job.slots;
            let marks = job
                .marks()
                .ok_or_else(|| self.wrong("its marks are not those of its slots"))?;
            return Ok(Some((job.id, marks)));
        }
        let foot: Foot =
            serde_json::from_slice(&line).map_err(|_| self.wrong("is neither a job nor the end"))?;
        let is_it = (foot.jobs, foot.slots) == (self.jobs, self.slots)
            && foot.sha256 == hex(self.sha256.clone())
            && self.line()?.is_none();
        if !is_it {
            return Err(self.wrong("does not fit what is before; the file was changed"));
        }
        self.sha256.update(&line);
        self.is_whole = true;
        Ok(None)
    }

    /// Of the file, once it was read to its end: the number that was printed when it was saved.
    pub(super) fn sha256(&self) -> String {
        hex(self.sha256.clone())
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        self.number += 1;
        let mut line = Vec::new();
        let read = self
            .lines
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line);
        read.map_err(|error| io_failure(&self.path, "read", &error))?;
        Ok(Some(line).filter(|line| !line.is_empty()))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::told(
            Code::Failed,
            format!("{}:{}: {what}", self.path.display(), self.number),
        )
    }
}
