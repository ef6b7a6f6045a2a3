//! From the spool into the database: order does not matter, and twice is harmless.

use persist_core::layer::OncePer;
use persist_core::{Claim, Error, ErrorKind, Outbox, Outcome, PersistBackend, Result, Tried};

use crate::heal::BETWEEN_WARNINGS;

/// Entries of one step: what a flush takes.
const STEP: u32 = persist_core::CHUNK as u32;

/// What replaying came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Entries that the database has, and the spool not any more.
    pub taken: u64,
    /// Those among them that it answered with `Refused`: their slots hold other endings.
    pub refused: u64,
    /// Entries that were put aside, since no database can take them.
    pub dead: u64,
    /// Entries that were passed over and stay: the row that they are about can't be read.
    pub passed_over: u64,
}

impl Replayed {
    pub(crate) fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.refused += other.refused;
        self.dead += other.dead;
        self.passed_over += other.passed_over;
    }
}

/// What replaying says of its updates: a spool may hold a million of a sort.
#[derive(Debug)]
pub(crate) struct Lines {
    dead: OncePer,
    refused: OncePer,
    unkept: OncePer,
}

impl Lines {
    pub(crate) fn new() -> Self {
        let [dead, refused, unkept] = [(); 3].map(|()| OncePer::new(BETWEEN_WARNINGS));
        Self {
            dead,
            refused,
            unkept,
        }
    }
}

/// Which of the two a step failed for.
#[derive(Debug)]
pub(crate) enum Met {
    Database(Error),
    Spool(Error),
}

impl Met {
    pub(crate) fn error(&self) -> &Error {
        match self {
            Self::Database(error) | Self::Spool(error) => error,
        }
    }
}

/// Sends everything that waits to the database, oldest first, and removes what the database has. What no database
/// can take is put aside, and the rest goes on.
///
/// What is refused is kept in the ledger of `backend`: a driver as [`open`](crate::open) gives it. The backend of a `Persist` keeps
/// it by itself, so that it would count twice.
///
/// Cancel-safe, and safe to repeat. `told` hears of the progress after each step.
///
/// # Errors
/// `Unavailable` when the database is another one than that which the entries belong to; whatever the database or the
/// spool's disk says. What was taken until then is.
pub async fn replay(
    outbox: &dyn Outbox,
    backend: &dyn PersistBackend,
    mut told: impl FnMut(&Replayed) + Send,
) -> Result<Replayed> {
    let (mut replayed, mut after) = (Replayed::default(), 0);
    let lines = Lines::new();
    loop {
        let next = step(outbox, backend, after, &mut replayed, &lines).await;
        told(&replayed);
        match next {
            Ok(Some(next)) => after = next,
            Ok(None) => return Ok(replayed),
            Err(Met::Database(error) | Met::Spool(error)) => return Err(error.during("replay")),
        }
    }
}

/// Whether the database is the one that the entries belong to; binds them to it at first contact.
///
/// # Errors
/// `Unavailable`, with the context `bound_to`, when it is another one; whatever asking it and binding meet.
pub(crate) async fn identify(outbox: &dyn Outbox, driver: &dyn PersistBackend) -> Result<(), Met> {
    let health = driver.health().await.map_err(Met::Database)?;
    let nameless = || {
        Error::new(
            ErrorKind::Unsupported,
            "a store without an identity can't have a spool",
        )
    };
    let store = health.instance_id.ok_or_else(nameless).map_err(Met::Database)?;
    outbox.bind(store).await.map_err(|error| {
        if error.context("bound_to").is_some() {
            Met::Database(error)
        } else {
            Met::Spool(error)
        }
    })
}

