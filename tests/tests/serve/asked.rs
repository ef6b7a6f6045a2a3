//! The least of a client for pages.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use persist_tests::process::BOUND;

/// The whole answer, head and body.
pub(crate) fn try_get(address: &str, path: &str) -> io::Result<String> {
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(BOUND))?;
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The same of a server that is there.
pub(crate) fn get(address: &str, path: &str) -> String {
    try_get(address, path).unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}
