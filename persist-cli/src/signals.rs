//! Ending in order: the first signal asks, the second ends at once; and the end of who reads.

use tokio::sync::watch;

use crate::talk;

const ASKED: &str = "stopping after what is in flight; once more to end at once";

/// The number of the signal that asked to stop, once one came.
pub(crate) type Stop = watch::Receiver<Option<u8>>;

/// From now on SIGINT and SIGTERM ask instead of ending the program.
#[cfg(unix)]
pub(crate) fn listen() -> std::io::Result<Stop> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (ask, stop) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            if ask.borrow().is_some() {
                std::process::exit(128 + i32::from(number));
            }
            talk::say(ASKED);
            ask.send_replace(Some(number));
        }
    });
    Ok(stop)
}

/// From now on ctrl-c asks instead of ending the program.
#[cfg(not(unix))]
pub(crate) fn listen() -> std::io::Result<Stop> {
    let (ask, stop) = watch::channel(None);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if ask.borrow().is_some() {
                std::process::exit(130);
            }
            talk::say(ASKED);
            ask.send_replace(Some(2));
        }
    });
    Ok(stop)
}

/// Ends when nobody reads the output any more, also while there is nothing to print. Never, where that can't be known.
#[cfg(unix)]
pub(crate) async fn unread() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    let (gone, told) = tokio::sync::oneshot::channel();
    // Of the program's length: nothing ends its waiting but what it waits for.
    std::thread::spawn(move || {
        let output = std::io::stdout();
        // That the other end went is told without being asked for.
        let mut ends = [PollFd::new(&output, PollFlags::empty())];
        let mut polled = poll(&mut ends, None);
        while polled == Err(Errno::INTR) {
            polled = poll(&mut ends, None);
        }
        if polled.is_ok() {
            // Who waited may have ended for another reason.
            let _ = gone.send(());
        }
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Ends when nobody reads the output any more: it is known at the next line only.
#[cfg(not(unix))]
pub(crate) async fn unread() {
    std::future::pending::<()>().await;
}
