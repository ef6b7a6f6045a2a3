//! The project's own factories: each backend bare, and behind the layers of the facade.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use persist::{OnUnavailable, OpenOptions, Persist};
use persist_core::layer::{Fault, Faults};
use persist_core::{DbUrl, PersistBackend, Result, Retry};
use proptest::test_runner::{Config, RngSeed};
use tokio::sync::OnceCell;

use crate::cluster;
use crate::factory::{Factory, Store};
use crate::place::{Database, Place};
use crate::pooler;
use crate::retold;
use crate::sample;
use crate::soak;

/// Connections of a handle: many cases at once must get by with a server's usual hundred.
const CONNECTIONS: u32 = 4;

/// For every call. The cases share few cores; how well deadlines are kept is asked elsewhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the rows are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process's memory.
    Memory,
    /// A SQLite file in a folder of its own.
    SqliteFile,
    /// SQLite without a file.
    SqliteMemory,
    /// A schema of its own in the shared cluster.
    Postgres,
    /// The same, through PgBouncer in transaction mode.
    Pooler,
}

/// What is between the suite and the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Nothing.
    Driver,
    /// The facade, which retries. On a server of our own as a role with an app's rights: the tables are the owner's.
    Retry,
    /// The facade, for which history is optional.
    BestEffort,
    /// Retries over faults: 5 % of the calls fail before they run, and 5 % after. Which ones depends on the case,
    /// and on `PROPTEST_RNG_SEED`.
    Faults,
    /// The facade, as an embedder has it over a backend of its own: with the layer that keeps deadlines.
    Brought,
}

/// Of all calls, for each of the two.
const FAULTS: f64 = 0.05;

/// What a lost answer changes beyond what a case can be told.
const PRUNED_TWICE: &str = "a prune up to a limit whose answer is lost goes up to its limit again";

/// The cases that count what went up to a limit.
const COUNTED: [&str; 11] = [
    "prune::the_oldest_go_first",
    "prune::more_is_true_exactly_when_more_match",
    "prune::more_counts_vms_without_a_job",
    "prune::a_walk_removes_all_that_matched_throughout",
    "prune::a_walk_goes_on_where_it_ended",
    "prune::a_walk_passes_what_stays",
    "prune::a_walk_along_ids_takes_each_once",
    "prune::with_a_number_to_keep_it_goes_repository_by_repository",
    "prune::a_walk_by_repository_goes_on_where_it_ended",
    "prune::many_small_repositories_are_walked",
    "prune::calls_along_more_remove_all",
];

/// Makes stores of one kind, reached in one way.
#[derive(Debug, Clone, Copy)]
pub struct Stores(pub Kind, pub Through);

impl Stores {
    /// A kind bare and behind the facade, for `run_all`.
    pub fn all(kind: Kind) -> Vec<Arc<dyn Factory>> {
        let mut ways = vec![Through::Driver, Through::Retry];
        // What is between does not know what is below: some of it is for the long runs.
        let is_long = soak::or(false, true);
        if kind != Kind::SqliteMemory || is_long {
            ways.push(Through::Faults);
        }
        if matches!(kind, Kind::Memory | Kind::SqliteFile) || is_long {
            ways.push(Through::BestEffort);
        }
        if matches!(kind, Kind::Memory | Kind::SqliteFile) {
            ways.push(Through::Brought);
        }
        Self::through(kind, &ways)
    }

    /// A kind reached in these ways, for `run_all`.
    pub fn through(kind: Kind, ways: &[Through]) -> Vec<Arc<dyn Factory>> {
        let stores = ways.iter().map(|through| Arc::new(Self(kind, *through)));
        stores.map(|stores| stores as Arc<dyn Factory>).collect()
    }
}

#[async_trait]
impl Factory for Stores {
    fn name(&self) -> String {
        let kind = match self.0 {
            Kind::Memory => "memory",
            Kind::SqliteFile => "sqlite",
            Kind::SqliteMemory => "sqlite-memory",
            Kind::Postgres => "postgres",
            Kind::Pooler => "pgbouncer",
        };
        let through = match self.1 {
            Through::Driver => "",
            Through::Retry => "+retry",
            Through::BestEffort => "+best-effort",
            Through::Faults => "+faults",
            Through::Brought => "+brought",
        };
        format!("{kind}{through}")
    }

