//! The proof that what a store tells now is what its history says: `current == fold(history)`, subject by subject.

use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt as _;
use serde::{Serialize, Serializer};

use crate::backend::PersistBackend;
use crate::error::Result;
use crate::event::{Event, EventQuery};
use crate::ext::PersistExt as _;
use crate::job::{Job, JobQuery};
use crate::listing::Listing;
use crate::merge::Row;
use crate::page::Order;
use crate::subject::Subject;
use crate::time::{self, Timestamp};
use crate::vm::{Vm, VmQuery};

/// How often a subject that seems wrong is looked at again before it is said to change too fast. What others write between
/// two pages is no flaw.
const LOOKS: u32 = 16;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A job or VM that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// The job or VM.
    #[serde(flatten, serialize_with = "key")]
    pub subject: Subject,
    /// Slots of its history.
    pub slots: u64,
    /// When the youngest of them was claimed, by the database's clock.
    #[serde(with = "time::rfc3339::option")]
    pub latest: Option<Timestamp>,
    /// What is wrong with it; `None` where all is well.
    pub flaw: Option<Flaw>,
}

/// Where a row is not the fold of its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Flaw {
    /// These columns say something else than the history.
    Differs(Vec<&'static str>),
    /// There is a row, and no slot that it could come from.
    WithoutSlots,
    /// There are slots, and no row.
    WithoutRow,
    /// It changed each time that it was looked at: verify again when there is less to do.
    Unsettled,
}

impl Flaw {
    /// The stable snake-case word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Differs(_) => "differs",
            Self::WithoutSlots => "without_slots",
            Self::WithoutRow => "without_row",
            Self::Unsettled => "unsettled",
        }
    }
}

/// A subject as the names of its columns.
fn key<S: Serializer>(subject: &Subject, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Key<'s> {
        request_id: uuid::Uuid,
        domain_name: Option<&'s str>,
    }
    Key {
        request_id: subject.request_id(),
        domain_name: subject.vm_name(),
    }
    .serialize(serializer)
}

/// A row of either table.
#[derive(Debug, PartialEq)]
enum Current {
    Job(Job),
    Vm(Vm),
}

impl Current {
    /// The row that a folded history is.
    fn of_fold(subject: &Subject, row: &Row) -> Option<Self> {
        match subject {
            Subject::Job(id) => Job::from_row(*id, row).map(Self::Job),
            Subject::Vm(key) => Vm::from_row(key.clone(), row).map(Self::Vm),
        }
    }

    /// The columns in which two rows of one subject differ.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut note = |name, differs| {
            if differs {
                names.push(name);
            }
        };
        match (self, other) {
            (Self::Job(a), Self::Job(b)) => {
                note("state", a.state != b.state);
                note("attempt", a.attempt != b.attempt);
                note("repo_url", a.repo_url != b.repo_url);
                note("commit_sha", a.commit_sha != b.commit_sha);
                note("runs_on", a.runs_on != b.runs_on);
                note("created_at", a.created_at != b.created_at);
                note("updated_at", a.updated_at != b.updated_at);
            }
            (Self::Vm(a), Self::Vm(b)) => {
                note("state", a.state != b.state);
                note("attempt", a.attempt != b.attempt);
                note("backend", a.backend != b.backend);
                note("overlay_path", a.overlay_path != b.overlay_path);
                note("seed_path", a.seed_path != b.seed_path);
                note("created_at", a.created_at != b.created_at);
                note("updated_at", a.updated_at != b.updated_at);
            }
            // Rows of one subject are of one table.
            (Self::Job(_), Self::Vm(_)) | (Self::Vm(_), Self::Job(_)) => note("state", true),
        }
        names
    }
}

fn flaw(subject: &Subject, current: Option<&Current>, fold: Option<&Row>) -> Option<Flaw> {
    match (current, fold.and_then(|row| Current::of_fold(subject, row))) {
        (None, None) => None,
        (None, Some(_)) => Some(Flaw::WithoutRow),
        (Some(_), None) => Some(Flaw::WithoutSlots),
        (Some(current), Some(fold)) => {
            let names = current.differences(&fold);
            (!names.is_empty()).then_some(Flaw::Differs(names))
        }
    }
}

