//! The query of a request's path, such as `?k=5` and `?outputs=boxes,scores`.

use http::Uri;

/// The values of a name, as they were sent.
pub fn values<'a>(uri: &'a Uri, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
}
