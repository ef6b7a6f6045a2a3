//! stdout: data, and nothing but data.

use std::io::{self, BufWriter, Stdout, Write as _};

use serde::Serialize;

use crate::visible::visible_json;

/// Large enough that rows don't cost a call each.
const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Output(BufWriter<Stdout>);

impl Output {
    pub(crate) fn stdout() -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()))
    }

    /// A line that is fit for a terminal.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(line.as_bytes())?;
        self.0.write_all(b"\n")
    }

    /// A JSON value on a line of its own.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        self.line(&json(value)?)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// JSON that can be printed on a terminal.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    let json = serde_json::to_string(value).map_err(io::Error::other)?;
    Ok(visible_json(&json).into_owned())
}
