//! A file of lines, read in constant memory.

use std::io::{self, BufRead, Read as _};

use crate::error::{Error, ErrorKind, Result};
use crate::jsonl::parse;
use crate::update::Update;

/// Most bytes of a line, without its line feed.
pub const LINE_BYTES: usize = 64 * 1024;
/// A line of a file: its number from 1, and the update or what is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct NumberedLine {
    /// From 1.
    pub number: u64,
    /// The update, or why there is none.
    pub update: Result<Update>,
}

/// Reads a file of updates in constant memory. Blank lines are skipped; CRLF and a byte-order mark are taken;
/// a bad line is reported with its number and the next one read.
///
/// Yields `Err` only when reading itself fails, and then ends.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
    buffer: Vec<u8>,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads from here.
    pub fn new(input: R) -> Self {
        Self {
            input,
            number: 0,
            buffer: Vec::with_capacity(1024),
            failed: false,
        }
    }

    /// The next raw line into `buffer`, at most one byte beyond the limit; `None` at the end.
    fn fill(&mut self) -> io::Result<Option<Result<()>>> {
        self.buffer.clear();
        // Two more than the limit: the line feed, and a carriage return before it.
        let limit = LINE_BYTES as u64 + 2;
        let read = self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.buffer.last() == Some(&b'\n');
        if !ended && read as u64 == limit {
            self.skip_line()?;
        }
        if self.number == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.buffer.drain(..3);
        }
        for end in [b'\n', b'\r'] {
            if self.buffer.last() == Some(&end) {
                self.buffer.pop();
            }
        }
        if self.buffer.len() > LINE_BYTES {
            let what = format!("the line is longer than {LINE_BYTES} bytes");
            return Ok(Some(Err(Error::new(ErrorKind::InvalidInput, what))));
        }
        Ok(Some(Ok(())))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |at| at + 1);
            self.input.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<NumberedLine>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.failed {
                return None;
            }
            let update = match self.fill() {
                Ok(None) => return None,
                Ok(Some(Err(error))) => Err(error),
                Ok(Some(Ok(()))) => match std::str::from_utf8(&self.buffer) {
                    Ok(text) if text.trim().is_empty() => continue,
                    Ok(text) => parse(text),
                    Err(error) => Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!("not UTF-8 (column {})", error.valid_up_to() + 1),
                    )),
                },
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            };
            return Some(Ok(NumberedLine {
                number: self.number,
                update,
            }));
        }
    }
}
