//! What the program says beside its data: stderr, shared by messages, logs and the progress bar.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::visible::visible;

/// Knows the bar on the screen, so that a message does not land in the middle of it.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// `persist: text`, as one line.
pub(crate) fn say(text: &str) {
    plain(&format!("persist: {text}"));
}

/// One line as it is, escaped.
pub(crate) fn plain(line: &str) {
    write(format!("{}\n", visible(line)).as_bytes());
}

/// Bytes that are already fit for a terminal.
pub(crate) fn write(bytes: &[u8]) {
    // Nobody is left to be told that stderr is closed.
    BARS.suspend(|| {
        let _ = std::io::stderr().write_all(bytes);
    });
}

/// A bar over so many bytes, or a spinner where it is not known how many will come. Hidden without a terminal.
pub(crate) fn progress(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:30} {bytes}/{total_bytes}, {msg}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}"),
    };
    started(bar, template, "0 lines")
}

/// A spinner before what is being done. Hidden without a terminal.
pub(crate) fn spinner(doing: &'static str) -> ProgressBar {
    started(ProgressBar::new_spinner(), "{spinner} {msg}", doing)
}

fn started(bar: ProgressBar, template: &str, message: &'static str) -> ProgressBar {
    let bar = BARS.add(bar);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(message);
    if !BARS.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
