//! The command line.

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use persist::{Cursor, Order, StateTable, TimeRange, Timestamp};

use crate::artefacts::{self, ArtefactsArgs};
use crate::bench::{self, BenchArgs};
use crate::copy::{self, CopyArgs};
use crate::doctor::{self, DoctorArgs};
use crate::import::{self, ImportArgs};
use crate::job::{self, JobArgs};
use crate::jobs::{self, JobsArgs};
use crate::migrate::{self, MigrateAction};
use crate::orphans::{self, OrphansArgs};
use crate::prune::{self, PruneArgs};
use crate::record::RecordWhat;
use crate::recover::{self, RecoverArgs};
use crate::refusals::{self, RefusalsArgs};
#[cfg(feature = "serve")]
use crate::serve::{self, ServeArgs};
use crate::span;
#[cfg(feature = "spool")]
use crate::spool::{self, SpoolAction};
use crate::stats::{self, StatsArgs};
use crate::verify::{self, VerifyArgs};
use crate::vms::{self, VmsArgs};
use crate::watch::{self, WatchArgs};

const AFTER_HELP: &str = "\
Database: --database-url, else PERSIST_DATABASE_URL, else DATABASE_URL, else sqlite://persist.db.
  postgres://user@host/database   sqlite://file.db?mode=rwc   memory:   none:
  A password belongs into an environment variable or ~/.pgpass: other users can see flags.

Exit codes: 0 ok, 1 failed or some input invalid, 2 usage, 3 not found, 4 refused,
  5 database unavailable, 6 schema mismatch.";

const EXPORT_AFTER_HELP: &str = "\
Example: a copy of the day, and a proof that nothing of it changed since
  persist export | tee today.jsonl | sha256sum";

const RECORD_AFTER_HELP: &str = "\
Example:
  persist record job $ID running --actor \"$HOSTNAME\"";

const HEALTH_AFTER_HELP: &str = "\
Example, for a script that waits for the database:
  until persist -q health; do sleep 1; done";

const COMPLETIONS_AFTER_HELP: &str = "\
Example:
  persist completions bash > /etc/bash_completion.d/persist";

/// Durable state of CI jobs and VMs: late, repeated and racing updates end in the same rows
#[derive(Parser)]
#[command(name = "persist", version, after_help = AFTER_HELP, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// Where the store is
    // The variables are read by `database`: clap would show their values in the help.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// No colours, as with NO_COLOR
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Log more: -v what happens, -vv everything; RUST_LOG goes before
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON value
    Json,
    /// One JSON object a line
    Jsonl,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Record updates from JSONL files; safe to repeat
    #[command(after_help = import::AFTER_HELP)]
    Import(ImportArgs),
    /// Print the whole history as JSONL, for `import` anywhere
    #[command(after_help = EXPORT_AFTER_HELP)]
    Export,
    /// Record one update from flags, for shell hooks
    #[command(arg_required_else_help = true, after_help = RECORD_AFTER_HELP)]
    Record {
        #[command(subcommand)]
        what: RecordWhat,
    },
    /// List jobs
    #[command(after_help = jobs::AFTER_HELP)]
    Jobs(JobsArgs),
    /// List VMs
    #[command(after_help = vms::AFTER_HELP)]
    Vms(VmsArgs),
    /// Tell the story of a job: its VMs, its timeline, how long it waited and ran, and what is odd; also as of a time
    #[command(after_help = job::AFTER_HELP)]
    Job(JobArgs),
    /// List live jobs and VMs that nobody seems to see to
    #[command(after_help = orphans::AFTER_HELP)]
    Orphans(OrphansArgs),
    /// List updates that were refused: what was tried, and what stands
    #[command(after_help = refusals::AFTER_HELP)]
    Refusals(RefusalsArgs),
    /// End what nobody sees to any more
    #[command(arg_required_else_help = true, after_help = recover::AFTER_HELP)]
    Recover(RecoverArgs),
    /// Print what changes, as it comes
    #[command(after_help = watch::AFTER_HELP)]
    Watch(WatchArgs),
    /// Look at the schema, bring it up, take it down
    #[command(arg_required_else_help = true, after_help = migrate::AFTER_HELP)]
    Migrate {
        #[command(subcommand)]
        action: MigrateAction,
    },
    /// Look at the spool of an orchestrator, and get out what waits in it
    #[cfg(feature = "spool")]
    #[command(arg_required_else_help = true, after_help = spool::AFTER_HELP)]
    Spool {
        #[command(subcommand)]
        action: SpoolAction,
    },
    /// Look the store over: schema, settings, files, connection; and mend what can be mended safely
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(DoctorArgs),
    /// Measure how many durable updates a second the database takes
    #[command(after_help = bench::AFTER_HELP)]
    Bench(BenchArgs),
    /// Count jobs, and tell how long they wait and run, by repository and runner
    #[command(after_help = stats::AFTER_HELP)]
    Stats(StatsArgs),
    /// List disk overlays and seeds by the record, and compare them with a folder
    #[command(after_help = artefacts::AFTER_HELP)]
    Artefacts(ArtefactsArgs),
    /// Copy a store into another while it is written, and prove that all of it is there
    #[command(arg_required_else_help = true, after_help = copy::AFTER_HELP)]
    Copy(CopyArgs),
    /// Forget whole jobs that ended: by age, by number for each repository, by state, or by id
    #[command(arg_required_else_help = true, after_help = prune::AFTER_HELP)]
    Prune(PruneArgs),
    /// Prove that every row is what its history says, and with a digest that the history is what it was
    #[command(after_help = verify::AFTER_HELP)]
    Verify(VerifyArgs),
    /// Show the store as web pages that follow it live, as JSON, and as probes; it only reads
    #[cfg(feature = "serve")]
    #[command(after_help = serve::AFTER_HELP)]
    Serve(ServeArgs),
    /// Ask the database how it is, within two seconds
    #[command(after_help = HEALTH_AFTER_HELP)]
    Health,
    /// Print a completion script
    #[command(after_help = COMPLETIONS_AFTER_HELP)]
    Completions {
        /// For this shell
        shell: Shell,
    },
}

