//! `persist migrate`: look at the schema, bring it up, take it down.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use persist::{Down, Error, ErrorKind, PersistBackend, PlannedMigration, Schema, SchemaStatus, time};
use serde::Serialize;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::table::{self, Heading::Fixed, Heading::Text};
use crate::talk;
use crate::visible::visible_lines;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist migrate status
  persist migrate plan > for-the-owner.sql
  persist migrate up";

const UP_AFTER_HELP: &str = "\
Example, as the owner of the tables where the orchestrator's role may not change them:
  PERSIST_DATABASE_URL='postgres://persist_owner@db/ci?persist_schema=persist' persist migrate up";

const DOWN_AFTER_HELP: &str = "\
Examples:
  persist migrate down --steps 1 --yes            what the newest had added is gone
  persist migrate down --all --yes                and the history is gone: export it before";

const STATUS_AFTER_HELP: &str = "\
Example:
  persist --format json migrate status | jq '.pending | length'";

const PLAN_AFTER_HELP: &str = "\
Example:
  persist migrate plan > for-the-owner.sql";

#[derive(Subcommand)]
pub(crate) enum MigrateAction {
    /// Apply what is pending; safe to run from many places at once
    #[command(after_help = UP_AFTER_HELP)]
    Up,
    /// Revert migrations: the history goes, the current rows keep their first columns
    #[command(after_help = DOWN_AFTER_HELP)]
    Down(DownArgs),
    /// List what is applied and what is pending
    #[command(after_help = STATUS_AFTER_HELP)]
    Status,
    /// Print the SQL that up would run
    #[command(after_help = PLAN_AFTER_HELP)]
    Plan,
}

#[derive(Args)]
pub(crate) struct DownArgs {
    /// Revert the newest N
    #[arg(long, value_name = "N", required_unless_present = "all", conflicts_with = "all",
          value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Revert all
    #[arg(long)]
    all: bool,
    /// That history may go is meant
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(action: MigrateAction, context: &mut Context) -> Result<Code, Failure> {
    let backend = match action {
        MigrateAction::Up => context.database.or_created().await?,
        MigrateAction::Down(_) => context.database.existing(persist::Deadlines::default()).await?,
        MigrateAction::Status | MigrateAction::Plan => context.database.or_imagined().await?,
    };
    let schema = schema_of(&*backend)?;
    match action {
        MigrateAction::Up => {
            let names = schema.up().await?;
            tell(
                context,
                "applied",
                &names,
                "nothing to do: the schema is up to date",
            )?;
        }
        MigrateAction::Down(args) => {
            let request = args.steps.map_or_else(Down::all, Down::steps).confirmed(args.yes);
            let names = schema.down(request).await.map_err(unconfirmed)?;
            tell(
                context,
                "reverted",
                &names,
                "nothing to do: no migration is applied",
            )?;
            if !names.is_empty() {
                talk::say(
                    "what the reverted migrations had added is gone; bring it up again with persist migrate up",
                );
            }
        }
        MigrateAction::Status => print_status(context, &schema.status().await?)?,
        MigrateAction::Plan => print_plan(context, &schema.plan().await?)?,
    }
    backend.close().await?;
    Ok(Code::Ok)
}

fn schema_of(backend: &dyn PersistBackend) -> Result<&dyn Schema, Error> {
    backend.schema().ok_or_else(|| {
        let what = format!("the {} backend has no schema", backend.name());
        Error::new(ErrorKind::Unsupported, what).during("migrate")
    })
}

/// The flag that the store's own words ask for.
fn unconfirmed(error: Error) -> Failure {
    if error.context("field") == Some("confirmed") {
        let what = format!("{error}; add --yes if that is meant");
        Failure::told(Code::Usage, what)
    } else {
        error.into()
    }
}

/// What was done to these migrations.
fn tell(context: &mut Context, done: &str, names: &[String], nothing: &str) -> Result<(), Failure> {
    match context.format {
        Format::Table if names.is_empty() => context.out.line(nothing)?,
        Format::Table => {
            for name in names {
                context.out.line(&format!("{done} {name}"))?;
            }
        }
        Format::Json | Format::Jsonl => {
            context
                .out
                .json(&serde_json::Map::from_iter([(done.to_owned(), names.into())]))?;
        }
    }
    // What is said next belongs behind it.
    Ok(context.out.flush()?)
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    status: &'a SchemaStatus,
    pending: Vec<&'a str>,
}

fn print_status(context: &mut Context, status: &SchemaStatus) -> Result<(), Failure> {
    let pending = status.pending();
    if context.format != Format::Table {
        return Ok(context.out.json(&Status { status, pending })?);
    }
    let mut rows = table::table(&[Text("MIGRATION"), Fixed("APPLIED (UTC)"), Text("")]);
    for migration in &status.migrations {
        let applied = migration
            .applied_at
            .map_or_else(|| "pending".to_owned(), time::format);
        let note = if migration.known {
            ""
        } else {
            "made by a newer persist"
        };
        rows.add_row([
            table::text(Some(&migration.name)),
            Cell::new(applied),
            Cell::new(note),
        ]);
    }
    table::print(context, rows)?;
    if !pending.is_empty() {
        context.out.flush()?;
        talk::say(&format!(
            "{} pending: apply with persist migrate up",
            pending.len()
        ));
    }
    Ok(())
}

fn print_plan(context: &mut Context, plan: &[PlannedMigration]) -> Result<(), Failure> {
    if context.format != Format::Table {
        return Ok(context.out.json(plan)?);
    }
    for migration in plan {
        context.out.line(&format!("-- {}", migration.name))?;
        for statement in &migration.sql {
            context
                .out
                .line(&format!("{};", visible_lines(statement.trim_end_matches(';'))))?;
        }
        context.out.line("")?;
    }
    context.out.flush()?;
    if plan.is_empty() {
        talk::say("nothing to do: the schema is up to date");
    }
    Ok(())
}
