//! Decodes base64 as people send it, bare or in a `data:` URL, and locates the error in a malformed text.

use std::borrow::Cow;

/// Text that is not base64. Positions are bytes from the start of the text as sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Base64Error {
    /// No data.
    #[error("it is empty")]
    Empty,
    /// A `data:` URL without a comma.
    #[error("a data: URL has a comma before its data: data:image/jpeg;base64,...")]
    DataUrl,
    /// A URL in place of data.
    #[error("it is a URL, which the server does not fetch: send the image itself in base64")]
    Url,
    /// A character outside both alphabets.
    #[error("{character:?} at position {position} is not a base64 character (A-Z a-z 0-9 + / or - _)")]
    Character {
        /// The character.
        character: char,
        /// Where it is.
        position: usize,
    },
    /// The end is missing.
    #[error("base64 of {characters} characters ends in the middle of a byte: it is truncated")]
    CutOff {
        /// The characters that there are, without padding and whitespace.
        characters: usize,
    },
    /// A wrong number of `=`.
    #[error("base64 ends with {got} '=' of padding instead of {expected}")]
    Padding {
        /// How many there are.
        got: usize,
        /// How many there must be, if any.
        expected: usize,
    },
    /// The last character has bits that belong to no byte.
    #[error("the last base64 character has bits after the last byte: the text is damaged")]
    TrailingBits,
}

/// Decodes `text`: base64 of either alphabet (RFC 4648), with padding or without, with any ASCII whitespace, after a byte
/// order mark; or a `data:` URL (RFC 2397) of it, or of percent-encoded bytes.
///
/// # Errors
/// For any other text, with the place of the first error.
pub fn decode(text: &str) -> Result<Vec<u8>, Base64Error> {
    let data = text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii_start();
    let start = text.len() - data.len();
    if data.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return decode_data_url(data, start);
    }
    match decode_bare(data.as_bytes(), start) {
        Err(_) if is_url(data) => Err(Base64Error::Url),
        result => result,
    }
}

/// Whether the text begins with the scheme of a URL with an authority, such as `https://` or `s3://`.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// Decodes a `data:` URL, which begins at `start` of the text.
fn decode_data_url(url: &str, start: usize) -> Result<Vec<u8>, Base64Error> {
    let (head, data) = url.split_once(',').ok_or(Base64Error::DataUrl)?;
    let last = head.rsplit_once(';').map_or("", |(_, last)| last);
    let bytes = if data.contains('%') { Cow::Owned(percent_decoded(data)) } else { Cow::Borrowed(data.as_bytes()) };
    if last.trim_ascii().eq_ignore_ascii_case("base64") {
        decode_bare(&bytes, start + head.len() + 1)
    } else if bytes.is_empty() {
        Err(Base64Error::Empty)
    } else {
        Ok(bytes.into_owned())
    }
}

/// Replaces each `%` and two hexadecimal digits by their byte.
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                decoded.push((high << 4 | low) as u8);
                after
            }
            (byte, after) => {
                decoded.push(*byte);
                after
            }
        };
    }
    decoded
}

/// Decodes base64 that begins at `start` of the text.
fn decode_bare(data: &[u8], start: usize) -> Result<Vec<u8>, Base64Error> {
    if data.trim_ascii().is_empty() {
        return Err(Base64Error::Empty);
    }
    // What most clients send, and fast.
    base64_simd::STANDARD.decode_to_vec(data).or_else(|_| {
        let standard = |byte: &u8| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        };
        let mut plain: Vec<u8> = data.iter().filter(|byte| !byte.is_ascii_whitespace()).map(standard).collect();
        let characters = plain.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
        let padding = plain.len() - characters;
        plain.truncate(characters);
        let expected = characters.next_multiple_of(4) - characters;
        match base64_simd::STANDARD_NO_PAD.decode_to_vec(&plain) {
            Ok(decoded) if padding == 0 || padding == expected => Ok(decoded),
            _ => Err(diagnose(data, start, characters, padding)),
        }
    })
}

