//! `make demo`: its script runs for real, with programs that are built already.

#[path = "serve/asked.rs"]
mod asked;

use std::path::Path;
use std::process::Command;

use asked::get;
use persist_tests::process::{self, Running};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_its_jobs_and_ends_with_sigint_leaving_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Where the tests themselves ignore SIGINT, as whatever a shell runs in the background does, the script would too, and a shell
    // can't trap what it was born to ignore. What is caught here is not ignored by children.
    let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
    // Also built, or nothing would be proven of the script's own way to it.
    let _ = process::example("orchestrator");
    let programs = process::cli().parent().unwrap().to_owned();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/demo");
    let mut command = Command::new(script);
    process::without_settings(&mut command);
    command
        .env("DEMO_PROGRAMS", programs)
        .env("DEMO_LISTEN", "127.0.0.1:0")
        .env("TMPDIR", folder.path());
    let mut demo = Running::start(&mut command);
    let address = demo.line().expect("it tells its address");
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    assert!(get(&address, "").contains("<title>Jobs · persist</title>"));
    process::until("a job shows", async || {
        get(&address, "api/v1/jobs").contains("\"request_id\"")
    })
    .await;
    process::until("one runs", async || {
        get(&address, "?state=running").contains("data-row=")
    })
    .await;
    assert!(demo.is_running());
    process::signal(demo.id(), "INT");
    let ran = demo.end().ok();
    assert!(ran.stderr.contains("Ctrl-C ends it"), "{}", ran.stderr);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(asked::try_get(&address, "").is_err(), "its pages are gone too");
}
