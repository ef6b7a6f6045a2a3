//! Rows of any kind, as a page or as a stream, in each format.

use std::pin::pin;

use comfy_table::Cell;
use futures_util::{Stream, StreamExt as _};
use persist::{Job, Page, Result, Vm};
use serde::Serialize;

use crate::args::Format;
use crate::context::Context;
use crate::exit::Failure;
use crate::output;
use crate::table::{self, Heading, Heading::Fixed, Heading::Text};
use crate::talk;

/// Rows of a table that is streamed: its columns are laid out anew for each part.
const PART: usize = 1_000;

/// A row of a list. Its columns are in the order of their use: the last ones are hidden where there is no room.
pub(crate) trait Listed: Serialize {
    const HEADINGS: &'static [Heading];
    fn cells(&self, colour: bool) -> Vec<Cell>;
}

impl Listed for Job {
    const HEADINGS: &'static [Heading] = &[
        Fixed("JOB"),
        Text("STATE"),
        Text("ATTEMPT"),
        Fixed("CREATED (UTC)"),
        Text("REPOSITORY"),
        Text("COMMIT"),
        Text("RUNS ON"),
        Fixed("UPDATED (UTC)"),
    ];

    fn cells(&self, colour: bool) -> Vec<Cell> {
        // Twelve digits name a commit in any repository of a CI; JSON has all of them.
        let commit = self.commit_sha.as_deref().map(|sha| sha.get(..12).unwrap_or(sha));
        vec![
            Cell::new(self.request_id),
            table::state(self.state, colour),
            Cell::new(self.attempt),
            table::moment(self.created_at),
            table::text(self.repo_url.as_deref()),
            table::text(commit),
            table::text(self.runs_on.as_deref()),
            table::moment(self.updated_at),
        ]
    }
}

impl Listed for Vm {
    const HEADINGS: &'static [Heading] = &[
        Text("VM"),
        Fixed("JOB"),
        Text("STATE"),
        Text("ATTEMPT"),
        Fixed("CREATED (UTC)"),
        Text("BACKEND"),
        Fixed("UPDATED (UTC)"),
    ];

    fn cells(&self, colour: bool) -> Vec<Cell> {
        vec![
            table::text(Some(&self.domain_name)),
            Cell::new(self.request_id),
            table::state(self.state, colour),
            Cell::new(self.attempt),
            table::moment(self.created_at),
            table::text(self.backend.as_deref()),
            table::moment(self.updated_at),
        ]
    }
}

/// One page. Where more follow, stderr says how to get them.
pub(crate) fn page<T: Listed>(context: &mut Context, page: &Page<T>) -> Result<(), Failure> {
    match context.format {
        Format::Table if page.items.is_empty() => talk::say("nothing to list"),
        Format::Table => rows(context, &page.items)?,
        Format::Json => context.out.json(page)?,
        Format::Jsonl => {
            for row in &page.items {
                context.out.json(row)?;
            }
        }
    }
    // The hint comes after the rows that it is about, also on one terminal.
    context.out.flush()?;
    if let Some(next) = &page.next {
        talk::say(&format!("more follow: add --after {next}, or --all"));
    }
    Ok(())
}

/// All rows as they come, in constant memory.
pub(crate) async fn all<T: Listed>(
    context: &mut Context,
    stream: impl Stream<Item = Result<T>>,
) -> Result<(), Failure> {
    let mut stream = pin!(stream);
    match context.format {
        Format::Table => {
            let (mut part, mut is_empty) = (Vec::with_capacity(PART), true);
            while let Some(row) = stream.next().await.transpose()? {
                is_empty = false;
                part.push(row);
                if part.len() == PART {
                    rows(context, &part)?;
                    part.clear();
                }
            }
            if !part.is_empty() {
                rows(context, &part)?;
            } else if is_empty {
                talk::say("nothing to list");
            }
        }
        Format::Json => {
            let mut lead = "[";
            while let Some(row) = stream.next().await.transpose()? {
                context.out.line(&format!("{lead}{}", output::json(&row)?))?;
                lead = ",";
            }
            context.out.line(if lead == "[" { "[]" } else { "]" })?;
        }
        Format::Jsonl => {
            while let Some(row) = stream.next().await.transpose()? {
                context.out.json(&row)?;
            }
        }
    }
    Ok(())
}

/// A table of these rows.
pub(crate) fn rows<T: Listed>(context: &mut Context, rows: &[T]) -> Result<(), Failure> {
    let mut table = table::table(T::HEADINGS);
    for row in rows {
        table.add_row(row.cells(context.colour));
    }
    table::print(context, table)
}
