//! The background task that turns persistence on again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use persist_core::{Error, ErrorKind};
use tokio::sync::watch;
use tokio::time::Instant;

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
    warned: Option<Instant>,
}

impl Outages {
    pub(crate) fn new() -> Self {
        Self {
            delays: backoff(),
            warned: None,
        }
    }

    fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(LONGEST)
    }

    /// A write was stored: the next outage is a new one.
    pub(crate) fn end(&mut self) {
        self.delays = backoff();
    }

    /// Whether it is time for a line. True once in each interval.
    pub(crate) fn is_to_warn(&mut self) -> bool {
        let is_due = self
            .warned
            .is_none_or(|warned| warned.elapsed() >= BETWEEN_WARNINGS);
        if is_due {
            self.warned = Some(Instant::now());
        }
        is_due
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
