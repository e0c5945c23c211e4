//! Reads encoded images from a body: JSON with base64, multipart files, or one image; and the model's other inputs.

use std::{borrow::Cow, fmt};

use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request};
use bytes::Bytes;
use http::{header, request::Parts};
use quintet_engine::{ErrorKind, InferError};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    image_input::{Image, without_mark},
    transport::work,
};

/// The most characters of a client's name that an error repeats.
const MAX_QUOTED: usize = 80;

/// The names of multipart fields that hold an image, as browsers, scripts and forms of PHP send them (`files[]`, `files[0]`).
const FIELDS: [&str; 4] = ["files", "file", "images", "image"];

/// The forms of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `{"images": ["<base64 or data: URL>", ...]}`, and as `"inputs"` the other inputs in KServe's JSON.
    Json,
    /// `multipart/form-data` with a field of [`FIELDS`] for each image, and in `inputs` the other inputs in KServe's JSON.
    Multipart,
    /// The body is one image.
    Raw,
}

/// The form of a body: the `Content-Type` counts for JSON and multipart only, otherwise the bytes do. What people send as
/// `image/jpg`, `application/octet-stream` or without a type is an image.
pub(super) fn form_of(head: &Parts, body: &[u8]) -> Form {
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "multipart/form-data" => Form::Multipart,
        "application/json" | "text/json" => Form::Json,
        // No image begins with a brace.
        _ if without_mark(body).trim_ascii_start().starts_with(b"{") => Form::Json,
        _ => Form::Raw,
    }
}

/// What a body holds.
pub(super) struct Sent {
    /// The images.
    pub(super) images: Vec<Image>,
    /// The other inputs, as an array of KServe's JSON; at most [`MAX_OTHERS_BYTES`].
    pub(super) others: Option<Bytes>,
    /// The number of all images, of which at most as many as are allowed are kept.
    count: usize,
}

/// The most bytes of JSON with other inputs: what a thread of connections reads itself.
const MAX_OTHERS_BYTES: usize = work::LARGE_BYTES;

/// The images of a body, at most `max_images`, and the other inputs in it.
///
/// # Errors
/// [`ErrorKind::TooLarge`] for more images or too much JSON, [`ErrorKind::InvalidInput`] for none or a body that cannot be
/// parsed.
pub(super) async fn read(form: Form, head: Parts, body: Bytes, max_images: usize) -> Result<Sent, InferError> {
    let sent = match form {
        Form::Json if body.len() > work::LARGE_BYTES => work::run(move |_| from_json(&body, max_images)).await?,
        Form::Json => from_json(&body, max_images)?,
        Form::Multipart if body.len() > work::LARGE_BYTES => {
            let runtime = tokio::runtime::Handle::current();
            work::run(move |_| runtime.block_on(from_multipart(head, body, max_images))).await?
        }
        Form::Multipart => from_multipart(head, body, max_images).await?,
        Form::Raw => Sent { images: vec![Image::file("the body".into(), body)], others: None, count: 1 },
    };
    let too_large = |text: String| Err(InferError::new(ErrorKind::TooLarge, text));
    if sent.count > max_images {
        let count = sent.count;
        return too_large(format!("{count} images in one request, over the limit of {max_images} (--max-images)"));
    }
    match &sent.others {
        Some(others) if others.len() > MAX_OTHERS_BYTES => too_large(format!(
            "the inputs beside the images have {} bytes of JSON, over the limit of {MAX_OTHERS_BYTES}: send them as binary \
             tensors over KServe",
            others.len()
        )),
        _ => Ok(sent),
    }
}

