//! `persist-bench-tokio-rusqlite FILE CALLERS MILLISECONDS`: so many callers, each leading job after job through its
//! life, a transaction for each update. Prints how long it took, then the latency of each update: µs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tokio_rusqlite::Connection;

#[path = "../../src/sqlite/step.rs"]
mod step;
#[path = "../../src/workload.rs"]
#[expect(dead_code, reason = "shared with the bench")]
mod workload;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [file, callers, length] = &arguments[..] else {
        return Err("FILE CALLERS MILLISECONDS".into());
    };
    let (callers, length) = (callers.parse()?, Duration::from_millis(length.parse()?));
    let connection = Connection::open(file).await?;
    connection.call(|connection| step::set_up(connection)).await?;
    let begun = Instant::now();
    let all: Vec<_> = (0..callers)
        .map(|caller| tokio::spawn(lives(connection.clone(), caller, begun + length)))
        .collect();
    let mut latencies = Vec::new();
    for caller in all {
        latencies.extend(caller.await??);
    }
    let mut text = format!("{}\n", begun.elapsed().as_micros());
    for latency in latencies {
        writeln!(text, "{latency}")?;
    }
    print!("{text}");
    connection.close().await?;
    Ok(())
}

async fn lives(
    connection: Connection,
    caller: u64,
    until: Instant,
) -> Result<Vec<u128>, tokio_rusqlite::Error<rusqlite::Error>> {
    let mut latencies = Vec::new();
    for nth in 0.. {
        let asked = Instant::now();
        if asked >= until {
            break;
        }
        let update = workload::life(caller, nth);
        connection
            .call(move |connection| step::step_in_one(connection, update, nth))
            .await?;
        latencies.push(asked.elapsed().as_micros());
    }
    Ok(latencies)
}
