//! The files that a page needs, which are part of the program.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;

use crate::failure::{Answer, Failure};

const FILES: [(&str, &str, &str); 3] = [
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("../assets/page.css"),
    ),
    (
        "page.js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/page.js"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

pub(crate) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let none = || Failure::not_found("nothing is at this address");
    let (_, kind, text) = FILES.iter().find(|(of, _, _)| *of == name).ok_or_else(none)?;
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let tag = format!("\"{:016x}\"", hash.finish());
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| *known == *tag);
    // Asked anew each time, and answered with no body as long as the program is the same.
    let told = [
        (header::CONTENT_TYPE, (*kind).to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag),
    ];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, told).into_response());
    }
    Ok((told, *text).into_response())
}
