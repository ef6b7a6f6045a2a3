//! Tells what became of each line, in the order of the input.

use std::io;
use std::time::Duration;

use indicatif::ProgressBar;
use persist::{Error, Outcome};
use serde::Serialize;

use crate::exit::{Failure, with_causes};
use crate::import::lanes::Block;
use crate::import::reader::Bad;
use crate::output::Output;
use crate::talk;
use crate::visible::visible;

/// How many lines got what. `read` is the sum of the rest.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    applied: u64,
    late: u64,
    filled: u64,
    unchanged: u64,
    refused: u64,
    invalid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    spooled: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        self.read += 1;
        *match outcome {
            Outcome::Applied { .. } => &mut self.applied,
            Outcome::Late { .. } => &mut self.late,
            Outcome::Filled { .. } => &mut self.filled,
            Outcome::Unchanged { .. } => &mut self.unchanged,
            Outcome::Refused { .. } => &mut self.refused,
            Outcome::Spooled => &mut self.spooled,
            // The enum may grow: what is not known to be stored counts as not stored.
            _ => &mut self.dropped,
        } += 1;
    }

    /// For people, with how long it took.
    pub(crate) fn line(&self, took: Duration) -> String {
        let per_second = self.read as f64 / took.as_secs_f64().max(0.001);
        let mut line = format!(
            "read {} lines in {:.1} s ({per_second:.0} a second): applied {}, late {}, filled {}, unchanged {}, \
             refused {}, invalid {}",
            self.read,
            took.as_secs_f64(),
            self.applied,
            self.late,
            self.filled,
            self.unchanged,
            self.refused,
            self.invalid
        );
        for (name, count) in [("spooled", self.spooled), ("dropped", self.dropped)] {
            if count > 0 {
                line.push_str(&format!(", {name} {count}"));
            }
        }
        line
    }
}

/// One line of `--outcomes`.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    line: u64,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

pub(crate) struct Report {
    pub(crate) counts: Counts,
    files: Vec<String>,
    /// Whether each line is told on stdout.
    outcomes: bool,
    some_unreadable: bool,
    bar: ProgressBar,
}

impl Report {
    pub(crate) fn new(files: Vec<String>, outcomes: bool, bar: ProgressBar) -> Self {
        Self {
            counts: Counts::default(),
            files,
            outcomes,
            some_unreadable: false,
            bar,
        }
    }

    /// Whether a line was invalid or a file could not be read.
    pub(crate) fn some_failed(&self) -> bool {
        self.some_unreadable || self.counts.invalid > 0
    }

    /// Waits for a block and tells of its lines; ends at the first that did not reach the store, so that what was
    /// told is always a whole beginning of the input.
    ///
    /// # Errors
    /// Why a line did not reach the store, or that stdout can't be written.
    pub(crate) async fn settle(&mut self, mut block: Block, out: &mut Output) -> Result<(), Failure> {
        let mut settled = block.settled().await;
        let mut failure = None;
        for row in block.rows {
            let told = match row.lane.map(|lane| settled.next(lane)) {
                Err(Bad::File(error)) => {
                    self.unreadable(row.file, &error);
                    Ok(())
                }
                Err(Bad::Line(error)) | Ok(Ok(Err(error))) => self.invalid(row.file, row.number, &error, out),
                Ok(Ok(Ok(outcome))) => self.outcome(row.file, row.number, &outcome, out),
                Ok(Err(error)) => {
                    failure = Some(error.into());
                    break;
                }
            };
            self.unless_nobody_reads(told)?;
        }
        self.bar.set_message(format!("{} lines", self.counts.read));
        if self.outcomes {
            let flushed = out.flush();
            self.unless_nobody_reads(flushed)?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// An import half done would be worse than one that nobody watches: it goes on in silence.
    fn unless_nobody_reads(&mut self, written: io::Result<()>) -> io::Result<()> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.outcomes = false;
                Ok(())
            }
            written => written,
        }
    }

    fn outcome(&mut self, file: usize, line: u64, outcome: &Outcome, out: &mut Output) -> io::Result<()> {
        self.counts.add(outcome);
        let standing = match outcome {
            Outcome::Refused { standing, .. } => Some(standing.name()),
            _ => None,
        };
        let file = self.name_if_several(file);
        self.tell(
            &Told {
                file,
                line,
                outcome: outcome.name(),
                standing,
                error: None,
            },
            out,
        )
    }

    fn invalid(&mut self, file: usize, line: u64, error: &Error, out: &mut Output) -> io::Result<()> {
        self.counts.read += 1;
        self.counts.invalid += 1;
        let what = with_causes(error);
        talk::plain(&format!("{}:{line}: {what}", self.name(file)));
        let file = self.name_if_several(file);
        self.tell(
            &Told {
                file,
                line,
                outcome: "invalid",
                standing: None,
                error: Some(&what),
            },
            out,
        )
    }

    fn unreadable(&mut self, file: usize, error: &io::Error) {
        self.some_unreadable = true;
        talk::say(&format!("{}: {error}", visible(self.name(file))));
    }

    fn tell(&self, told: &Told<'_>, out: &mut Output) -> io::Result<()> {
        if self.outcomes { out.json(told) } else { Ok(()) }
    }

    fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("-", String::as_str)
    }

    fn name_if_several(&self, file: usize) -> Option<&str> {
        (self.files.len() > 1).then(|| self.name(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_rare_ones_show_only_where_they_occur() {
        let mut counts = Counts::default();
        counts.add(&Outcome::Applied { created: true });
        let json = serde_json::to_string(&counts).unwrap();
        let expected = r#"{"read":1,"applied":1,"late":0,"filled":0,"unchanged":0,"refused":0,"invalid":0}"#;
        assert_eq!(json, expected);
        counts.add(&Outcome::Dropped);
        assert!(
            counts
                .line(Duration::from_secs(1))
                .ends_with("invalid 0, dropped 1")
        );
        assert_eq!(counts.read, 2);
    }
}