/// The first `max_images` images, and the other inputs.
fn from_json(body: &Bytes, max_images: usize) -> Result<Sent, InferError> {
    let malformed = |error| InferError::invalid(format_args!("failed to parse the request's JSON: {error}"));
    let mut parser = serde_json::Deserializer::from_slice(without_mark(body));
    let ((texts, count), others) = RequestSeed(max_images).deserialize(&mut parser).map_err(malformed)?;
    parser.end().map_err(malformed)?;
    if count == 0 {
        return Err(InferError::invalid("no image in the request: \"images\" is empty"));
    }
    let image = |(index, text): (usize, Cow<'_, str>)| {
        let text = match text {
            Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        };
        Image::in_base64(format!("images[{index}]"), text)
    };
    let others = others.map(|others| body.slice_ref(others.get().as_bytes()));
    Ok(Sent { images: texts.into_iter().enumerate().map(image).collect(), others, count })
}

/// Replaces a string in errors, because it may be as large as the body.
const A_STRING: Unexpected<'static> = Unexpected::Other("string");

/// The base64 texts that are kept, and the number of all texts.
type Texts<'de> = (Vec<Cow<'de, str>>, usize);

/// The images and the other inputs.
type Fields<'de> = (Texts<'de>, Option<&'de RawValue>);

/// Reads `{"images": [...], "inputs": [...]}`; keeps at most this number of texts.
struct RequestSeed(usize);

