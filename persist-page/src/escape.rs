//! What every value in a template goes through.

use std::fmt;

use askama::filters::{Escaper, Html};
use persist::shown::visible::visible;

/// HTML's escaping, after control characters and those that turn text around were spelt out. The templates name no other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: fmt::Write>(&self, dest: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(dest, &visible(text))
    }
}
