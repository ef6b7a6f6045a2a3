//! A prune of Postgres that is made to stand still, and what comes alive meanwhile. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;

use persist::{JobState, OpenOptions, PersistBackend, Prune, Pruned, Result, Tried, Update, VmState};
use persist_tests::cluster::{self, shared};
use persist_tests::place::{self, Place};
use persist_tests::{process, sample};
use sqlx::PgConnection;
use tokio::task::JoinHandle;

/// Where a prune stands.
#[derive(Debug, Clone, Copy)]
enum Stands {
    /// Its first statement knows what it is to remove, and has locked none of it.
    Before,
    /// That has removed it all, and nothing looked whether it still may.
    After,
    /// All of it is gone, and nothing is committed.
    AtTheEnd,
}

impl Stands {
    fn trigger(self) -> &'static str {
        match self {
            Self::Before => "BEFORE DELETE ON jobs",
            Self::After => "AFTER DELETE ON jobs",
            Self::AtTheEnd => "AFTER DELETE ON refusals",
        }
    }
}

/// A store of ended jobs, 1 with a VM, 2 without one, and a VM whose job 3 never came.
struct Stage {
    place: Place,
    pruner: Arc<dyn PersistBackend>,
    writer: Arc<dyn PersistBackend>,
    name: String,
    key: String,
    holder: PgConnection,
}

impl Stage {
    async fn set(stands: Stands) -> Self {
        let place = Place::at(shared().fresh_schema_url());
        let writer = place.migrated().await.unwrap();
        let name = shared().fresh_name("a");
        let mut options = OpenOptions::default();
        options.deadlines = sample::deadlines(process::BOUND);
        let url = format!("{}&application_name={name}", place.url());
        let open = async || persist::open(&url.parse().unwrap(), &options).await.unwrap();
        writer.close().await.unwrap();
        let (pruner, writer) = (open().await, open().await);
        write(&writer, sample::job(1, JobState::Failed)).await;
        write(&writer, sample::job(2, JobState::Failed)).await;
        for n in [1, 3] {
            write(&writer, sample::vm(n, "a", VmState::Destroyed)).await;
        }
        let (schema, trigger) = (place.schema(), stands.trigger());
        let key = format!("hashtext('{schema}')");
        place
            .execute(&format!(
                "CREATE SEQUENCE tries; CREATE FUNCTION stands() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM nextval('{schema}.tries'), pg_advisory_xact_lock({key}); RETURN NULL; END $$; \
                 CREATE TRIGGER stands {trigger} EXECUTE FUNCTION stands()"
            ))
            .await;
        let holder = cluster::connect(place.url()).await;
        Self {
            place,
            pruner,
            writer,
            name,
            key,
            holder,
        }
    }

    async fn of_lock(&mut self, function: &str) {
        let sql = format!("SELECT {function}({})", self.key);
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        sqlx::Executor::execute(&mut self.holder, sql).await.unwrap();
    }

    /// Until one of the handles waits for a lock of this sort.
    async fn waits(&self, event: &str) {
        let waits = format!(
            "FROM pg_stat_activity WHERE application_name = '{}' AND wait_event = '{event}'",
            self.name
        );
        process::until(event, async || self.place.count(&waits).await > 0).await;
    }

    /// How often the first statement ran.
    async fn tries(&self) -> String {
        let tries = "SELECT CAST(last_value AS text) FROM tries";
        self.place.texts(tries).await.remove(0)
    }

    /// The jobs, VMs and slots of the n-th request.
    async fn rows(&self, n: u64) -> [u64; 3] {
        let mut rows = [0; 3];
        for (table, rows) in ["jobs", "vms", "events"].into_iter().zip(&mut rows) {
            let of_one = format!("FROM {table} WHERE request_id = '{}'", sample::id(n));
            *rows = self.place.count(&of_one).await;
        }
        rows
    }

    /// A prune, until it stands still.
    async fn prune(&mut self, request: Prune) -> JoinHandle<Result<Pruned>> {
        self.of_lock("pg_advisory_lock").await;
        let pruner = Arc::clone(&self.pruner);
        let prune = tokio::spawn(async move { pruner.prune(&request).await });
        self.waits("advisory").await;
        prune
    }

    async fn end(self) {
        place::fold_holds(&self.writer).await;
        assert_eq!(self.place.strays().await, [""; 0]);
        self.pruner.close().await.unwrap();
        self.writer.close().await.unwrap();
    }
}

async fn write(writer: &Arc<dyn PersistBackend>, update: impl Into<Update>) {
    let claims = sample::claims([update]).unwrap();
    writer.apply(&claims).await.unwrap();
}

/// All that has ended.
fn ended() -> Prune {
    Prune::default().ended_before(sample::at(10_000))
}

