//! The background task that empties the spool beside live writes.

use std::sync::Weak;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::heal::backoff;
use crate::switch::{Drained, Switch};

/// Takes steps whenever something waits and the database answers, until the switch is closed or dropped. Holds no
/// handle between steps, and each is a task of its own: a panic in a driver is one more failure.
pub(crate) async fn drain(switch: Weak<Switch>, mut stop: watch::Receiver<bool>) {
    let Some(spool) = switch.upgrade().and_then(|switch| switch.spool.clone()) else {
        return;
    };
    let mut delays = backoff();
    // How far it ever looked, and what had been taken when it last rested.
    let (mut after, mut reached, mut taken) = (0, 0, 0);
    // When all of it is looked at again, also what was passed over, however often it is woken meanwhile.
    let mut whole = Instant::now() + spool.tick();
    loop {
        let mut is_whole = false;
        tokio::select! {
            // In this order: the end waits for nothing, and what is due for no wake.
            biased;
            _ = stop.changed() => return,
            () = tokio::time::sleep_until(whole) => (after, is_whole) = (0, true),
            () = spool.woken.notified() => {}
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
            spool.look_at_age();
            // Behind that nothing was passed over yet: a whole look is over, also of a spool that has no end.
            if is_whole && after >= reached {
                is_whole = false;
                whole = Instant::now() + spool.tick();
            }
            reached = reached.max(after);
            // What was passed over is not to wait for the end of what keeps coming.
            if !is_whole && Instant::now() >= whole {
                break;
            }
        }
        let is_left = spool.status().waiting > 0;
        if !is_left || spool.taken() > taken {
            delays = backoff();
        }
        taken = spool.taken();
        if is_whole {
            whole = Instant::now() + spool.tick();
        }
        if is_left {
            let pause = delays.next().unwrap_or(spool.tick()).min(spool.tick());
            whole = whole.min(Instant::now() + pause);
        }
    }
}