impl<'de> DeserializeSeed<'de> for RequestSeed {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"images\"")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Fields<'de>, E> {
        Err(E::invalid_type(A_STRING, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let (mut texts, mut others) = (None, None);
        while let Some(Text(key)) = map.next_key()? {
            match key.as_ref() {
                "images" if texts.is_some() => return Err(A::Error::duplicate_field("images")),
                "images" => texts = Some(map.next_value_seed(ImagesSeed(self.0))?),
                "inputs" if others.is_some() => return Err(A::Error::duplicate_field("inputs")),
                "inputs" => others = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((texts.ok_or_else(|| A::Error::missing_field("images"))?, others))
    }
}

/// Reads the array of images; keeps at most this number of texts.
struct ImagesSeed(usize);

impl<'de> DeserializeSeed<'de> for ImagesSeed {
    type Value = Texts<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Texts<'de>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ImagesSeed {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of base64 strings as \"images\"")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Texts<'de>, E> {
        Err(E::invalid_type(A_STRING, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts<'de>, A::Error> {
        let (mut texts, mut count) = (Vec::new(), 0);
        loop {
            let next = seq.next_element::<Text<'de>>();
            match next.map_err(|error| A::Error::custom(format_args!("images[{count}]: {error}")))? {
                None => return Ok((texts, count)),
                Some(Text(text)) if count < self.0 => texts.push(text),
                Some(_) => {}
            }
            count += 1;
        }
    }
}

/// A string, borrowed from the body unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The first `max_images` files of the fields in [`FIELDS`], and the other inputs.
async fn from_multipart(head: Parts, body: Bytes, max_images: usize) -> Result<Sent, InferError> {
    let malformed = |what: String| InferError::invalid(format_args!("failed to parse the multipart body: {what}"));
    let mut request = Request::from_parts(head, axum::body::Body::from(body));
    // The body was received already, within --max-input-bytes.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut parts = Multipart::from_request(request, &()).await.map_err(|error| malformed(error.body_text()))?;
    let quote = |name: &str| name.chars().take(MAX_QUOTED).collect::<String>();
    let (mut images, mut count, mut others, mut unknown) = (Vec::new(), 0, None, None);
    while let Some(field) = parts.next_field().await.map_err(|error| malformed(error.body_text()))? {
        // In `files[]` and `files[0]` the name ends before the bracket.
        let name = field.name().map(|name| name.split_once('[').map_or(name, |(name, _)| name));
        if name == Some("inputs") {
            others = Some(field.bytes().await.map_err(|error| malformed(format!("inputs: {}", error.body_text())))?);
            continue;
        }
        if !name.is_some_and(|name| FIELDS.contains(&name)) {
            unknown = unknown.or(field.name().map(quote));
            continue;
        }
        if count < max_images {
            let file = field.file_name().map(|file| format!(" {:?}", quote(file))).unwrap_or_default();
            let name = format!("files[{count}]{file}");
            let data = field.bytes().await.map_err(|error| malformed(format!("{name}: {}", error.body_text())))?;
            images.push(Image::file(name, data));
        }
        count += 1;
    }
    if count == 0 {
        let found = unknown.map(|name| format!(", only '{name}'")).unwrap_or_default();
        return Err(InferError::invalid(format_args!("no image in the request: it has no field 'files'{found}")));
    }
    Ok(Sent { images, others, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &'static str) -> Result<Sent, InferError> {
        from_json(&Bytes::from_static(text.as_bytes()), 2)
    }

    fn refusal(text: &'static str) -> String {
        json(text).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn texts_are_borrowed_and_kept_up_to_the_limit() {
        let body = Bytes::from_static(br#"{"more": {"x": [1]}, "images": ["QUI=", "Q\u0055M=", "", ""]}"#);
        let Sent { images, others, count } = from_json(&body, 2).unwrap();
        assert!(others.is_none());
        assert_eq!((images.len(), count), (2, 4));
        assert!(body.as_ptr_range().contains(&images[0].sent().as_ptr()), "not copied");
        assert_eq!(images[1].encoded().unwrap()[..], *b"AC", "escapes are resolved");
        let error = images[1].refusal(ErrorKind::InvalidInput, "bad");
        assert_eq!(error.to_string(), "images[1]: bad");
    }

    #[test]
    fn rejects_malformed_json() {
        insta::assert_snapshot!(
            [
                "", "[]", "{}", r#"{"images": "QUI="}"#, r#"{"images": []}"#, r#"{"images": ["QUI=", 7]}"#,
                r#"{"images": ["QUI="], "images": []}"#, r#"{"images": ["QUI="]} x"#, r#"{"images": ["QUI"#,
            ]
            .map(|text| format!("{text}: {}", refusal(text)))
            .join("\n"),
            @r#"
            : failed to parse the request's JSON: EOF while parsing a value at line 1 column 0
            []: failed to parse the request's JSON: invalid type: sequence, expected an object with "images" at line 1 column 0
            {}: failed to parse the request's JSON: missing field `images` at line 1 column 2
            {"images": "QUI="}: failed to parse the request's JSON: invalid type: string "QUI=", expected an array of base64 strings as "images" at line 1 column 17
            {"images": []}: no image in the request: "images" is empty
            {"images": ["QUI=", 7]}: failed to parse the request's JSON: images[1]: invalid type: integer `7`, expected a string at line 1 column 21
            {"images": ["QUI="], "images": []}: failed to parse the request's JSON: duplicate field `images` at line 1 column 29
            {"images": ["QUI="]} x: failed to parse the request's JSON: trailing characters at line 1 column 22
            {"images": ["QUI: failed to parse the request's JSON: images[0]: EOF while parsing a string at line 1 column 16
            "#
        );
    }

    #[tokio::test]
    async fn other_inputs_are_kept_as_they_are_up_to_a_limit() {
        let sent = json(r#"{"inputs": [{"name": "x"}], "images": ["QUI="]}"#).unwrap();
        assert_eq!(sent.others.unwrap(), r#"[{"name": "x"}]"#);
        assert!(refusal(r#"{"inputs": [], "images": [], "inputs": []}"#).contains("duplicate field `inputs`"));
        let many = format!(r#"{{"images": ["QUI="], "inputs": [{}1]}}"#, "1,".repeat(MAX_OTHERS_BYTES / 2));
        let head = Request::new(()).into_parts().0;
        let refused = read(Form::Json, head, many.into(), 2).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    }

    #[test]
    fn a_bad_image_is_named() {
        let images = json(r#"{"images": ["QUI=", "Q!U="]}"#).unwrap().images;
        assert!(images[0].encoded().is_ok());
        assert_eq!(
            images[1].encoded().unwrap_err().to_string(),
            "images[1]: '!' at position 1 is not a base64 character (A-Z a-z 0-9 + / or - _)"
        );
    }
}
