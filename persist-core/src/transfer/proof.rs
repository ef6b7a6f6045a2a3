//! Source and target side by side: every slot of the one must stand in the other.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use uuid::Uuid;

use super::{Conflict, Place, Progress, Transfer, Transferred, note};
use crate::attributes::Attribute;
use crate::error::{ErrorKind, Result};
use crate::event::{Event, EventQuery};
use crate::ext::PersistExt as _;
use crate::limits::LARGEST_PAGE;
use crate::listing::Listing;

/// How often a job whose slots were copied again is looked at until it is said to be unproven: it may be written meanwhile.
const LOOKS: u32 = 8;

/// How a slot of the target stands beside that of the source.
#[derive(Debug, PartialEq, Eq)]
enum Beside {
    /// It says the same.
    Same,
    /// It says the same, and more.
    More,
    /// It lacks something.
    Lacks,
    /// It says something else in this column.
    Differs(&'static str),
}

fn beside(source: &Event, target: &Event) -> Beside {
    if source.state != target.state {
        return Beside::Differs("state");
    }
    if source.at != target.at {
        return Beside::Differs("at");
    }
    let texts = [
        ("actor", source.actor.as_deref(), target.actor.as_deref()),
        ("reason", source.reason.as_deref(), target.reason.as_deref()),
    ];
    let attributes = Attribute::ALL.map(|attribute| {
        let (source, target) = (source.attributes.get(attribute), target.attributes.get(attribute));
        (attribute.name(), source, target)
    });
    let (mut lacks, mut more) = (false, false);
    for (column, source, target) in texts.into_iter().chain(attributes) {
        match (source, target) {
            (Some(source), Some(target)) if source != target => return Beside::Differs(column),
            (Some(_), None) => lacks = true,
            (None, Some(_)) => more = true,
            _ => {}
        }
    }
    match (lacks, more) {
        (true, _) => Beside::Lacks,
        (false, true) => Beside::More,
        (false, false) => Beside::Same,
    }
}

/// Conflicts that are told one by one; what is beyond is counted.
const MOST_TOLD: usize = 10_000;
/// How often all is compared, while something is copied again each time.
const PASSES: u32 = 3;

/// Compares all slots; those that are missing are copied again, and then all is compared once more. What is copied again in the
/// last pass is of jobs that are written meanwhile: these are looked at one by one.
pub(super) async fn prove(
    transfer: &Transfer<'_>,
    place: &mut Place,
    mark: Option<&str>,
    done: &mut Transferred,
    each: &mut (impl FnMut(Progress) + Send),
) -> Result<()> {
    for left in (0..PASSES).rev() {
        let before = done.again;
        let again = pass(transfer, done, each).await?;
        // What came since the walk began is not in it. What was copied already may be told late.
        let brought = |done: &Transferred| done.applied + done.late + done.filled + done.refused;
        let known = brought(done);
        let quiet = match transfer.rest(place, mark, done, each).await {
            // What was pruned needs no copy; what came beside it is for the next run, which begins anew.
            Err(error) if error.kind() == ErrorKind::Lagged => false,
            rest => {
                rest?;
                brought(done) == known
            }
        };
        if again.is_empty() || left == 0 {
            done.equal &= quiet && done.extra == 0 && done.again == before && done.conflicting == 0;
            for (nth, id) in (1..).zip(again) {
                done.unproven += u64::from(!one(transfer, id, done).await?);
                each(Progress {
                    doing: "looking again at jobs",
                    slots: nth,
                });
            }
            done.proven = done.conflicting == 0 && done.unproven == 0;
            return Ok(());
        }
    }
    Ok(())
}

/// The jobs of which something was missing, and was copied again.
async fn pass(
    transfer: &Transfer<'_>,
    done: &mut Transferred,
    each: &mut (impl FnMut(Progress) + Send),
) -> Result<BTreeSet<Uuid>> {
    let mut source = Listing::new(transfer.from.all_events(EventQuery::default()));
    let mut target = Listing::new(transfer.to.all_events(EventQuery::default()));
    let (mut missing, mut again) = (Vec::new(), BTreeSet::new());
    (done.compared, done.extra, done.equal) = (0, 0, true);
    done.conflicting = 0;
    done.conflicts.clear();
    while let Some(event) = source.peek().await? {
        let key = (event.subject.clone(), event.rank);
        while target
            .peek()
            .await?
            .is_some_and(|other| (&other.subject, other.rank) < (&key.0, key.1))
        {
            target.take();
            done.extra += 1;
        }
        let Some(event) = source.take() else { break };
        let other = match target.peek().await? {
            Some(other) if (&other.subject, other.rank) == (&key.0, key.1) => target.take(),
            _ => None,
        };
        done.compared += 1;
        match other.map_or(Beside::Lacks, |other| beside(&event, &other)) {
            Beside::Same => {}
            Beside::More => done.equal = false,
            Beside::Lacks => {
                again.insert(event.subject.request_id());
                missing.push(event);
            }
            Beside::Differs(column) => {
                done.conflicting += 1;
                if done.conflicts.len() < MOST_TOLD {
                    done.conflicts.push(Conflict::new(&event, column));
                }
            }
        }
        if missing.len() == LARGEST_PAGE as usize {
            send_again(transfer, &mut missing, done).await?;
        }
        if done.compared.is_multiple_of(u64::from(LARGEST_PAGE)) {
            each(Progress {
                doing: "proving",
                slots: done.compared,
            });
        }
    }
    while target.peek().await?.is_some() {
        target.take();
        done.extra += 1;
    }
    send_again(transfer, &mut missing, done).await?;
    Ok(again)
}

async fn send_again(transfer: &Transfer<'_>, missing: &mut Vec<Event>, done: &mut Transferred) -> Result<()> {
    let outcomes = transfer.send(missing).await?;
    note(done, &outcomes);
    done.again += missing.len() as u64;
    missing.clear();
    Ok(())
}

/// Whether all slots of a job and its VMs stand in the target; what came meanwhile is copied.
async fn one(transfer: &Transfer<'_>, id: Uuid, done: &mut Transferred) -> Result<bool> {
    let query = EventQuery::default().request_id(id);
    for _ in 0..LOOKS {
        // The target first: what it is found to lack was in the source.
        let target: Vec<_> = transfer.to.all_events(query.clone()).try_collect().await?;
        let source: Vec<_> = transfer.from.all_events(query.clone()).try_collect().await?;
        let mut missing = Vec::new();
        for event in source {
            let other = target
                .iter()
                .find(|other| (&other.subject, other.rank) == (&event.subject, event.rank));
            match other.map_or(Beside::Lacks, |other| beside(&event, other)) {
                Beside::Same | Beside::More => {}
                Beside::Lacks => missing.push(event),
                Beside::Differs(_) if done.conflicts.iter().any(|known| known.is_of(&event)) => {}
                // It came meanwhile, and is told by the next run.
                Beside::Differs(_) => return Ok(false),
            }
        }
        if missing.is_empty() {
            return Ok(true);
        }
        send_again(transfer, &mut missing, done).await?;
    }
    Ok(false)
}
