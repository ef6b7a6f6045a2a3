//! The background task that empties the spool beside live writes.

use std::sync::Weak;

use tokio::sync::watch;

use crate::heal::backoff;
use crate::switch::{Drained, Switch};

/// Takes steps whenever something waits and the database answers, until the switch is closed or dropped. Holds no
/// handle between steps, and each is a task of its own: a panic in a driver is one more failure.
pub(crate) async fn drain(switch: Weak<Switch>, mut stop: watch::Receiver<bool>) {
    let Some(spool) = switch.upgrade().and_then(|switch| switch.spool.clone()) else {
        return;
    };
    let mut delays = backoff();
    let (mut after, mut taken, mut is_left) = (0, 0, false);
    loop {
        let pause = if is_left { delays.next() } else { None };
        let pause = pause.map_or(spool.tick(), |delay| delay.min(spool.tick()));
        tokio::select! {
            () = spool.woken.notified() => {}
            () = tokio::time::sleep(pause) => {
                // Also what was passed over.
                after = 0;
            }
            _ = stop.changed() => return,
        }
        spool.look_at_age();
        loop {
            let Some(switch) = switch.upgrade() else { return };
            let step = tokio::spawn(async move { switch.drain(after).await });
            // A panic is told where it happened.
            match step.await.unwrap_or(Drained::Failed) {
                Drained::Until(next) => after = next,
                Drained::Failed | Drained::Nothing => break,
            }
            if *stop.borrow() {
                return;
            }
        }
        is_left = spool.status().waiting > 0;
        if !is_left || spool.taken() > taken {
            delays = backoff();
        }
        taken = spool.taken();
    }
}
