//! What goes and what stays, shape by shape.

use super::*;

#[test]
fn i8_credentials_go_and_everything_else_stays() {
    let table = [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("https://u:p@example.org/a.git", "https://example.org/a.git"),
        ("https://u:p@ss@example.org/a.git", "https://example.org/a.git"),
        ("https://u:pa/ss@example.org/a.git", "https://example.org/a.git"),
        ("https://u:pa?ss@example.org/a.git", "https://example.org/a.git"),
        ("https://u:pa#s@s@example.org/a?x=1", "https://example.org/a?x=1"),
        ("https://u:pa?s/s@example.org/a", "https://example.org/a"),
        ("https://u:p/a?s@example.org/a", "https://example.org/a"),
        ("git@h:acme/app?x=a@b", "git@h:acme/app?x=a@b"),
        ("ssh://git@h:acme/app?x=a@b", "ssh://git@h:acme/app?x=a@b"),
        ("https://u@corp.org:pa?ss@h/a.git", "https://h/a.git"),
        ("https://u@corp.org:pa/ss@h/a.git", "https://h/a.git"),
        ("https://u@h:8443/a@v1", "https://u@h:8443/a@v1"),
        ("https://u@h:8443?x=a@b", "https://u@h:8443?x=a@b"),
        ("ssh://git@h:acme/a@v1", "ssh://git@h:acme/a@v1"),
        ("https://u@[::1]:8443/a@v1", "https://u@[::1]:8443/a@v1"),
        ("https://[::1]/a@v1?x=a@b", "https://[::1]/a@v1?x=a@b"),
        ("https://u@[::1]:8443?x=a@b", "https://u@[::1]:8443?x=a@b"),
        ("git:pa?ss@h:acme/a.git", "h:acme/a.git"),
        ("https://h:8080?mail=a@b", "https://h:8080?mail=a@b"),
        ("https://h/a?x=1;token=t&ref=y", "https://h/a?ref=y"),
        ("https://u%3Ap@example.org/a.git", "https://example.org/a.git"),
        ("https://:p@example.org/a.git", "https://example.org/a.git"),
        (
            "https://0123456789abcdef0123:x-oauth-basic@example.org/a",
            "https://example.org/a",
        ),
        ("https://ghp_abc@example.org/a", "https://example.org/a"),
        (
            "https://0123456789abcdef0123@example.org/a",
            "https://example.org/a",
        ),
        ("https://alice@example.org/a", "https://alice@example.org/a"),
        ("ssh://git@example.org/a", "ssh://git@example.org/a"),
        ("ssh://git:pw@example.org:22/a", "ssh://example.org:22/a"),
        ("git@example.org:acme/app.git", "git@example.org:acme/app.git"),
        ("git:pw@example.org:acme/app.git", "example.org:acme/app.git"),
        ("https:/u:p@example.org/a", "https:/example.org/a"),
        ("https:///u:p@example.org/a", "https:///example.org/a"),
        ("/srv/git/a@b:c.git", "/srv/git/a@b:c.git"),
        ("https://h/a@b:c.git", "https://h/a@b:c.git"),
        ("/srv/git/a:b@c.git", "/srv/git/a:b@c.git"),
        ("https://proxy:8443/u:p@h/a", "https://proxy:8443/h/a"),
        ("https://proxy/https:/u:p@h/a", "https://proxy/https:/h/a"),
        (
            "https://alice@proxy/https:/u%3Ap@h/a",
            "https://alice@proxy/https:/h/a",
        ),
        ("proxy/https:/u:p@h/a", "proxy/https:/h/a"),
        ("https://proxy/ghp_0123456789@h/a", "https://proxy/h/a"),
        (
            "https://proxy/cache:v2/https://u:p@h/a",
            "https://proxy/cache:v2/https://h/a",
        ),
        (
            "https://proxy/cache:v2/https://u:p/s@h/a",
            "https://proxy/cache:v2/https://h/a",
        ),
        ("https://proxy/u:pa/ss@h/a", "https://proxy/h/a"),
        ("https://alice@proxy/u:pa/ss@h/a", "https://alice@proxy/h/a"),
        ("https://corp/user:pa/ss@h/a", "https://corp/h/a"),
        ("https://proxy:8443/u:pa/ss@h/a", "https://proxy:8443/h/a"),
        ("https://proxy/https:/u:pa/ss@h/a", "https://proxy/https:/h/a"),
        ("https://u:/secret@h/a", "https://h/a"),
        ("https://u:?secret@h/a", "https://h/a"),
        ("https://u:#secret@h/a", "https://h/a"),
        ("https://u:pa?ss@h/r?ref=pkg@1.2", "https://h/r?ref=pkg@1.2"),
        ("https://u:pa/ss@h/r?ref=a@b", "https://h/r?ref=a@b"),
        ("git+https://0123456789abcdef0123@h/a", "git+https://h/a"),
        ("git+https://u:pa?s/s@h/a", "git+https://h/a"),
        ("git+https://alice@corp.org:pa/ss@h/a", "git+https://h/a"),
        ("HTTPS://0123456789abcdef0123@h/a", "HTTPS://h/a"),
        ("https:/u:pa/ss@h/a", "https:/h/a"),
        ("cache:v2/https:/u:p@h/a", "cache:v2/https:/h/a"),
        ("//https:/u:p@h/a", "//https:/h/a"),
        ("file:///srv/git/a:b@c.git", "file:///srv/git/a:b@c.git"),
        ("h:/srv/git/a:b@c.git", "h:/srv/git/a:b@c.git"),
        ("https://h/a:8443/b@v1", "https://h/a:8443/b@v1"),
        (
            "https://proxy/cache:v2/https://git@h/a",
            "https://proxy/cache:v2/https://git@h/a",
        ),
        ("ssh://git@proxy/u:p@h/a", "ssh://git@proxy/h/a"),
        ("ssh://git@proxy/https:/u:p@h/a", "ssh://git@proxy/https:/h/a"),
        ("ssh://git@proxy/ghp_0123456789@h/a", "ssh://git@proxy/h/a"),
        ("git@proxy:cache/https:/u:p@h/a", "git@proxy:cache/https:/h/a"),
        ("https://u:p@ss?word@h/a", "https://ss?word@h/a"),
        ("proxy/HTTPS:/u:p@h/a", "proxy/HTTPS:/h/a"),
        ("proxy/ssh:/u:p@h/a", "proxy/ssh:/h/a"),
        ("FILE:///srv/git/a:b@c.git", "FILE:///srv/git/a:b@c.git"),
        ("git+file:///srv/a:b@c.git", "git+file:///srv/a:b@c.git"),
        (
            "https://proxy/https:/0123456789abcdef0123@h/a",
            "https://proxy/https:/h/a",
        ),
        ("https://[u:se/cret@h/a", "https://h/a"),
        ("https://h:/a@v1", "https://v1"),
        ("https://h/wiki/Talk:Main/page@v2", "https://h/wiki/v2"),
        ("https://h/app:tag@v1", "https://h/v1"),
        (
            "https://h/a-branch-with-a-long-name@v1",
            "https://h/a-branch-with-a-long-name@v1",
        ),
        ("https://example.org:8443/a@v1", "https://example.org:8443/a@v1"),
        ("https://h/a?token=t", "https://h/a"),
        ("https://h/a?TOKEN=t&ref=x", "https://h/a?ref=x"),
        ("https://h/a?ref=x&private%5Ftoken=t#L1", "https://h/a?ref=x#L1"),
        ("https://h/a#access_token=t&x=1", "https://h/a#x=1"),
        ("https://h/a?tokens=2", "https://h/a?tokens=2"),
        ("https://u:p@/x:y@h/a", "https:///h/a"),
        ("git:pw@h:acme/a://b", "h:acme/a://b"),
        ("git@https://u:p@h/a", "git@https://h/a"),
        ("proxy.example/https://u:p@h/a", "proxy.example/https://h/a"),
        (
            "https://proxy.example/https://u:p@h/a",
            "https://proxy.example/https://h/a",
        ),
        ("//https://u:p@h/a", "//https://h/a"),
        ("proxy/https://ghp_0123456789@h/a", "proxy/https://h/a"),
        ("proxy/https://u:pa?ss@h/a", "proxy/https://h/a"),
        ("https://u:a://b@h/a", "https://h/a"),
        ("https://u:pw://x:y@h/a", "https://h/a"),
        ("https://u:secret://ghp_0123456789@h/a", "https://h/a"),
        (
            "https://h/a?ref=http://b:c?y&token=ab@cd",
            "https://h/a?ref=http://b:c?y",
        ),
        (
            "p/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b/?mail=x@y",
            "p/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b/?mail=x@y",
        ),
        (
            "https://h/a?next=http://b:c?mail=x@y",
            "https://h/a?next=http://b:c?mail=x@y",
        ),
        (
            "proxy/https://u:p@h/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b",
            "proxy/https://h/a://b/a://b/a://b/a://b/a://b/a://b/a://b/a://b",
        ),
        ("https://proxy/https://git@h/a", "https://proxy/https://git@h/a"),
        ("https:u:p@h/a:/b", "h/a:/b"),
        ("ext::https://u:p@h/a", "ext::https://h/a"),
        (
            "https://u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@/u:p@h/a",
            "h/a",
        ),
        ("", ""),
    ];
    for (given, stored) in table {
        assert_eq!(strip_credentials(given), stored, "{given}");
        assert_eq!(
            strip_credentials(stored),
            stored,
            "a second pass changes {stored}"
        );
    }
}