/// Finds the error in `data`, which begins at `start` of the text. The decoder reports only that there is one.
fn diagnose(data: &[u8], start: usize, characters: usize, got: usize) -> Base64Error {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let visible = data.iter().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace());
    for (at, &byte) in visible.take(characters) {
        if !is_base64(byte) {
            let valid = data[at..].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
            let character = valid.unwrap_or(char::REPLACEMENT_CHARACTER);
            return Base64Error::Character { character, position: start + at };
        }
    }
    let expected = characters.next_multiple_of(4) - characters;
    match expected {
        3 => Base64Error::CutOff { characters },
        _ if got != expected && got != 0 => Base64Error::Padding { got, expected },
        _ => Base64Error::TrailingBits,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        decode(text).unwrap_err().to_string()
    }

    #[test]
    fn reads_base64_as_people_send_it() {
        let data: Vec<u8> = (0..200).collect();
        let standard = base64_simd::STANDARD.encode_to_string(&data);
        let lines =
            |end: &str| standard.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + end).collect();
        let forms: [String; 9] = [
            standard.clone(),
            lines("\n"),
            lines("\r\n"),
            format!(" \t{standard}\n"),
            format!("\u{feff}{standard}"),
            standard.trim_end_matches('=').to_owned(),
            base64_simd::URL_SAFE.encode_to_string(&data),
            base64_simd::URL_SAFE_NO_PAD.encode_to_string(&data),
            standard.replace('=', " = "),
        ];
        for text in forms {
            assert_eq!(decode(&text).unwrap(), data, "{text}");
        }
    }

    #[test]
    fn reads_data_urls_of_any_form() {
        for text in [
            "data:image/jpeg;base64,/9j/",
            "DATA:;BASE64,/9j/",
            "data:image/png;name=a.png;base64,/9j/",
            "data:image/jpeg; charset=utf-8; Base64,/9j/",
            " data:;base64,\n/9j/\n",
            "data:;base64,_9j_",
            "data:;base64,%2F9j%2f",
            "data:image/jpeg,%FF%d8%Ff",
            "\u{feff}data:,%FF%D8%FF",
        ] {
            assert_eq!(decode(text).unwrap(), [0xff, 0xd8, 0xff], "{text}");
        }
        assert_eq!(decode("data:,a%2,%zz%").unwrap(), b"a%2,%zz%");
        assert_eq!(decode("data:image/jpeg;base64"), Err(Base64Error::DataUrl));
        assert_eq!(decode("data:image/jpeg,"), Err(Base64Error::Empty));
    }

    #[test]
    fn refuses_urls() {
        for text in ["http://x/cat.jpg", " HTTPS://x", "s3://bucket/cat.jpg", "file:///etc/passwd", "gs://b/c"] {
            assert_eq!(decode(text), Err(Base64Error::Url), "{text}");
        }
        assert_ne!(decode("://x"), Err(Base64Error::Url));
    }

    #[test]
    fn errors_have_a_reason_and_a_position() {
        insta::assert_snapshot!(
            ["", "\n", "data:image/png;base64,", "/9j/\n/9!/", "data:image/png;base64,/9 *", "aéb", "=abc", "ab=c", "abcde", "abc==", "abcd=", "QR==", "QR"]
                .map(|text| format!("{text:?}: {}", refusal(text)))
                .join("\n"),
            @r#"
            "": it is empty
            "\n": it is empty
            "data:image/png;base64,": it is empty
            "/9j/\n/9!/": '!' at position 7 is not a base64 character (A-Z a-z 0-9 + / or - _)
            "data:image/png;base64,/9 *": '*' at position 25 is not a base64 character (A-Z a-z 0-9 + / or - _)
            "aéb": 'é' at position 1 is not a base64 character (A-Z a-z 0-9 + / or - _)
            "=abc": '=' at position 0 is not a base64 character (A-Z a-z 0-9 + / or - _)
            "ab=c": '=' at position 2 is not a base64 character (A-Z a-z 0-9 + / or - _)
            "abcde": base64 of 5 characters ends in the middle of a byte: it is truncated
            "abc==": base64 ends with 2 '=' of padding instead of 1
            "abcd=": base64 ends with 1 '=' of padding instead of 0
            "QR==": the last base64 character has bits after the last byte: the text is damaged
            "QR": the last base64 character has bits after the last byte: the text is damaged
            "#
        );
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(data in prop::collection::vec(any::<u8>(), 1..200)) {
            let text = base64_simd::STANDARD.encode_to_string(&data);
            prop_assert_eq!(decode(&text).unwrap(), data.clone());
            prop_assert_eq!(decode(&format!("data:image/jpeg;base64,{text}")).unwrap(), data.clone());
            prop_assert_eq!(decode(&base64_simd::URL_SAFE_NO_PAD.encode_to_string(&data)).unwrap(), data);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(data:)?\\PC{0,40}") {
            let _ = decode(&text);
        }
    }
}
