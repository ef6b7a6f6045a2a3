//! Logs: to stderr, without colours, and without a control character of whatever is logged.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::args::Globals;
use crate::talk;
use crate::visible::visible;

pub(crate) fn start(globals: &Globals) {
    let usual = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        // A driver's own talk is for RUST_LOG.
        (_, 1) => "warn,persist=info",
        (_, _) => "warn,persist=debug",
    };
    let (filter, unreadable) = match std::env::var("RUST_LOG").as_deref() {
        Err(_) | Ok("") => (EnvFilter::new(usual), false),
        Ok(text) => match EnvFilter::builder().parse(text) {
            Ok(filter) => (filter, false),
            Err(_) => (EnvFilter::new(usual), true),
        },
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| OneLine)
        .init();
    if unreadable {
        talk::say("RUST_LOG can't be read and was ignored; write for example RUST_LOG=persist=debug");
    }
}

/// The formatter writes each event in one piece that ends in a line feed; any other is the event's own.
struct OneLine;

impl io::Write for OneLine {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        talk::plain(&visible(text.trim_end_matches('\n')));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