/// Replays some entries behind this number: the number behind which the next step begins, or `None` at the end.
pub(crate) async fn step(
    outbox: &dyn Outbox,
    driver: &dyn PersistBackend,
    after: u64,
    replayed: &mut Replayed,
    lines: &Lines,
) -> Result<Option<u64>, Met> {
    let entries = outbox.waiting(after, STEP).await.map_err(Met::Spool)?;
    let Some(last) = entries.last().map(|entry| entry.seq) else {
        return Ok(None);
    };
    // Each time: nobody tells when another database takes the place of the one behind a URL.
    identify(outbox, driver).await?;
    let mut readable = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.claim() {
            Ok(claim) => readable.push((entry.seq, claim)),
            Err(error) => bury(outbox, entry.seq, &error, replayed, lines).await?,
        }
    }
    let mut parts = vec![readable];
    while let Some(mut part) = parts.pop() {
        let (seqs, claims): (Vec<u64>, Vec<Claim>) = part.iter().cloned().unzip();
        if claims.is_empty() {
            continue;
        }
        match send(driver, &claims).await {
            Ok(outcomes) => {
                outbox.done(&seqs).await.map_err(Met::Spool)?;
                keep_refused(driver, &claims, &outcomes, lines).await;
                replayed.taken += seqs.len() as u64;
                replayed.refused += tell_refused(&claims, &outcomes, lines);
            }
            // Halved, so that few calls find the one.
            Err(error) if error.is_of_one_claim() && part.len() > 1 => {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                bury(outbox, seqs[0], &error, replayed, lines).await?;
            }
            Err(error) => {
                // The database's error matters more than one of noting it.
                let _ = outbox.failed(&seqs, &error).await;
                if !error.is_of_one_claim() {
                    return Err(Met::Database(error));
                }
                replayed.passed_over += 1;
            }
        }
    }
    Ok(Some(last))
}

/// Nothing but the database's own word counts.
async fn send(driver: &dyn PersistBackend, claims: &[Claim]) -> Result<Vec<Outcome>> {
    let outcomes = driver.apply(claims).await?;
    let is_stored = |outcome: &Outcome| !matches!(outcome, Outcome::Dropped | Outcome::Spooled);
    if outcomes.len() == claims.len() && outcomes.iter().all(is_stored) {
        Ok(outcomes)
    } else {
        Err(Error::new(ErrorKind::Unsupported, "this store keeps nothing").during("apply"))
    }
}

async fn bury(
    outbox: &dyn Outbox,
    seq: u64,
    error: &Error,
    replayed: &mut Replayed,
    lines: &Lines,
) -> Result<(), Met> {
    let kind = error.kind().name();
    let what = "an update of the spool can be stored by no database: it was put aside; see persist spool list --dead";
    match lines.dead.pass() {
        Some(held_back) => tracing::error!(seq, kind, %error, held_back, "{what}"),
        None => tracing::debug!(seq, kind, %error, "{what}"),
    }
    outbox.bury(seq, error).await.map_err(Met::Spool)?;
    replayed.dead += 1;
    Ok(())
}

/// An account that can't be kept fails nothing.
async fn keep_refused(driver: &dyn PersistBackend, claims: &[Claim], outcomes: &[Outcome], lines: &Lines) {
    let tried = Tried::of(claims, outcomes);
    if let Some(ledger) = driver.ledger().filter(|_| !tried.is_empty())
        && let Err(error) = ledger.keep(&tried).await
        && let Some(held_back) = lines.unkept.pass()
    {
        tracing::warn!(kind = error.kind().name(), %error, held_back, "replayed updates were refused, which could not be kept");
    }
}

fn tell_refused(claims: &[Claim], outcomes: &[Outcome], lines: &Lines) -> u64 {
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
    let mut refused = claims
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| is_refused(outcome));
    let Some((first, _)) = refused.next() else {
        return 0;
    };
    let refusals = 1 + refused.count() as u64;
    if let Some(held_back) = lines.refused.pass() {
        let first = first.subject();
        tracing::warn!(refusals, %first, held_back, "replayed updates were refused: their slots hold other endings");
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_steps_came_to_is_their_sum() {
        let step = Replayed {
            taken: 5,
            refused: 3,
            dead: 2,
            passed_over: 7,
        };
        let mut all = step;
        all.add(&step);
        let Replayed {
            taken,
            refused,
            dead,
            passed_over,
        } = all;
        assert_eq!((taken, refused, dead, passed_over), (10, 6, 4, 14));
    }
}