#[test]
fn what_is_stored_is_what_is_left_within_the_limit() {
    let stored = |text: &str| normalize(Some(text.to_owned())).unwrap();
    assert_eq!(stored("https://u:p@h/a"), Some("https://h/a".into()));
    assert_eq!((stored(""), stored("?token=t")), (None, None));
    assert_eq!(normalize(None).unwrap(), None);
    assert!(normalize(Some("a\0".into())).is_err());
    let longest = "a".repeat(limits::REPO_URL_BYTES);
    assert_eq!(stored(&format!("{longest}?token=t")), Some(longest.clone()));
    assert!(normalize(Some(longest + "a")).is_err());
}

#[test]
fn i8_a_password_goes_wherever_its_user_stands() {
    let schemes = [
        "https://",
        "HTTP://",
        "git+https://",
        "ext::https://",
        "https:/",
        "https:///",
    ];
    let fronts = [
        "",
        "proxy/",
        "proxy:8443/",
        "alice@proxy/",
        "proxy/cache:v2/https:/",
        "proxy/HTTPS:/",
        "proxy/https://",
    ];
    let passwords = [
        "SECRET",
        "SECRET%2Fx",
        "xSECRET:x",
        "x@SECRET",
        "x/SECRET",
        "/SECRET",
        "x//SECRET",
        ":SECRET",
        "SECRET/",
        "SECRET/x:x",
        "SECRET://x",
        "https:/SECRET",
    ];
    let cut = [
        "x?SECRET",
        "x#SECRET",
        "?SECRET",
        "x?x/SECRET",
        "x/x?SECRET",
        "x?x#SECRET",
    ];
    for scheme in schemes {
        for front in fronts {
            let of_path: &[&str] = if front.is_empty() { &cut } else { &[] };
            for password in passwords.iter().chain(of_path) {
                for user in ["u", "", "u%40corp.org", "u@corp.org", "SECRET"] {
                    let given = format!("{scheme}{front}{user}:{password}@h.example/a.git?ref=x@y");
                    let stored = strip_credentials(&given);
                    assert!(!stored.contains("SECRET"), "{given} is stored as {stored}");
                    assert!(
                        stored.ends_with("h.example/a.git?ref=x@y"),
                        "{given} is stored as {stored}"
                    );
                    assert_eq!(
                        strip_credentials(&stored),
                        stored,
                        "a second pass changes {stored}"
                    );
                }
            }
        }
    }
}

/// A text comes from outside before its length is looked at: work that grows with its square would not end here.
#[test]
fn a_long_text_takes_no_longer_than_it_is_long() {
    let many = |word: &str| word.repeat(4_000_000 / word.len());
    for (url, clean) in [
        (format!("https://u:{}@h", many("?")), "https://h"),
        (format!("https://u:{}@h", many("/")), "https://h"),
        (format!("https://u:{}@h", many("#/")), "https://h"),
        (format!("https://u:{}h", many("p@")), "https://h"),
        (format!("https://p/u:{}h", many("p@")), "https://p/h"),
        (format!("{}u:p@h", many("a://")), "h"),
    ] {
        assert_eq!(strip_credentials(&url), clean);
    }
}