/// Flags of both lists.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Created at or after this: RFC 3339, or an age such as 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = span::parse_moment)]
    since: Option<Timestamp>,
    /// Created before this: RFC 3339, or an age
    #[arg(long, value_name = "TIME", value_parser = span::parse_moment)]
    until: Option<Timestamp>,
    /// By the time of creation, or by id, which is stable while anything is written
    #[arg(long, value_enum, default_value_t = ListOrder::Newest)]
    order: ListOrder,
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

/// Flags of every list.
#[derive(Args)]
pub(crate) struct PageArgs {
    /// Most rows
    #[arg(long, value_name = "N", default_value_t = persist::limits::PAGE,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(persist::limits::LARGEST_PAGE)))]
    pub(crate) limit: u32,
    /// Go on after this cursor, which the page before told
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// All rows, as they come
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

impl PageArgs {
    /// It is checked where it is used.
    pub(crate) fn after(&self) -> Option<Cursor> {
        self.after.as_ref().map(Cursor::from_text)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ListOrder {
    Newest,
    Oldest,
    Id,
}

impl ListArgs {
    pub(crate) fn created(&self) -> TimeRange {
        TimeRange::new(self.since, self.until)
    }

    pub(crate) fn order(&self) -> Order {
        match self.order {
            ListOrder::Newest => Order::NewestFirst,
            ListOrder::Oldest => Order::OldestFirst,
            ListOrder::Id => Order::ById,
        }
    }
}

/// The text of a filter. A variable that a script forgot to set must not let everything through.
pub(crate) fn parse_filter(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err("is blank; leave the flag out to filter by nothing");
    }
    Ok(text.to_owned())
}

/// What a state flag says of itself: the words of the table.
pub(crate) fn state_words<S: StateTable>(lead: &str) -> String {
    let words: Vec<_> = S::TABLE.iter().map(|line| line.name).collect();
    format!("{lead}: {}", words.join(", "))
}

/// The same at length, with what each word means and its other spellings.
pub(crate) fn state_meanings<S: StateTable>(lead: &str) -> String {
    let mut text = format!("{lead}:");
    for line in S::TABLE {
        text.push_str(&format!("\n  {:<10}  {}", line.name, line.about));
        if !line.spellings.is_empty() {
            text.push_str(&format!(" (also {})", line.spellings.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use persist::JobState;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn down_needs_to_be_told_how_far() {
        let parses = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parses("persist migrate down --all --yes") && parses("persist migrate down --steps 2"));
        assert!(!parses("persist migrate down --yes") && !parses("persist migrate down --all --steps 1"));
    }

    /// The words of an example, up to what only a shell reads.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        let ends = |word: &mut Option<String>, words: &mut Vec<String>| words.extend(word.take());
        for letter in line.chars().chain([' ']) {
            match (quote, letter) {
                (Some(open), letter) if letter == open => quote = None,
                (Some(_), letter) => word.get_or_insert_default().push(letter),
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                // A space more is before what the line is about.
                (None, ' ') if word.is_none() => break,
                (None, ' ') => ends(&mut word, &mut words),
                (None, '|' | '>' | ';') => {
                    ends(&mut word, &mut words);
                    break;
                }
                (None, letter) => word.get_or_insert_default().push(letter),
            }
        }
        words
    }

    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        found.extend(help.lines().filter_map(|line| {
            let begin = line.starts_with("  ").then(|| line.find("persist "))??;
            Some(line[begin..].to_owned())
        }));
        command.get_subcommands().for_each(|below| examples(below, found));
    }

    #[test]
    fn every_example_of_the_help_is_understood() {
        let mut found = Vec::new();
        examples(&Cli::command(), &mut found);
        assert!(found.len() > 40, "{found:#?}");
        for example in found {
            let id = "0190c2f4-0000-7000-8000-000000000001";
            let words = words(&example.replace("$ID", id).replace(" STATE", " failed"));
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{example}: {words:?}: {error}");
            }
        }
    }

    #[test]
    fn help_lists_every_state() {
        let help = state_meanings::<JobState>("states");
        assert!(
            JobState::TABLE
                .iter()
                .all(|line| help.contains(line.name) && help.contains(line.about))
        );
        assert!(state_words::<JobState>("states").contains("queued, running, lost"));
    }
}
