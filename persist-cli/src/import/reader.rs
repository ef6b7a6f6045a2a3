//! Reads and parses ahead of the database, in a thread of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::thread::JoinHandle;

use indicatif::ProgressBar;
use persist::jsonl::Lines;
use persist::{Claim, Error, SystemClock};
use tokio::sync::mpsc;

use crate::exit::{Code, Failure};
use crate::talk;
use crate::visible::visible;

/// Lines that may be read ahead.
const AHEAD: usize = 4_096;
const BUFFER_BYTES: usize = 256 * 1024;

/// A line of the input, or a file that could not be read.
#[derive(Debug)]
pub(crate) struct Item {
    /// Index of the file.
    pub(crate) file: usize,
    /// Of the line, from 1; 0 for a file.
    pub(crate) number: u64,
    pub(crate) claim: Result<Claim, Bad>,
}

/// Why there is no claim.
#[derive(Debug)]
pub(crate) enum Bad {
    Line(Error),
    /// The file could not be read, or not to its end.
    File(io::Error),
}

/// Starts reading. Ends by itself when nobody receives any more.
pub(crate) fn start(
    files: Vec<OsString>,
    strict: bool,
    bar: ProgressBar,
) -> io::Result<(mpsc::Receiver<Item>, JoinHandle<()>)> {
    let (items, received) = mpsc::channel(AHEAD);
    let read_all = move || {
        for (file, path) in files.iter().enumerate() {
            let sent = match open(path, &bar) {
                Ok(input) => send_lines(file, input, strict, &items),
                Err(error) => send(&items, unreadable(file, error), strict),
            };
            if sent.is_none() {
                return;
            }
        }
    };
    let reading = std::thread::Builder::new()
        .name("reader".into())
        .spawn(read_all)?;
    Ok((received, reading))
}

/// Whether any of them may be read: for none a database need not be created.
///
/// # Errors
/// That of the first file, where all are like it.
pub(crate) fn look(files: &[OsString]) -> Result<(), Failure> {
    let mut first = None;
    for file in files {
        match std::fs::metadata(file) {
            Err(error) if file != "-" => {
                let name = file.to_string_lossy();
                let what = format!("{}: {error}", visible(&name));
                first.get_or_insert(Failure::told(Code::Failed, what));
            }
            _ => return Ok(()),
        }
    }
    first.map_or(Ok(()), Err)
}

/// How much there is to read, if that is known.
pub(crate) fn bytes(files: &[OsString]) -> Option<u64> {
    let sizes = files
        .iter()
        .map(|file| std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file));
    sizes.map(|size| size.map(|size| size.len())).sum()
}

fn open(path: &OsString, bar: &ProgressBar) -> io::Result<Box<dyn BufRead>> {
    if path == "-" {
        if io::stdin().is_terminal() {
            talk::say("reading updates from the terminal; end with ctrl-d");
        }
        return Ok(Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            bar.wrap_read(io::stdin()),
        )));
    }
    Ok(Box::new(BufReader::with_capacity(
        BUFFER_BYTES,
        bar.wrap_read(File::open(path)?),
    )))
}

fn unreadable(file: usize, error: io::Error) -> Item {
    Item {
        file,
        number: 0,
        claim: Err(Bad::File(error)),
    }
}

/// `None` when nothing more is to be read.
fn send_lines(file: usize, input: impl BufRead, strict: bool, items: &mpsc::Sender<Item>) -> Option<()> {
    for line in Lines::new(input) {
        let item = match line {
            Ok(line) => {
                // Stamped here: a line without a time is of when it was read, however long it waits.
                let claim = line
                    .update
                    .and_then(|update| update.check(&SystemClock))
                    .map_err(Bad::Line);
                Item {
                    file,
                    number: line.number,
                    claim,
                }
            }
            Err(error) => unreadable(file, error),
        };
        send(items, item, strict)?;
    }
    Some(())
}

fn send(items: &mpsc::Sender<Item>, item: Item, strict: bool) -> Option<()> {
    let is_bad = item.claim.is_err();
    items.blocking_send(item).ok()?;
    (!(strict && is_bad)).then_some(())
}
