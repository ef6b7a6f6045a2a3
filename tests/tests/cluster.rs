//! The clusters that the tests start are there, sync to disk, and leave nothing behind.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use persist_tests::cluster::{self, Cluster, Options, Stop};
use persist_tests::process::{self, Running};
use sqlx::Row as _;

/// Makes this program start a cluster and wait, instead of testing.
const ROLE: &str = "PERSIST_TEST_HOLDS_A_CLUSTER";

async fn setting(url: &str, name: &str) -> String {
    let mut connection = cluster::connect(url).await;
    let row = sqlx::query("SELECT current_setting($1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn the_shared_cluster_syncs_and_gives_schemas_and_databases() {
    let cluster = cluster::shared();
    let url = cluster.fresh_database_url().await;
    assert_eq!(setting(&url, "fsync").await, "on");
    assert_eq!(setting(&url, "server_version_num").await.len(), 6);
    assert_ne!(cluster.fresh_schema_url(), cluster.fresh_schema_url());
    assert!(cluster.fresh_schema_url().parse::<persist_core::DbUrl>().is_ok());
}

#[tokio::test]
async fn an_own_cluster_stops_resumes_asks_passwords_and_goes_when_dropped() {
    let options = Options::default()
        .password("s3cret word")
        .setting("max_connections", "20");
    let cluster = Cluster::start(&options);
    let url = cluster.url("postgres");
    assert_eq!(setting(&url, "max_connections").await, "20");
    let before = cluster.postmaster();
    cluster.restart(Stop::Fast);
    cluster.restart(Stop::Immediate);
    assert_ne!(before, cluster.postmaster());
    cluster.kill();
    cluster.resume();
    assert_eq!(setting(&url, "password_encryption").await, "scram-sha-256");
    let refused = cluster.url_for("postgres", "wrong", "postgres");
    let refused = <sqlx::PgConnection as sqlx::Connection>::connect(&refused).await;
    assert!(refused.is_err(), "a wrong password is refused");
    let (folder, server) = (cluster.folder().to_owned(), cluster.postmaster());
    drop(cluster);
    is_gone(&folder, server);
}

#[test]
fn nothing_stays_after_sigkill_of_the_tests() {
    if std::env::var_os(ROLE).is_some() {
        hold_a_cluster();
    }
    let this = std::env::current_exe().unwrap();
    let arguments = [
        "--exact",
        "nothing_stays_after_sigkill_of_the_tests",
        "--nocapture",
    ];
    let mut child = Running::start(Command::new(this).args(arguments).env(ROLE, "1"));
    let line =
        std::iter::from_fn(|| child.line()).find_map(|line| Some(line.split_once("cluster ")?.1.to_owned()));
    let line = line.expect("the child tells of its cluster");
    let (server, folder) = line.split_once(' ').unwrap();
    let (server, folder): (u32, _) = (server.parse().unwrap(), PathBuf::from(folder));
    assert!(process::is_alive(server) && folder.is_dir());
    // A frozen server is stopped too.
    process::signal(server, "STOP");
    child.kill();
    is_gone(&folder, server);
}

fn hold_a_cluster() -> ! {
    let cluster = Cluster::start(&Options::default());
    println!("cluster {} {}", cluster.postmaster(), cluster.folder().display());
    loop {
        std::thread::park();
    }
}

fn is_gone(folder: &Path, server: u32) {
    process::until_blocking("server and folder are gone", || {
        !process::is_alive(server) && !folder.exists()
    });
}
