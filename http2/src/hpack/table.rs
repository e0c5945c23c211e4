//! The static and the dynamic table (RFC 7541 §2.3): fields that both peers know by their index.

use std::collections::VecDeque;

use bytes::Bytes;

/// Size of the dynamic table in bytes until SETTINGS_HEADER_TABLE_SIZE changes it (RFC 9113 §6.5.2).
pub const DEFAULT_TABLE_BYTES: usize = 4096;
/// Bytes that an entry counts in addition to its name and value (RFC 7541 §4.1).
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// A field's name and value.
pub(super) type Field = (Bytes, Bytes);

/// The dynamic table, whose newest entry comes first, after those of the static one.
pub(super) struct Table {
    entries: VecDeque<Field>,
    bytes: usize,
    max_bytes: usize,
}

/// The result of [`Table::find`].
pub(super) enum Found {
    /// The index of an entry with its name and value.
    Field(usize),
    /// The index of an entry with its name, and whether that is in the dynamic table.
    Name { index: usize, is_dynamic: bool },
}

impl Table {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, max_bytes }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Changes the largest size.
    // RFC 7541 §4.3: entries are evicted until the table fits it.
    pub(super) fn resize(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.evict();
    }

    /// Adds a field.
    // RFC 7541 §4.4: entries are evicted until it fits; a field larger than the table empties it, without an error.
    pub(super) fn add(&mut self, name: Bytes, value: Bytes) {
        self.bytes += name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.entries.push_front((name, value));
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.max_bytes {
            let Some((name, value)) = self.entries.pop_back() else { return };
            self.bytes -= name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        }
    }

    /// The entry of this index. The static table has 1 to 61 (RFC 7541 §2.3.3).
    pub(super) fn get(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))),
            None => self.entries.get(index - STATIC.len()).cloned(),
        }
    }

    /// Finds an entry with this name and value, or else one with this name.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<Found> {
        let fixed = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let dynamic = self.entries.iter().map(|(name, value)| (&name[..], &value[..]));
        let mut same_name = None;
        for (at, field) in fixed.chain(dynamic).enumerate().filter(|(_, field)| field.0 == name) {
            if field.1 == value {
                return Some(Found::Field(at + 1));
            }
            same_name = Some(Found::Name { index: at + 1, is_dynamic: at >= STATIC.len() });
        }
        same_name
    }
}

/// The static table (RFC 7541 appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
