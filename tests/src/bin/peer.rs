//! A process of the tests that uses persist as an orchestrator does, so that tests can race, freeze and kill it.
//!
//! `start URL` goes through `Persist::new`; `up URL [MILLISECONDS]` migrates, waiting so long for others;
//! `write URL SEED ROUNDS` records random updates of a few subjects; `spool URL PATH` records one job after the other
//! with a spool, from several callers, and tells each outcome. Settings come as arguments, answers are lines
//! on stdout, what the library logs goes to stderr as `RUST_LOG` says.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use persist::{Deadlines, JobQuery, JobState, OnUnavailable, OpenOptions, Persist, Spool, Update};
use persist_tests::contention;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tracing_subscriber::EnvFilter;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["start", url] => start(url).await,
        ["up", url] => up(url, Deadlines::default()).await,
        ["up", url, wait] => match wait.parse() {
            Ok(wait) => {
                let mut deadlines = Deadlines::default();
                deadlines.migration = Duration::from_millis(wait);
                up(url, deadlines).await
            }
            Err(error) => Err(error.into()),
        },
        ["write", url, seed, rounds] => write(url, seed, rounds).await,
        ["spool", url, path] => spool(url, path).await,
        _ => Err("start URL, up URL [MILLISECONDS], write URL SEED ROUNDS or spool URL PATH".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(url: &str) -> Result {
    let persist = Persist::new(Some(url.to_owned())).await?;
    println!("enabled {}", persist.is_enabled());
    if persist.is_enabled() {
        persist.jobs(&JobQuery::default()).await?;
    } else {
        println!(
            "last error {}",
            persist.health().await?.last_error.unwrap_or_default()
        );
    }
    let update = persist::JobUpdate::new(persist_tests::sample::id(7), JobState::Queued);
    println!("outcome {}", persist.record_job_state(update).await?);
    persist.close().await?;
    Ok(())
}

async fn up(url: &str, deadlines: Deadlines) -> Result {
    let mut options = OpenOptions::default();
    options.deadlines = deadlines;
    let backend = persist::open(&url.parse()?, &options).await?;
    println!("opened");
    std::io::stdout().flush()?;
    let schema = backend.schema().ok_or("has no schema")?;
    match schema.up().await {
        Ok(names) => println!("up {}", names.join(" ")),
        Err(error) => println!("refused {} {error}", error.kind().name()),
    }
    backend.close().await?;
    Ok(())
}

async fn write(url: &str, seed: &str, rounds: &str) -> Result {
    let persist = Persist::builder(Some(url.to_owned())).connect().await?;
    println!("ready");
    // Both peers begin together: the test sends a line when all are ready.
    std::io::stdin().read_line(&mut String::new())?;
    let mut random = StdRng::seed_from_u64(seed.parse()?);
    for round in 0..rounds.parse()? {
        let updates: Vec<Update> = contention::updates(round, &mut random);
        let count = updates.len();
        let outcomes = persist.record(updates).await?;
        if outcomes.len() != count {
            return Err("one outcome for each update".into());
        }
    }
    persist.close().await?;
    println!("done");
    Ok(())
}

async fn spool(url: &str, path: &str) -> Result {
    let persist =
        Persist::builder(Some(url.to_owned())).on_unavailable(OnUnavailable::Spool(Spool::new(path)));
    let persist = persist.connect().await?;
    let next = Arc::new(AtomicU64::new(1));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (persist, next) = (persist.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let update = persist_tests::sample::job(number, JobState::Queued);
                    let outcome = persist.record_job_state(update).await?;
                    println!("{number} {outcome} .");
                }
            })
        })
        .collect();
    for caller in callers {
        let ended: persist::Result<()> = caller.await?;
        ended?;
    }
    Ok(())
}
