//! By which names a server is asked.

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// The names and addresses of this machine for itself.
pub const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Whether the request names one of these hosts, with whatever port. One that names none is of no browser and is refused too.
pub(crate) fn is_asked(hosts: &[String], uri: &Uri, headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let (first, second) = (named.next(), named.next());
    let host = match (uri.authority(), first, second) {
        (Some(authority), _, _) => Some(authority.clone()),
        (None, Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        _ => None,
    };
    let Some(host) = host else { return false };
    let name = host.host().trim_end_matches('.').to_ascii_lowercase();
    !host.as_str().contains('@') && hosts.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_this_machine_pass() {
        let hosts = LOOPBACK.map(str::to_owned);
        let asked = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_asked(&hosts, &Uri::from_static("/"), &headers)
        };
        for host in [
            "localhost",
            "localhost:8080",
            "LocalHost.",
            "127.0.0.1:1",
            "[::1]:8080",
        ] {
            assert!(asked(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "x@localhost",
            "",
            "a b",
        ] {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_asked(&hosts, &Uri::from_static("/"), &HeaderMap::new()));
        // A whole address counts before the header, and of two headers neither does.
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        let whole = |uri| is_asked(&hosts, &Uri::from_static(uri), &headers);
        assert!(whole("http://localhost:8080/") && !whole("http://evil.example/"));
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert!(!is_asked(&hosts, &Uri::from_static("/"), &headers));
    }
}