/// What comes alive while a prune stands still, and what is true then.
struct Alive {
    stands: Stands,
    /// Of the n-th request.
    n: u64,
    update: Update,
    request: Prune,
    /// Whether who writes waits for the prune.
    waits: bool,
    /// Request ids that went.
    pruned: u64,
    /// How often the prune began: twice where what it had done was rolled back.
    tries: &'static str,
    /// The jobs, VMs and slots of what lives.
    left: [u64; 3],
}

impl Alive {
    /// What spares its request, and nothing else.
    fn spares(stands: Stands, (n, update): (u64, Update), tries: &'static str, left: [u64; 3]) -> Self {
        Self {
            stands,
            n,
            update,
            request: ended(),
            waits: false,
            pruned: 2,
            tries,
            left,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_what_comes_alive_between_the_steps_of_a_prune_is_whole() {
    use Stands::{After, Before};
    let begins = |n, attempt| (n, sample::job(n, JobState::Queued).attempt(attempt).into());
    let comes = |n| (n, sample::vm(n, "b", VmState::Running).into());
    let all = [
        // A new VM, whose row nobody could lock, keeps its job and that one's other VM; or the VM whose job never came.
        Alive::spares(After, comes(1), "2", [1, 2, 3]),
        Alive::spares(After, comes(2), "2", [1, 1, 2]),
        Alive::spares(After, comes(3), "2", [0, 2, 2]),
        // And so does a job its VM.
        Alive::spares(After, begins(3, 1), "2", [1, 1, 2]),
        Alive::spares(Before, comes(1), "2", [1, 2, 3]),
        Alive::spares(Before, begins(1, 2), "2", [1, 1, 3]),
        // A row that lives when it is locked is passed over, and here that is all there is.
        Alive::spares(Before, begins(2, 2), "1", [1, 0, 2]),
        // One that was removed is waited for, and comes anew with what it says: its slot is none of those that go.
        Alive {
            waits: true,
            pruned: 3,
            ..Alive::spares(After, begins(2, 2), "1", [1, 0, 1])
        },
        // What is named goes although it lives, and no row is left without its history.
        Alive {
            request: Prune::default().ids([sample::id(1)]),
            pruned: 1,
            ..Alive::spares(After, comes(1), "1", [0, 1, 1])
        },
    ];
    for alive in all {
        let mut stage = Stage::set(alive.stands).await;
        let prune = stage.prune(alive.request).await;
        let (n, what) = (alive.n, format!("{:?}: {:?}", alive.stands, alive.update));
        let writing = tokio::spawn({
            let writer = Arc::clone(&stage.writer);
            async move { write(&writer, alive.update).await }
        });
        if alive.waits {
            stage.waits("transactionid").await;
            stage.of_lock("pg_advisory_unlock").await;
            writing.await.unwrap();
        } else {
            writing.await.unwrap();
            stage.of_lock("pg_advisory_unlock").await;
        }
        let pruned = prune.await.unwrap().unwrap();
        assert_eq!(pruned.requests, alive.pruned, "{what}");
        assert_eq!(stage.tries().await, alive.tries, "{what}");
        assert_eq!(stage.rows(n).await, alive.left, "{what}");
        // The next one goes on: what was spared goes when it has ended, and the others have gone.
        for name in ["a", "b"] {
            write(&stage.writer, sample::vm(n, name, VmState::Destroyed)).await;
        }
        write(&stage.writer, sample::job(n, JobState::Cancelled).attempt(2)).await;
        place::fold_holds(&stage.writer).await;
        assert!(stage.pruner.prune(&ended()).await.unwrap().requests > 0, "{what}");
        assert_eq!(stage.place.count("FROM events").await, 0, "{what}");
        stage.end().await;
    }
}

/// What was refused is kept after the answer: the slot that refused it may be going just then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_slot_that_goes_does_not_stay() {
    for (stands, waits) in [(Stands::After, false), (Stands::AtTheEnd, true)] {
        let mut stage = Stage::set(stands).await;
        let claims = sample::claims([sample::job(1, JobState::Succeeded)]).unwrap();
        let outcomes = stage.writer.apply(&claims).await.unwrap();
        let tried = Tried::of(&claims, &outcomes);
        let prune = stage.prune(ended()).await;
        let keeping = tokio::spawn({
            let writer = Arc::clone(&stage.writer);
            async move { writer.ledger().unwrap().keep(&tried).await }
        });
        if waits {
            stage.waits("transactionid").await;
        } else {
            process::until("it is kept", async || {
                stage.place.count("FROM refusals").await == 1
            })
            .await;
        }
        stage.of_lock("pg_advisory_unlock").await;
        keeping.await.unwrap().unwrap();
        assert_eq!(prune.await.unwrap().unwrap().requests, 3);
        assert_eq!(stage.place.count("FROM refusals").await, 0, "{stands:?}");
        stage.end().await;
    }
}
