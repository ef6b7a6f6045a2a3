//! Runs a schedule and keeps what its callers were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use persist_core::layer::{Fault, Faults, Faulty};
use persist_core::{
    Claim, Error, EventQuery, Outcome, PersistBackend, Rank, Result, StateTable as _, Subject, UpdateOutcome,
};

use super::plan::{Call, Mishap, Schedule, Step};
use crate::polls::ended_within;
use crate::process;
use crate::sample::claims;
use crate::strategy::updates;
use crate::walk;

/// How long a caller waits for a call that froze.
const PATIENCE: Duration = Duration::from_millis(3);

/// An update, and what its caller knows of it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) claim: Claim,
    pub(super) known: Known,
}

/// What a caller knows of its update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was acknowledged.
    Told(Outcome),
    /// It certainly did not happen.
    NotApplied,
    /// It may have happened.
    Unknown,
}

/// What was told in a schedule, and how many of its calls met a fault or were dropped.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) said: Vec<Said>,
    pub(super) faults: u64,
    pub(super) drops: u64,
}

/// Runs all callers at once, each behind faults of its own.
pub(super) async fn play(backend: &Arc<dyn PersistBackend>, schedule: &Schedule) -> Result<Played, String> {
    let callers = schedule.callers.iter().map(|steps| {
        let caller = Caller::new(Arc::clone(backend), steps.clone());
        tokio::spawn(caller.run())
    });
    let callers: Vec<_> = join_all(callers).await;
    let ended = callers.into_iter().map(|ended| match ended {
        Ok(played) => played,
        Err(died) => Err(format!("a call panicked: {died}")),
    });
    let mut all = Played::default();
    for played in ended.collect::<Result<Vec<_>, _>>()? {
        all.said.extend(played.said);
        all.faults += played.faults;
        all.drops += played.drops;
    }
    Ok(all)
}

struct Caller {
    steps: Vec<Step>,
    backend: Arc<Faulty<dyn PersistBackend>>,
    /// The highest slot of each subject that this caller was told to be there.
    highest: BTreeMap<Subject, Rank>,
    played: Played,
}

/// How a call ended for its caller.
enum Ended<T> {
    Told(T),
    Failed(Error),
    Dropped,
}

impl Caller {
    fn new(backend: Arc<dyn PersistBackend>, steps: Vec<Step>) -> Self {
        let mut faults = Faults::default();
        for (number, step) in (1..).zip(&steps) {
            if let Mishap::Fault(fault) = step.mishap {
                faults = faults.at(number, fault);
            }
        }
        Self {
            steps,
            backend: Arc::new(Faulty::new(backend, faults)),
            highest: BTreeMap::new(),
            played: Played::default(),
        }
    }

    async fn run(mut self) -> Result<Played, String> {
        for step in std::mem::take(&mut self.steps) {
            let limit = tokio::time::timeout(process::BOUND, self.step(&step));
            let ended = limit
                .await
                .unwrap_or_else(|_| Err("bounded: it does not end".into()));
            ended.map_err(|why| format!("{}{}: {why}", step.call, step.mishap))?;
        }
        self.played.faults = self.backend.struck();
        Ok(self.played)
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        let backend = Arc::clone(&self.backend);
        match &step.call {
            Call::Apply(drafts) => {
                let claims = claims(updates(drafts)).map_err(|error| error.to_string())?;
                let ended = self.ended(backend.apply(&claims), step.mishap).await?;
                self.note(&claims, &ended)
            }
            Call::Row(subject @ Subject::Job(id)) => {
                let ended = self.ended(backend.job(*id), step.mishap).await?;
                let rank = |row: persist_core::Job| Rank::new(row.attempt, row.state.phase());
                self.reads(subject, ended, |row| row.map(rank))
            }
            Call::Row(subject @ Subject::Vm(key)) => {
                let ended = self.ended(backend.vm(key), step.mishap).await?;
                let rank = |row: persist_core::Vm| Rank::new(row.attempt, row.state.phase());
                self.reads(subject, ended, |row| row.map(rank))
            }
            Call::History(subject) => {
                let query = EventQuery::default().request_id(subject.request_id());
                let ended = self.ended(backend.events(&query), step.mishap).await?;
                self.reads(subject, ended, |page| {
                    let slots = page.items.iter().filter(|event| event.subject == *subject);
                    slots.map(|event| event.rank).max()
                })
            }
        }
    }

