//! A TCP proxy between a client and the server that cuts, stalls and slows connections, and counts messages.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::frames::Frames;
pub use crate::frames::STARTUP;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    passed: [AtomicU64; 2],
    /// How many messages of each letter.
    messages: [Mutex<HashMap<u8, u64>>; 2],
    /// Cuts everything when so many bytes have passed this way; `u64::MAX` for never.
    cut_at: [AtomicU64; 2],
    /// Takes bytes and passes none on, without a word.
    silent: AtomicBool,
    /// Counts how often all connections were forgotten: those of before are silent.
    age: AtomicU64,
    /// Milliseconds between bytes.
    pause: AtomicU64,
    cuts: watch::Sender<u64>,
    /// The port of the server that new connections lead to.
    server: AtomicU16,
}

impl Proxy {
    /// Starts one before the server of this port.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("is bound").port();
        let state = Arc::new(State {
            passed: Default::default(),
            messages: Default::default(),
            cut_at: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
            silent: AtomicBool::new(false),
            age: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            server: AtomicU16::new(server),
        });
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, Arc::clone(&state)));
                }
            }
        });
        Self { port, state, task }
    }

    /// The same URL, through the proxy.
    ///
    /// # Panics
    /// If it is no URL.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("the tests make well-formed URLs");
        url.set_port(Some(self.port)).expect("has a host");
        url.into()
    }

    /// How many bytes have passed this way.
    pub fn passed(&self, way: Way) -> u64 {
        self.state.passed[way as usize].load(Ordering::SeqCst)
    }

    /// How many messages of this letter have passed this way, on connections without TLS; [`STARTUP`] for those that
    /// began a connection. A client's `S` (Sync) and `Q` (Query) each begin a round trip, which ends with the server's
    /// `Z` (ReadyForQuery).
    pub fn messages(&self, way: Way, letter: u8) -> u64 {
        let messages = self.state.messages[way as usize].lock();
        messages.get(&letter).copied().unwrap_or(0)
    }

    /// Cuts all connections when so many more bytes have passed this way; once.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.state.cut_at[way as usize].store(self.passed(way) + bytes, Ordering::SeqCst);
    }

    /// Forgets a cut that did not come.
    pub fn heal(&self) {
        for cut_at in &self.state.cut_at {
            cut_at.store(u64::MAX, Ordering::SeqCst);
        }
    }

    /// Leads new connections to the server of this port, and cuts the others.
    pub fn lead_to(&self, server: u16) {
        self.state.server.store(server, Ordering::SeqCst);
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Passes nothing on from now on, or passes on again; what came in between is lost with its connections.
    pub fn silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Passes nothing on any more of the connections that there are, and tells nobody: as a firewall that forgot them.
    pub fn forget(&self) {
        self.state.age.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits so long before each piece.
    pub fn slow(&self, pause: Duration) {
        self.state.pause.store(pause.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn serve(client: TcpStream, state: Arc<State>) {
    let server = state.server.load(Ordering::SeqCst);
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut cut = state.cuts.subscribe();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = cut.changed() => {}
        _ = pass(from_client, to_server, Way::There, &state) => {}
        _ = pass(from_server, to_client, Way::Back, &state) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, state: &State) -> io::Result<()> {
    let age = state.age.load(Ordering::SeqCst);
    let mut buffer = vec![0; 64 * 1024];
    let mut frames = Frames::new(way == Way::There);
    loop {
        let pause = state.pause.load(Ordering::SeqCst);
        // Slow means small pieces too.
        let most = if pause > 0 { 16 } else { buffer.len() };
        let read = from.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Ok(());
        }
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if state.silent.load(Ordering::SeqCst) || state.age.load(Ordering::SeqCst) != age {
            continue;
        }
        let passed = &state.passed[way as usize];
        let left = state.cut_at[way as usize].load(Ordering::SeqCst) - passed.load(Ordering::SeqCst);
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(read);
        // Before it arrives, so that whoever has an answer finds it counted.
        frames.feed(&buffer[..piece], |letter| {
            *state.messages[way as usize].lock().entry(letter).or_default() += 1;
        });
        to.write_all(&buffer[..piece]).await?;
        passed.fetch_add(piece as u64, Ordering::SeqCst);
        if piece as u64 == left {
            state.cut_at[way as usize].store(u64::MAX, Ordering::SeqCst);
            state.cuts.send_modify(|cuts| *cuts += 1);
            return Ok(());
        }
    }
}
