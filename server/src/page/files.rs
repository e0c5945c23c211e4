//! The files of the page, which are part of the program. They hold nothing secret, so they need no token: a browser sends
//! none when it opens a page.

use axum::{
    extract::Path,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};

use crate::transport::http1::reply;

/// Nothing but the page's own files, and pictures that it made itself; no other page may show it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long a browser may keep what does not change with the program.
const CACHED: &str = "max-age=3600";

/// Name, content type and content.
type File = (&'static str, &'static str, &'static [u8]);

const INDEX: File = ("", "text/html; charset=utf-8", include_bytes!("web/index.html"));

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 11] = [
    // The colours of the benchmark's reports.
    ("plots.css", STYLE, include_bytes!("../../../bench/src/report/plots.css")),
    ("page.css", STYLE, include_bytes!("web/page.css")),
    ("page.js", SCRIPT, include_bytes!("web/page.js")),
    ("server.js", SCRIPT, include_bytes!("web/server.js")),
    ("lanes.js", SCRIPT, include_bytes!("web/lanes.js")),
    ("live.js", SCRIPT, include_bytes!("web/live.js")),
    ("runs.js", SCRIPT, include_bytes!("web/runs.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("web/icon.svg")),
    ("astronaut.jpg", "image/jpeg", include_bytes!("../../../photos/astronaut.jpg")),
    ("coffee.jpg", "image/jpeg", include_bytes!("../../../photos/coffee.jpg")),
    ("rocket.jpg", "image/jpeg", include_bytes!("../../../photos/rocket.jpg")),
];

/// `GET /`
pub(super) async fn index() -> Response {
    respond(&INDEX)
}

/// `GET /page/files/{file}`
pub(super) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some(file) => respond(file),
        None => reply::not_found().await,
    }
}

fn respond((_, content_type, content): &File) -> Response {
    let caching = if content_type.starts_with("image/") { CACHED } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, *content_type),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), *content).into_response()
}