    /// Awaits a call, or drops it where it froze or is to be dropped. One that met no mishap may not fail.
    async fn ended<T>(
        &mut self,
        call: impl Future<Output = Result<T>>,
        mishap: Mishap,
    ) -> Result<Ended<T>, String> {
        let answer = match mishap {
            Mishap::Drop(polls) => ended_within(polls, call).await,
            Mishap::Fault(Fault::FreezeBefore | Fault::FreezeAfter) => {
                tokio::time::timeout(PATIENCE, call).await.ok()
            }
            Mishap::None | Mishap::Fault(_) => Some(call.await),
        };
        match answer {
            None => {
                self.played.drops += 1;
                Ok(Ended::Dropped)
            }
            Some(Ok(value)) => Ok(Ended::Told(value)),
            Some(Err(error)) if matches!(mishap, Mishap::Fault(Fault::FailBefore | Fault::FailAfter)) => {
                Ok(Ended::Failed(error))
            }
            Some(Err(error)) => Err(format!("a call that nothing was done to fails: {error:?}")),
        }
    }

    fn note(&mut self, claims: &[Claim], ended: &Ended<Vec<Outcome>>) -> Result<(), String> {
        let outcomes = match ended {
            Ended::Told(outcomes) if outcomes.len() != claims.len() => {
                return Err(format!("{} outcomes for {} claims", outcomes.len(), claims.len()));
            }
            Ended::Told(outcomes) => outcomes.as_slice(),
            Ended::Failed(_) | Ended::Dropped => &[],
        };
        for (n, claim) in claims.iter().enumerate() {
            let known = match (outcomes.get(n), ended) {
                (Some(Outcome::Spooled | Outcome::Dropped), _) => Known::Unknown,
                (Some(outcome), _) => Known::Told(*outcome),
                (None, Ended::Failed(error)) if error.outcome() == UpdateOutcome::NotApplied => {
                    Known::NotApplied
                }
                (None, _) => Known::Unknown,
            };
            if let Known::Told(outcome) = known {
                let (subject, rank) = (claim.subject(), claim.rank());
                let before = self.highest.get(subject).copied();
                if matches!(outcome, Outcome::Applied { .. }) && before >= Some(rank) {
                    return Err(format!(
                        "{outcome:?} is told of {rank:?}, and {before:?} was before"
                    ));
                }
                self.highest
                    .insert(subject.clone(), before.max(Some(rank)).unwrap_or(rank));
            }
            self.played.said.push(Said {
                claim: claim.clone(),
                known,
            });
        }
        Ok(())
    }

    /// Read your writes: what was told to be there is there, or something further.
    fn reads<T>(
        &self,
        subject: &Subject,
        ended: Ended<T>,
        rank: impl FnOnce(T) -> Option<Rank>,
    ) -> Result<(), String> {
        let Ended::Told(answer) = ended else { return Ok(()) };
        let (found, told) = (rank(answer), self.highest.get(subject).copied());
        if found < told {
            return Err(format!(
                "read your writes: {found:?} is found where {told:?} was told"
            ));
        }
        Ok(())
    }
}

/// All that is in a store that nobody writes to any more but calls that were dropped: the history by key, and that
/// each row is the fold of it.
pub(super) async fn settled(backend: &Arc<dyn PersistBackend>) -> Result<Vec<persist_core::Event>, String> {
    let history = || walk::events(backend, EventQuery::default().limit(1_000));
    let looking = async {
        loop {
            let before = history().await?;
            let fold = crate::case::fold_holds(backend).await;
            if before == history().await? {
                return fold.map(|()| before);
            }
        }
    };
    match tokio::time::timeout(process::BOUND, looking).await {
        Ok(found) => found.map_err(|stop| format!("{stop:?}")),
        Err(_) => Err("bounded: the store does not come to rest".into()),
    }
}
