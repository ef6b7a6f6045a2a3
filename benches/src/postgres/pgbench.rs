//! pgbench: a client in C with one prepared statement; and the server by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use super::script::Script;
use super::server::Server;
use crate::contest::Contender;
use crate::slice::Slice;

pub(crate) struct Pgbench {
    pub(crate) server: Arc<Server>,
    pub(crate) clients: u32,
    pub(crate) length: Duration,
    pub(crate) script: Script,
}

#[async_trait]
impl Contender for Pgbench {
    fn name(&self) -> String {
        self.script.name()
    }

    fn callers(&self) -> u64 {
        self.clients.into()
    }

    async fn slice(&mut self) -> Slice {
        let is_read = matches!(self.script, Script::Read(_));
        if !is_read {
            self.server.fresh().await;
        }
        let folder = tempfile::tempdir().expect("a folder for the script");
        let script = folder.path().join("script.sql");
        std::fs::write(&script, self.script.text(self.clients)).expect("it is written");
        // pgbench counts whole seconds; what is shorter, a smoke test, is a few statements of each client.
        let length = if self.length < Duration::from_secs(1) {
            ["-t".to_owned(), "5".to_owned()]
        } else {
            let seconds = self.length.as_secs_f64().ceil();
            ["-T".to_owned(), seconds.to_string()]
        };
        // As many threads as ours has.
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = threads.min(self.clients as usize).to_string();
        let output = Command::new(persist_tests::server::programs().join("pgbench"))
            .args(["-n", "-M", "prepared", "-D", "n=-1", "-j", &threads, "-c"])
            .arg(self.clients.to_string())
            .args(length)
            .arg("-f")
            .arg(&script)
            .arg(self.server.url())
            .output()
            .await
            .expect("pgbench is there");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "pgbench: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let figure = |before: &str| -> f64 {
            let (_, rest) = text.split_once(before).expect("pgbench tells");
            let word = rest.split([' ', '\n', '/']).next().unwrap_or_default();
            word.parse().expect("a number")
        };
        let statements = figure("number of transactions actually processed: ");
        let done = statements as u64 * self.script.updates();
        if !is_read {
            self.server.check(done).await;
        }
        Slice {
            done,
            took: Duration::from_secs_f64(statements / figure("tps = ")),
            mean_us: figure("latency average = ") * 1_000.0,
            ..Slice::default()
        }
    }
}
