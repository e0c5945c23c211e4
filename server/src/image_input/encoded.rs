//! An image as a client sent it: a file, or base64 of one.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use quintet_engine::{ErrorKind, InferError};

use super::base64;

/// An image as it was sent, not checked yet.
#[derive(Debug)]
pub struct Image {
    /// Its name in errors: `images[3]`, `files[3] "cat.jpg"`, `the body`.
    name: String,
    data: Data,
}

/// The data of an image; a slice of the body if possible.
#[derive(Debug)]
enum Data {
    Base64(Bytes),
    Encoded(Bytes),
}

impl Image {
    /// An image in base64, with its name in errors.
    pub fn in_base64(name: String, text: Bytes) -> Self {
        Self { name, data: Data::Base64(text) }
    }

    /// An image file, or a text that holds one: a `data:` URL, or base64 of an image. With its name in errors.
    pub fn file(name: String, file: Bytes) -> Self {
        Self { name, data: Data::Encoded(file) }
    }

    /// Its bytes as they were sent.
    pub fn sent(&self) -> &Bytes {
        let (Data::Base64(sent) | Data::Encoded(sent)) = &self.data;
        sent
    }

    /// The encoded image file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for malformed base64.
    pub fn encoded(&self) -> Result<Cow<'_, [u8]>, InferError> {
        let text = match &self.data {
            Data::Encoded(data) if !is_text(data) => return Ok(Cow::Borrowed(data)),
            Data::Encoded(data) | Data::Base64(data) => std::str::from_utf8(data),
        };
        let text = text.map_err(|error| self.refusal(ErrorKind::InvalidInput, error))?;
        let encoded = base64::decode(text).map_err(|error| self.refusal(ErrorKind::InvalidInput, error))?;
        Ok(Cow::Owned(encoded))
    }

    /// An error that names this image.
    pub fn refusal(&self, kind: ErrorKind, what: impl fmt::Display) -> InferError {
        InferError::new(kind, format_args!("{}: {what}", self.name))
    }
}

/// What a Windows program writes in front of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A text without its byte order mark.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Whether a file is a text that holds an image: a `data:` URL, or base64 of a format that is read.
fn is_text(file: &[u8]) -> bool {
    let text = without_mark(file).trim_ascii_start();
    let starts = [&b"/9j/"[..], b"_9j_", b"iVBORw0KGgo", b"UklGR", b"R0lGOD"];
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"))
        || starts.iter().any(|start| text.starts_with(start))
}

/// Images with these base64 texts, as from JSON.
#[cfg(test)]
pub(super) fn images_of(texts: &[&'static str]) -> Vec<Image> {
    let image = |(index, text): (usize, &&'static str)| {
        Image::in_base64(format!("images[{index}]"), Bytes::from_static(text.as_bytes()))
    };
    texts.iter().enumerate().map(image).collect()
}
