//! Which database a command works on, and what it may do to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use persist::{
    DbUrl, Deadlines, OnUnavailable, OpenOptions, Persist, PersistBackend, SqliteMode, SqliteUrl, open,
};

use crate::exit::{Code, Failure};
use crate::talk;

const DEFAULT: &str = "sqlite://persist.db?mode=rwc";
const VARIABLES: [&str; 2] = ["PERSIST_DATABASE_URL", "DATABASE_URL"];
/// How long `import` and `record` wait for a database that is away.
const WITHIN: Duration = Duration::from_secs(30);

/// A database URL; it may hold a password and is never printed.
pub(crate) struct Database {
    text: String,
    given: Given,
}

#[derive(PartialEq, Eq)]
enum Given {
    ByFlag,
    ByVariable,
    Not,
}

impl Database {
    /// Flag, then variables, then the default.
    pub(crate) fn choose(flag: Option<String>) -> Result<Self, Failure> {
        let (text, given) = match flag {
            // A variable that a script forgot to set must not end in a file that nobody looks for.
            Some(text) if text.trim().is_empty() => {
                return Err(Failure::told(Code::Usage, "--database-url is blank"));
            }
            Some(text) => (text, Given::ByFlag),
            None => from_environment()?.map_or_else(
                || (DEFAULT.to_owned(), Given::Not),
                |text| (text, Given::ByVariable),
            ),
        };
        Ok(Self { text, given })
    }

    /// How a command on the same database begins.
    pub(crate) fn program(&self) -> &'static str {
        match self.given {
            Given::ByFlag => "persist --database-url …",
            Given::ByVariable | Given::Not => "persist",
        }
    }

    /// Whether it was named by the flag.
    pub(crate) fn is_by_flag(&self) -> bool {
        self.given == Given::ByFlag
    }

    /// Whether somebody named it.
    #[cfg(feature = "spool")]
    pub(crate) fn is_given(&self) -> bool {
        self.given != Given::Not
    }

    /// The backend for reads: nothing is created or migrated, and the schema is one that can be read.
    pub(crate) async fn for_reading(&self) -> Result<Arc<dyn PersistBackend>, Failure> {
        let backend = self.existing(Deadlines::default()).await?;
        if let Some(schema) = backend.schema()
            && let Err(error) = schema.check().await
        {
            // Why it can't be read matters; a second error of letting go does not.
            let _ = backend.close().await;
            return Err(error.into());
        }
        Ok(backend)
    }

    /// The handle for writes: waits for a database that is away, and creates and migrates if it may.
    pub(crate) async fn for_writing(&self, migrate: bool) -> Result<Persist, Failure> {
        let url = self.url()?;
        if !migrate
            && let Some(file) = file_to_create(&url)
            && !exists(file)
        {
            return Err(self.missing(file));
        }
        self.say_default(DEFAULT);
        let builder = Persist::builder(Some(self.text.clone())).migrate(migrate);
        Ok(builder
            .on_unavailable(OnUnavailable::Retry { within: WITHIN })
            .connect()
            .await?)
    }

    /// A handle that only reads, of a store that may be away for now: nothing is created or migrated, and it heals by itself.
    #[cfg(feature = "serve")]
    pub(crate) async fn to_look_at(&self) -> Result<Persist, Failure> {
        let mut deadlines = Deadlines::default();
        // Somebody waits for the first page.
        deadlines.connect = deadlines.read;
        self.say_default("sqlite://persist.db");
        let builder = Persist::builder(Some(self.text.clone())).migrate(false);
        let builder = builder.deadlines(deadlines);
        Ok(builder
            .on_unavailable(OnUnavailable::BestEffort)
            .connect()
            .await?)
    }

    /// The bare backend of a store that is there.
    pub(crate) async fn existing(&self, deadlines: Deadlines) -> Result<Arc<dyn PersistBackend>, Failure> {
        self.there(deadlines, SqliteMode::ReadWrite).await
    }

    /// The bare backend of a store that is there, opened so that nothing of it is set right by the way.
    pub(crate) async fn as_it_is(&self) -> Result<Arc<dyn PersistBackend>, Failure> {
        self.there(Deadlines::default(), SqliteMode::ReadOnly).await
    }

    /// The same, with this mode in place of one that may do more.
    async fn there(
        &self,
        deadlines: Deadlines,
        most: SqliteMode,
    ) -> Result<Arc<dyn PersistBackend>, Failure> {
        let mut url = self.url()?;
        if let DbUrl::Sqlite(SqliteUrl {
            path: Some(path),
            mode,
            ..
        }) = &mut url
        {
            if *mode == SqliteMode::Create && !exists(path) {
                return Err(self.missing(path));
            }
            if *mode != SqliteMode::ReadOnly {
                *mode = most;
            }
        }
        self.say_default("sqlite://persist.db");
        Ok(open(&url, &OpenOptions::default().deadlines(deadlines)).await?)
    }

    /// The bare backend, created where the URL allows it.
    pub(crate) async fn or_created(&self) -> Result<Arc<dyn PersistBackend>, Failure> {
        let url = self.url()?;
        self.say_default(DEFAULT);
        Ok(open(&url, &OpenOptions::default()).await?)
    }

    /// The bare backend for a look at the schema. A file that is still to be created is imagined: what would be
    /// done to it is what would be done to an empty store.
    pub(crate) async fn or_imagined(&self) -> Result<Arc<dyn PersistBackend>, Failure> {
        let url = self.url()?;
        let Some(file) = file_to_create(&url).filter(|file| !exists(file)) else {
            return self.existing(Deadlines::default()).await;
        };
        talk::say(&format!(
            "{} does not exist yet; {} migrate up creates it",
            file.display(),
            self.program()
        ));
        let empty: DbUrl = "sqlite::memory:".parse()?;
        Ok(open(&empty, &OpenOptions::default()).await?)
    }

    pub(crate) fn url(&self) -> Result<DbUrl, Failure> {
        Ok(self.text.parse()?)
    }

    fn say_default(&self, url: &str) {
        if self.given == Given::Not {
            talk::say(&format!("no database URL is set; using {url}"));
        }
    }

    fn missing(&self, file: &Path) -> Failure {
        let file = file.display();
        let elsewhere = if self.given == Given::Not {
            ", or name a database with --database-url or DATABASE_URL"
        } else {
            ""
        };
        let program = self.program();
        let what = format!("{file} does not exist; create it with {program} migrate up{elsewhere}");
        Failure::told(Code::Unavailable, what)
    }
}

fn from_environment() -> Result<Option<String>, Failure> {
    for name in VARIABLES {
        match std::env::var(name) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => return Ok(Some(text)),
            Err(std::env::VarError::NotPresent) => {}
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::told(Code::Usage, format!("{name} is not UTF-8")));
            }
        }
    }
    Ok(None)
}

/// The file of a URL that may create it.
fn file_to_create(url: &DbUrl) -> Option<&Path> {
    match url {
        DbUrl::Sqlite(SqliteUrl {
            path,
            mode: SqliteMode::Create,
            ..
        }) => path.as_deref(),
        _ => None,
    }
}

/// A file that can't be looked at is left to the driver, which knows better what to say.
fn exists(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}
