//! Postgres: our callers against pgbench, plain SeaORM, and a transaction by hand; and the server's own limit.

mod by_hand;
mod filled;
mod ours;
mod pgbench;
mod prune;
mod reads;
mod script;
pub(crate) mod server;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::Options;
use crate::contest::{Contender, contest};
use crate::import::UPDATES;
use crate::sweep::{CALLERS, sweep};
use crate::verdict::Verdict;
use by_hand::{SeaOrm, Sqlx};
use filled::Filled;
use ours::{Import, Load, Ours};
use pgbench::Pgbench;
use prune::{Beside, Old};
use reads::{Of, Pages, Points};
use script::Script;
use server::Server;
use watch::{Wanted, Watched};

/// Makes contenders.
struct Field<'o> {
    options: &'o Options,
    server: Arc<Server>,
    length: Duration,
}

type Boxed = Box<dyn Contender>;

/// Runs the contests of Postgres.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let field = Field {
        options,
        server: Server::start(options.durable).await,
        length: options.slice(),
    };
    let mut verdicts = field.writes().await;
    verdicts.extend(field.watches().await);
    verdicts.extend(field.prunes().await);
    verdicts.extend(field.callers().await);
    if options.wants_any("pg-p") {
        // In a database of its own, which no slice empties.
        let filled = Filled::new(field.server.another().await, options.rows).await;
        verdicts.extend(field.reads(&filled).await);
    }
    verdicts
}

impl Field<'_> {
    fn ours(&self, callers: u64, load: Load) -> Boxed {
        Box::new(Ours {
            server: Arc::clone(&self.server),
            callers,
            length: self.length,
            load,
        })
    }

    fn pgbench(&self, clients: u32, script: Script) -> Boxed {
        Box::new(Pgbench {
            server: Arc::clone(&self.server),
            clients,
            length: self.length,
            script,
        })
    }

    fn sea_orm(&self, callers: u64, tuned: bool) -> Boxed {
        Box::new(SeaOrm {
            server: Arc::clone(&self.server),
            callers,
            length: self.length,
            tuned,
        })
    }

    fn sqlx(&self, callers: u64) -> Boxed {
        Box::new(Sqlx {
            server: Arc::clone(&self.server),
            callers,
            length: self.length,
        })
    }

    async fn writes(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for callers in [64, self.options.crowd] {
            let mut all = vec![self.ours(callers, Load::Uniform)];
            all.extend([8, 16, 32, 64].map(|clients| self.pgbench(clients, Script::One)));
            all.extend([false, true].map(|tuned| self.sea_orm(callers, tuned)));
            all.push(self.sqlx(callers));
            verdicts.extend(contest(self.options, "pg-callers", all).await);
        }
        let alone = vec![self.ours(1, Load::Uniform), self.pgbench(1, Script::One)];
        verdicts.extend(contest(self.options, "pg-alone", alone).await);
        let bulk = vec![
            self.ours(self.options.crowd, Load::Lives),
            // About as many as our flushes have: half of the callers are in the air, in two of them.
            self.pgbench(1, Script::Flush(256)),
            self.pgbench(2, Script::Flush(256)),
            self.pgbench(4, Script::Flush(256)),
            self.pgbench(4, Script::Flush(512)),
        ];
        verdicts.extend(contest(self.options, "pg-bulk", bulk).await);
        let ours: Boxed = Box::new(Import {
            server: Arc::clone(&self.server),
            length: self.length,
        });
        let import = vec![ours, self.pgbench(4, Script::Import(UPDATES))];
        verdicts.extend(contest(self.options, "import", import).await);
        let hot = vec![
            self.ours(self.options.crowd, Load::Hot),
            self.ours(self.options.crowd, Load::Uniform),
        ];
        verdicts.extend(contest(self.options, "pg-hot", hot).await);
        verdicts
    }

    async fn watches(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (wanted, workload) in [(Wanted::All, "watch"), (Wanted::OneJob, "watch (a job each)")] {
            for callers in [8, 64, self.options.crowd] {
                let side = |wanted| -> Boxed {
                    Box::new(Watched {
                        server: Arc::clone(&self.server),
                        callers,
                        length: self.length,
                        wanted,
                    })
                };
                let both = vec![side(wanted), side(Wanted::Nothing)];
                verdicts.extend(contest(self.options, workload, both).await);
            }
        }
        verdicts
    }

    async fn prunes(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if !self.options.wants("prune") {
            return verdicts;
        }
        // In a database of its own, which no slice empties.
        let old = Old::new(self.server.another().await, self.options.rows).await;
        for callers in [64, self.options.crowd] {
            let side = |is_pruned| -> Boxed {
                Box::new(Beside {
                    old: Arc::clone(&old),
                    callers,
                    length: self.length,
                    is_pruned,
                })
            };
            verdicts.extend(contest(self.options, "prune", vec![side(true), side(false)]).await);
        }
        old.empty().await;
        verdicts
    }

    /// For the chart.
    async fn callers(&self) -> Option<Verdict> {
        let mut all: Vec<_> = CALLERS.map(|callers| self.ours(callers, Load::Uniform)).into();
        all.extend([1, 8, 64].map(|clients| self.pgbench(clients, Script::One)));
        all.extend([1, 8, 64, self.options.crowd].map(|callers| self.sea_orm(callers, true)));
        sweep(self.options, "pg-sweep", all).await
    }

    async fn reads(&self, filled: &Arc<Filled>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for of in Of::EACH {
            let last = Pages::last(filled, of, self.length).await;
            let first = Pages::first(filled, of, self.length).await;
            let workload = format!("pg-page ({})", of.name());
            let pages: Vec<Boxed> = vec![Box::new(last), Box::new(first)];
            verdicts.extend(contest(self.options, &workload, pages).await);
        }
        for callers in [1, 16] {
            let ours = Points {
                filled: Arc::clone(filled),
                callers,
                length: self.length,
            };
            let theirs = Pgbench {
                server: Arc::clone(&filled.server),
                clients: callers as u32,
                length: self.length,
                script: Script::Read(filled.jobs),
            };
            let points: Vec<Boxed> = vec![Box::new(ours), Box::new(theirs)];
            verdicts.extend(contest(self.options, "pg-point", points).await);
        }
        verdicts
    }
}
