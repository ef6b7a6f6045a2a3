//! Connections: so many, none of them idle for ever, and an end that lets answers out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use persist::layer::OncePer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::failure::BETWEEN_WARNINGS;
use crate::patient::Patient;

/// How many connections, and for how long.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Connections {
    /// Most at a time; who comes beyond waits in the listener's queue.
    pub most: usize,
    /// How long one may take for the head of a request, and be idle before it.
    pub head_within: Duration,
    /// How long a write may wait for who asked to take any of it.
    pub write_within: Duration,
    /// How long those that are open may take when the server stops.
    pub stop_within: Duration,
}

/// For pages and probes, beside the live streams.
const BESIDE: usize = 192;

impl Connections {
    /// With room for so many live streams: what else is asked is never shut out by them.
    #[must_use]
    pub fn beside(subscribers: usize) -> Self {
        Self {
            most: subscribers.saturating_add(BESIDE),
            ..Self::default()
        }
    }
}

impl Default for Connections {
    /// 256, 30 s, 30 s and 5 s.
    fn default() -> Self {
        Self {
            most: 256,
            head_within: Duration::from_secs(30),
            write_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(5),
        }
    }
}

/// After an error that is not of one connection, such as no file descriptor left.
const BREATH: Duration = Duration::from_millis(100);
/// Bytes of the head of a request, at most.
const HEAD_BYTES: usize = 32 * 1024;

/// Serves until `stop` ends, then lets answers that are under way out, with the usual [`Connections`].
///
/// # Errors
/// None today: a connection that can't be accepted is told in the log.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
    serve_with(listener, router, Connections::default(), stop).await
}

/// The same with other limits.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.most));
    let open = GracefulShutdown::new();
    let line = OncePer::new(BETWEEN_WARNINGS);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place.ok(), listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let answering = open.watch(answering(stream, router.clone(), &limits));
                tokio::spawn(async move {
                    if let Err(error) = answering.await {
                        tracing::debug!(%error, "a connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // It is tried anew ten times a second.
                match line.pass() {
                    Some(held_back) => {
                        tracing::warn!(%error, held_back, "a connection could not be accepted");
                    }
                    None => tracing::debug!(%error, "a connection could not be accepted"),
                }
                sleep(BREATH).await;
            }
        }
    }
    // Nobody new; those in the listener's queue are told so by its end.
    drop(listener);
    if timeout(limits.stop_within, open.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
    Ok(())
}

type Answering = http1::Connection<TokioIo<Patient<TcpStream>>, TowerToHyperService<Router>>;

fn answering(stream: TcpStream, router: Router, limits: &Connections) -> Answering {
    // An error: it is gone already.
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, limits.write_within);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_room_for_pages() {
        assert_eq!(Connections::beside(64).most, Connections::default().most);
        assert_eq!(Connections::beside(10_000).most, 10_192);
    }
}