/// Walks history and rows side by side, all three in the order of their keys.
struct Walk<'b, B: ?Sized> {
    backend: &'b B,
    events: Listing<'b, Event>,
    jobs: Listing<'b, Job>,
    vms: Listing<'b, Vm>,
}

impl<'b, B: PersistBackend + ?Sized> Walk<'b, B> {
    fn new(backend: &'b B) -> Self {
        Self {
            backend,
            events: Listing::new(backend.all_events(EventQuery::default())),
            jobs: Listing::new(backend.all_jobs(JobQuery::default().order(Order::ById))),
            vms: Listing::new(backend.all_vms(VmQuery::default().order(Order::ById))),
        }
    }

    async fn next(&mut self) -> Result<Option<Checked>> {
        let event = self.events.peek().await?.map(|event| event.subject.clone());
        let job = self.jobs.peek().await?.map(|job| Subject::Job(job.request_id));
        let vm = self.vms.peek().await?.map(|vm| Subject::Vm(vm.key()));
        let Some(subject) = [&event, &job, &vm].into_iter().flatten().min().cloned() else {
            return Ok(None);
        };
        let (mut fold, mut slots, mut latest) = (None, 0, None);
        while self
            .events
            .peek()
            .await?
            .is_some_and(|event| event.subject == subject)
        {
            if let Some(event) = self.events.take() {
                join(&mut fold, &event);
                latest = latest.max(Some(event.recorded_at));
                slots += 1;
            }
        }
        let current = if job.as_ref() == Some(&subject) {
            self.jobs.take().map(Current::Job)
        } else if vm.as_ref() == Some(&subject) {
            self.vms.take().map(Current::Vm)
        } else {
            None
        };
        let mut checked = Checked {
            flaw: flaw(&subject, current.as_ref(), fold.as_ref()),
            subject,
            slots,
            latest,
        };
        if checked.flaw.is_some() {
            look_again(self.backend, &mut checked).await?;
        }
        Ok(Some(checked))
    }
}

/// A row that stood still while its history was read must be what that says; pages are read one after the other, and
/// others write between them.
async fn look_again<B: PersistBackend + ?Sized>(backend: &B, checked: &mut Checked) -> Result<()> {
    for look in 1..=LOOKS {
        let before = current(backend, &checked.subject).await?;
        let (mut fold, mut slots) = (None, 0);
        let query = EventQuery::default().request_id(checked.subject.request_id());
        let mut events = std::pin::pin!(backend.all_events(query));
        while let Some(event) = events.next().await.transpose()? {
            if event.subject == checked.subject {
                join(&mut fold, &event);
                slots += 1;
            }
        }
        if before == current(backend, &checked.subject).await? {
            checked.flaw = flaw(&checked.subject, before.as_ref(), fold.as_ref());
            checked.slots = slots;
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS * look).await;
    }
    checked.flaw = Some(Flaw::Unsettled);
    Ok(())
}

async fn current<B: PersistBackend + ?Sized>(backend: &B, subject: &Subject) -> Result<Option<Current>> {
    Ok(match subject {
        Subject::Job(id) => backend.job(*id).await?.map(Current::Job),
        Subject::Vm(key) => backend.vm(key).await?.map(Current::Vm),
    })
}

fn join(fold: &mut Option<Row>, event: &Event) {
    let slot = event.slot();
    match fold {
        Some(row) => {
            row.join(&slot);
        }
        None => *fold = Some(Row::first(&slot)),
    }
}

/// Every subject of a store, in the order of their keys, each compared with its history.
pub(crate) fn verify<B: PersistBackend + ?Sized>(backend: &B) -> impl Stream<Item = Result<Checked>> + Send {
    futures_util::stream::unfold(Some(Walk::new(backend)), |walk| async move {
        let mut walk = walk?;
        match walk.next().await {
            Ok(Some(checked)) => Some((Ok(checked), Some(walk))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}
