//! Who is alive, and what is left alone.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use persist_core::{
    Heartbeat, JobState, Orphan, OrphanKind, OrphanQuery, Owner, Owners, Page, Result, State as SubjectState,
    Subject, Timestamp, VmKey, time,
};
use uuid::Uuid;

use crate::backend::MemoryBackend;
use crate::state::{Line, State};

#[async_trait]
impl Owners for MemoryBackend {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        let store = self.store("heartbeat")?;
        let beat = beat.check().map_err(|error| error.during("heartbeat"))?;
        let now = self.now("heartbeat")?;
        let owners = &mut store.state.lock().owners;
        let told = heartbeat(owners, &beat, now);
        told.map_err(|error| error.during("heartbeat"))
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        let store = self.store("owners")?;
        let now = self.now("owners")?;
        let owners = &store.state.lock().owners;
        Ok(owners.values().map(|owner| seen_at(owner, now)).collect())
    }

    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        let store = self.store("orphans")?;
        let query = query.check().map_err(|error| error.during("orphans"))?;
        let now = self.now("orphans")?;
        page(&store.state.lock(), &query, now)
    }
}

fn seen_at(owner: &Owner, now: Timestamp) -> Owner {
    let Owner {
        actor,
        epoch,
        started_at,
        beat_at,
        valid_until,
        ..
    } = owner.clone();
    Owner::new(actor, epoch, started_at, beat_at, valid_until, now)
}

fn heartbeat(owners: &mut BTreeMap<String, Owner>, beat: &Heartbeat, now: Timestamp) -> Result<Owner> {
    let started_at = match owners.get(&beat.actor) {
        Some(owner) if beat.epoch < owner.epoch => return Err(beat.overtaken()),
        // A clock that was set back takes the start back with it.
        Some(owner) if beat.epoch == owner.epoch => owner.started_at.min(now),
        _ => now,
    };
    let valid_until = time::normalize("valid_for", now + beat.valid_for)?;
    let owner = Owner::new(beat.actor.clone(), beat.epoch, started_at, now, valid_until, now);
    owners.insert(beat.actor.clone(), owner.clone());
    Ok(owner)
}

/// A page of a checked query.
fn page(state: &State, query: &OrphanQuery, now: Timestamp) -> Result<Page<Orphan>> {
    let after = query.position()?;
    let (id, name) = after.as_ref().map_or((Uuid::nil(), ""), Subject::key);
    let most = query.limit as usize + 1;
    let wanted = |(subject, line): (Subject, &Line)| {
        let orphan = orphan(state, subject, line, now)?;
        let by_actor = query.actor.is_none() || query.actor == orphan.actor;
        let is_settled = orphan.recorded_at + query.grace <= now;
        (by_actor && is_settled && query.wants(&orphan.kinds)).then_some(orphan)
    };
    let jobs = state.jobs.from(Bound::Excluded(id));
    let jobs = jobs.map(|(id, line)| (Subject::Job(*id), line));
    let vms = state.vms.from(Bound::Excluded(VmKey::new(id, name)));
    let vms = vms.map(|(key, line)| (Subject::Vm(key.clone()), line));
    let mut orphans: Vec<_> = jobs.filter_map(wanted).take(most).collect();
    orphans.extend(vms.filter_map(wanted).take(most));
    orphans.sort_by(|a, b| a.subject.cmp(&b.subject));
    orphans.truncate(most);
    Ok(Page::from_overread(orphans, query.limit, |orphan| {
        query.cursor(orphan)
    }))
}

/// The orphan that a live line is, if for any reason at all.
fn orphan(state: &State, subject: Subject, line: &Line, now: Timestamp) -> Option<Orphan> {
    let row = &line.row;
    if row.state.is_ended() {
        return None;
    }
    let current = &line.slots[line.place(row.rank).ok()?];
    let actor = current.slot().actor;
    let owner = actor.as_ref().and_then(|actor| state.owners.get(actor));
    let is_gone = owner.is_some_and(|owner| !seen_at(owner, now).sees_to(current.recorded_at));
    let id = subject.request_id();
    let is_live = |line: &Line| !line.row.state.is_ended();
    let without_job = subject.is_vm() && !state.jobs.get(&id).is_some_and(is_live);
    let without_vm = row.state == SubjectState::Job(JobState::Running) && {
        let mut vms = state.vms_of(id).map(|(_, vm)| is_live(vm)).peekable();
        vms.peek().is_some() && !vms.any(|is_live| is_live)
    };
    let kinds = OrphanKind::of([is_gone, without_job, without_vm]);
    let attempt = row.rank.attempt();
    (!kinds.is_empty()).then(|| Orphan::new(subject, row.state, attempt, kinds, actor, current.recorded_at))
}