    async fn fresh(&self) -> Result<Store> {
        self.fresh_for("").await
    }

    async fn fresh_for(&self, case: &str) -> Result<Store> {
        let Self(kind, through) = *self;
        let handles = AtomicU64::new(seed_of(case));
        let (url, place) = match kind {
            Kind::Memory => (memory_url(), None),
            Kind::SqliteMemory => ("sqlite::memory:".to_owned(), None),
            Kind::SqliteFile => at(Place::empty(Database::Sqlite)),
            Kind::Postgres if through == Through::Retry && cluster::shared().is_own() => {
                of_app(Place::empty(Database::Postgres)).await?
            }
            Kind::Postgres => at(Place::empty(Database::Postgres)),
            Kind::Pooler => {
                let pooler = pooler::before_shared().expect("else every case is skipped");
                at(Place::at(pooler.url(&cluster::shared().fresh_schema_url())))
            }
        };
        let seed = move || handles.fetch_add(1, Ordering::Relaxed);
        let mut store = Store::new(connect(&url, through, seed()).await?);
        if kind != Kind::SqliteMemory {
            store = store.another(move || {
                let (url, seed) = (url.clone(), seed());
                async move { connect(&url, through, seed).await }
            });
        }
        match place {
            Some(place) => Ok(store.survives_close().keep(place)),
            None => Ok(store),
        }
    }

    fn skip(&self, case: &str) -> Option<&'static str> {
        if self.0 == Kind::Pooler && pooler::before_shared().is_none() {
            return Some("there is no pgbouncer here");
        }
        (self.1 == Through::Faults && COUNTED.contains(&case)).then_some(PRUNED_TWICE)
    }
}

/// The seed of a case's faults: its name's, so that a case that fails fails again.
fn seed_of(case: &str) -> u64 {
    let run = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => 0,
    };
    case.bytes().fold(run, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn at(place: Place) -> (String, Option<Place>) {
    (place.url().to_owned(), Some(place))
}

/// A migrated store, and the URL of a role that may read and write rows, and change no table; see `docs/roles.sql`.
async fn of_app(place: Place) -> Result<(String, Option<Place>)> {
    static ROLE: OnceCell<()> = OnceCell::const_new();
    ROLE.get_or_init(|| cluster::shared().sql("CREATE ROLE app LOGIN"))
        .await;
    place.migrated().await?.close().await?;
    let schema = place.schema();
    let grants = format!(
        "GRANT USAGE ON SCHEMA {schema} TO app; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO app; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO app"
    );
    place.execute(&grants).await;
    let mut url = url::Url::parse(place.url()).expect("the tests make well-formed URLs");
    url.set_username("app").expect("has a host");
    Ok((url.into(), Some(place)))
}

/// A store that no other case shares.
fn memory_url() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("memory:case-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn connect(url: &str, through: Through, seed: u64) -> Result<Arc<dyn PersistBackend>> {
    let mut deadlines = sample::deadlines(PATIENCE);
    deadlines.migration = PATIENCE;
    let open = async || {
        let url: DbUrl = url.parse()?;
        let options = OpenOptions::default()
            .deadlines(deadlines)
            .connections(CONNECTIONS);
        persist::open(&url, &options).await
    };
    let by_url = || Persist::builder(Some(url.to_owned())).connections(CONNECTIONS);
    let builder = match through {
        Through::Driver | Through::Faults => {
            let backend = open().await?;
            if let Some(schema) = backend.schema() {
                schema.up().await?;
            }
            if through == Through::Driver {
                return Ok(backend);
            }
            let faults = Faults::seeded(seed)
                .rate(FAULTS, Fault::FailBefore)
                .rate(FAULTS, Fault::FailAfter)
                .retried(Retry::Now);
            return Ok(retold::behind_faults(backend, faults, PATIENCE));
        }
        Through::Retry => by_url().on_unavailable(OnUnavailable::Retry { within: PATIENCE }),
        Through::BestEffort => by_url().on_unavailable(OnUnavailable::BestEffort),
        Through::Brought => Persist::builder_over(open().await?),
    };
    Ok(builder.deadlines(deadlines).connect().await?.backend())
}
