//! What one writes with tokio-rusqlite: a process of its own, for it wants another rusqlite than ours.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use super::store::Store;
use crate::contest::Contender;
use crate::slice::Slice;

pub(crate) struct TokioRusqlite {
    pub(crate) program: PathBuf,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
}

/// Builds the package beside this one, optimised or not as this is. Says where its program is.
///
/// # Panics
/// If it can't be built.
pub(crate) async fn build() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tokio-rusqlite");
    let is_debug = cfg!(debug_assertions);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--message-format=json",
        "--manifest-path",
    ]);
    cargo.arg(package.join("Cargo.toml"));
    cargo.args((!is_debug).then_some("--release"));
    // Not the folder of whoever runs this: its lock may be held.
    cargo.arg("--target-dir").arg(package.join("target"));
    cargo.stderr(Stdio::inherit());
    let built = cargo.output().await.expect("cargo runs");
    assert!(built.status.success(), "{} is not built", package.display());
    let messages = String::from_utf8_lossy(&built.stdout);
    let mut messages = messages.lines().map(serde_json::from_str::<serde_json::Value>);
    let program = messages.find_map(|message| Some(message.ok()?["executable"].as_str()?.to_owned()));
    program.expect("cargo says where the program is").into()
}

#[async_trait]
impl Contender for TokioRusqlite {
    fn name(&self) -> String {
        "tokio-rusqlite, a transaction per update".into()
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        let store = Store::plain().await;
        let output = Command::new(&self.program)
            .arg(store.file())
            .args([self.callers.to_string(), self.length.as_millis().to_string()])
            .output()
            .await
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut numbers = text.lines().map(|line| line.parse::<u32>().expect("a number"));
        let took = Duration::from_micros(numbers.next().expect("how long it took").into());
        let slice = Slice::of(numbers.collect(), took);
        store.check(slice.done);
        slice
    }
}
