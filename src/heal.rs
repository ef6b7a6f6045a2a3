//! The background task that turns persistence on again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use persist_core::{Error, ErrorKind};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connector::Connector;
use crate::switch::Switch;

const LONGEST: Duration = Duration::from_secs(30);
/// One line per interval while the database is away, however often it is tried.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

pub(crate) fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Tries until the switch is on again, closed or dropped. Holds no handle between tries, and each try is a task
/// of its own: a panic in a driver is one more failure.
pub(crate) async fn heal(switch: Weak<Switch>, connector: Arc<Connector>, mut stop: watch::Receiver<bool>) {
    let mut delays = backoff();
    let mut warned = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(delays.next().unwrap_or(LONGEST)) => {}
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
            Err(error) => {
                switch.still_away(&error);
                if warned.elapsed() >= BETWEEN_WARNINGS {
                    warned = Instant::now();
                    let (dropped, unknown) = switch.counts();
                    tracing::warn!(
                        kind = error.kind().name(),
                        dropped,
                        unknown,
                        "the database is still away"
                    );
                }
            }
        }
    }
}
