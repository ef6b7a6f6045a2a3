//! The background task that turns persistence on again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use persist_core::layer::OncePer;
use persist_core::{Error, ErrorKind};
use tokio::sync::watch;

use crate::connector::Connector;
use crate::switch::Switch;

const LONGEST: Duration = Duration::from_secs(30);
/// One line per interval while the database is away, however often it is tried.
pub(crate) const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST)
        .without_max_times()
        .with_jitter()
        .build()
}

/// What one outage leaves to the next: a store that answers its probe and then refuses each write, as a full disk
/// makes it, is neither asked nor logged in a tight loop.
#[derive(Debug)]
pub(crate) struct Outages {
    delays: ExponentialBackoff,
    line: OncePer,
    /// Whether a line was written since persistence was on last.
    told: bool,
}

impl Outages {
    pub(crate) fn new() -> Self {
        Self {
            delays: backoff(),
            line: OncePer::new(BETWEEN_WARNINGS),
            told: false,
        }
    }

    fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(LONGEST)
    }

    /// A write was stored: the next outage is a new one.
    pub(crate) fn end(&mut self) {
        self.delays = backoff();
    }

    /// `Some` when it is time for a line, once in each interval: how many were held back since the one before.
    pub(crate) fn line(&mut self) -> Option<u64> {
        let held_back = self.line.pass();
        self.told |= held_back.is_some();
        held_back
    }

    /// Whether a line told of the outage that has ended.
    pub(crate) fn was_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }
}

/// Tries until the switch is on again, closed or dropped. Holds no handle between tries, and each try is a task
/// of its own: a panic in a driver is one more failure.
pub(crate) async fn heal(switch: Weak<Switch>, connector: Arc<Connector>, mut stop: watch::Receiver<bool>) {
    loop {
        let Some(delay) = switch.upgrade().map(|switch| switch.outages.lock().next_delay()) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stop.changed() => return,
        }
        let Some(resting) = switch.upgrade().map(|switch| switch.resting()) else {
            return;
        };
        let trying = Arc::clone(&connector);
        let mut attempt = tokio::spawn(async move { trying.revive(resting).await });
        let revived = tokio::select! {
            revived = &mut attempt => revived.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, "the driver panicked while connecting"))
            }),
            _ = stop.changed() => {
                attempt.abort();
                return;
            }
        };
        let Some(switch) = switch.upgrade() else { return };
        match revived {
            Ok(driver) => return switch.turn_on(driver).await,
            Err(error) => switch.still_away(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand clients that lose one database in the same moment.
    #[test]
    fn r6_many_clients_spread_their_attempts_and_slow_down() {
        const CLIENTS: usize = 1_000;
        const MINUTES: usize = 10;
        let mut attempts = vec![0; MINUTES * 60];
        for _ in 0..CLIENTS {
            let mut at = Duration::ZERO;
            for delay in backoff() {
                // With jitter up to twice the longest.
                assert!(delay <= LONGEST * 2, "{delay:?}");
                at += delay;
                match attempts.get_mut(at.as_secs() as usize) {
                    Some(second) => *second += 1,
                    None => break,
                }
            }
        }
        let all: usize = attempts.iter().sum();
        // At the longest delays a client comes every 45 s, after some ten quicker attempts.
        assert!(all < CLIENTS * (MINUTES * 60 / 30 + 10), "{all} attempts");
        // From the second minute on they are not a crowd any more: 22 a second on the average.
        let most = attempts.iter().skip(60).max().copied().unwrap_or_default();
        assert!(most < CLIENTS / 10, "{most} attempts in one second");
    }
}
