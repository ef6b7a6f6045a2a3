//! Postgres: our callers against pgbench, plain SeaORM, and a transaction by hand; and the server's own limit.

mod by_hand;
mod ours;
mod pgbench;

use std::sync::Arc;

use persist_tests::cluster::{Cluster, Options as ClusterOptions};

use crate::Options;
use crate::contest::{Contender, Verdict, contest};
use by_hand::{SeaOrm, Sqlx};
use ours::{Load, Ours, Reads};
use pgbench::{Pgbench, Script};

/// A server of its own, and a database with our schema.
pub(crate) struct Server {
    // Stopped when the last contender is gone.
    _cluster: Cluster,
    url: String,
}

impl Server {
    async fn start() -> Arc<Self> {
        let settings = [
            ("shared_buffers", "512MB"),
            ("max_wal_size", "4GB"),
            ("max_connections", "200"),
        ];
        let options = settings
            .iter()
            .fold(ClusterOptions::default(), |options, (name, value)| {
                options.setting(name, value)
            });
        let cluster = Cluster::start(&options);
        let url = cluster.fresh_database_url().await;
        let server = Arc::new(Self {
            _cluster: cluster,
            url,
        });
        // Makes the tables.
        let persist = server.persist().await;
        persist.close().await.expect("it closes");
        server
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

/// Runs the contests of Postgres.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let server = Server::start().await;
    let length = options.slice();
    let ours = |callers, load| -> Box<dyn Contender> {
        Box::new(Ours {
            server: Arc::clone(&server),
            callers,
            length,
            load,
        })
    };
    let pgbench = |clients, script| -> Box<dyn Contender> {
        Box::new(Pgbench {
            server: Arc::clone(&server),
            clients,
            length,
            script,
        })
    };
    let mut verdicts = Vec::new();
    for callers in [64, 1_024] {
        let mut contenders = vec![ours(callers, Load::Uniform)];
        for clients in [8, 16, 32, 64] {
            contenders.push(pgbench(clients, Script::One));
        }
        for tuned in [false, true] {
            contenders.push(Box::new(SeaOrm {
                server: Arc::clone(&server),
                callers,
                length,
                tuned,
            }));
        }
        contenders.push(Box::new(Sqlx {
            server: Arc::clone(&server),
            callers,
            length,
        }));
        verdicts.push(contest("pg-callers", callers, options.rounds, contenders).await);
    }
    let alone = vec![ours(1, Load::Uniform), pgbench(1, Script::One)];
    verdicts.push(contest("pg-alone", 1, options.rounds, alone).await);
    let bulk = vec![
        ours(1_024, Load::Lives),
        pgbench(1, Script::Batch),
        pgbench(2, Script::Batch),
        pgbench(4, Script::Batch),
    ];
    verdicts.push(contest("pg-bulk", 1_024, options.rounds, bulk).await);
    let hot = vec![ours(1_024, Load::Hot), ours(1_024, Load::Uniform)];
    verdicts.push(contest("pg-hot", 1_024, options.rounds, hot).await);
    for callers in [1, 16] {
        let reads: Vec<Box<dyn Contender>> = vec![
            Box::new(Reads {
                server: Arc::clone(&server),
                callers,
                length,
            }),
            pgbench(callers as u32, Script::Read),
        ];
        verdicts.push(contest("pg-point", callers, options.rounds, reads).await);
    }
    verdicts
}
