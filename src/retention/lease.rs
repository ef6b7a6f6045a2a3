//! One runner at a time: it says by heartbeats that it is at work.

use std::time::Duration;

use persist_core::{Clock, Error, ErrorKind, Heartbeat, Owner, Owners, Pruned, Result, Retry};
use tokio::time::Instant;

use super::RETENTION_ACTOR;

/// How often a runner that rests asks whether it is to go on.
const LOOK: Duration = Duration::from_millis(250);

/// What the last beat of a run is good for.
const ENDED: Duration = *persist_core::HEARTBEAT.start();

/// For how long a runner that was killed keeps others away: two batches that take their whole deadline.
const LEASE: Duration = Duration::from_secs(20);

/// That this runner is the one.
pub(super) struct Lease<'o> {
    owners: Option<&'o dyn Owners>,
    epoch: u64,
}

impl<'o> Lease<'o> {
    pub(super) async fn take(owners: Option<&'o dyn Owners>, clock: &dyn Clock) -> Result<Self> {
        let Some(beaten) = owners else {
            return Ok(Self {
                owners: None,
                epoch: 0,
            });
        };
        let others = match beaten.list().await {
            Ok(others) => others,
            // Made before there were heartbeats: nobody else is guarded either.
            Err(error) if error.kind() == ErrorKind::SchemaMismatch => {
                return Ok(Self {
                    owners: None,
                    epoch: 0,
                });
            }
            Err(error) => return Err(error),
        };
        let last = others.iter().find(|owner| owner.actor == RETENTION_ACTOR);
        if let Some(owner) = last.filter(|owner| owner.alive && !has_ended(owner)) {
            return Err(busy(owner));
        }
        let now = u64::try_from(clock.now().timestamp_micros()).unwrap_or_default();
        let lease = Self {
            owners,
            // Above the one before, whatever its clock was, and not that of another who begins at the same time.
            epoch: last.map_or(now, |owner| now.max(owner.epoch + 1)) + chance(),
        };
        lease.beat(LEASE).await?;
        Ok(lease)
    }

    /// Says that it is still there while a batch is at work, which may look at much before it finds any.
    pub(super) async fn during<T>(&self, batch: impl Future<Output = Result<T>>) -> Result<T> {
        let mut batch = std::pin::pin!(batch);
        loop {
            match tokio::time::timeout(LEASE / 4, &mut batch).await {
                Ok(done) => return done,
                Err(_) => self.beat_on().await?,
            }
        }
    }

    /// One more beat. One that does not come through is no end: the lease outlasts three.
    async fn beat_on(&self) -> Result<()> {
        match self.beat(LEASE).await {
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "a beat of retention did not come through");
                Ok(())
            }
            beaten => beaten,
        }
    }

    /// Rests, and says that it is still there. Whether to go on then.
    pub(super) async fn rest(
        &self,
        time: Duration,
        each: &mut impl FnMut(Option<&Pruned>) -> bool,
    ) -> Result<bool> {
        let end = Instant::now() + time;
        self.beat_on().await?;
        let mut beaten = Instant::now();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(LOOK)).await;
            if !each(None) {
                return Ok(false);
            }
            if left <= LOOK {
                return Ok(true);
            }
            if beaten.elapsed() >= LEASE / 4 {
                self.beat_on().await?;
                beaten = Instant::now();
            }
        }
    }

    async fn beat(&self, valid_for: Duration) -> Result<()> {
        let Some(owners) = self.owners else { return Ok(()) };
        let beat = Heartbeat::new(RETENTION_ACTOR, self.epoch).valid_for(valid_for);
        match owners.heartbeat(&beat).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let what = "another retention has taken over";
                let taken_over = Error::new(ErrorKind::Busy, what).retry_as(Retry::Never);
                Err(taken_over.caused_by(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the next one in, by a beat that is good for the shortest time. Where that fails it comes in when the lease has run out.
    pub(super) async fn end(&self) {
        let _ = self.beat(ENDED).await;
    }
}

/// A number that another runner hardly has.
fn chance() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8) % 1_000_000
}

/// Whether its last beat was its goodbye.
fn has_ended(owner: &Owner) -> bool {
    (owner.valid_until - owner.beat_at)
        .to_std()
        .is_ok_and(|valid_for| valid_for <= ENDED)
}

fn busy(owner: &Owner) -> Error {
    let until = persist_core::time::format(owner.valid_until);
    let what = format!("another retention is at work, until {until} if it does not say more");
    Error::new(ErrorKind::Busy, what).during("prune")
}
