//! Decodes base64, bare or in a data URI, and locates the error in a malformed text.

/// Text that is not base64. Positions are bytes from the start of the text as sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Base64Error {
    /// No data.
    #[error("it is empty")]
    Empty,
    /// A data URI without `;base64,`.
    #[error("a data URI must be in base64: data:image/jpeg;base64,...")]
    Uri,
    /// Whitespace, usually line breaks.
    #[error("whitespace in base64 at position {position}: send it in one piece, without line breaks")]
    Whitespace {
        /// Where it is.
        position: usize,
    },
    /// A character outside the standard alphabet, such as `-` and `_` of the URL-safe one.
    #[error("{character:?} at position {position} is not a base64 character (A-Z a-z 0-9 + /)")]
    Character {
        /// The character.
        character: char,
        /// Where it is.
        position: usize,
    },
    /// The end is missing.
    #[error("base64 of {characters} characters ends in the middle of a byte: it is truncated")]
    CutOff {
        /// The characters that there are, without padding.
        characters: usize,
    },
    /// A wrong number of `=`.
    #[error("base64 ends with {got} '=' of padding instead of {expected}")]
    Padding {
        /// How many there are.
        got: usize,
        /// How many there must be.
        expected: usize,
    },
    /// The last character has bits that belong to no byte.
    #[error("the last base64 character has bits after the last byte: the text is damaged")]
    TrailingBits,
}

/// Decodes `text`: standard base64 with padding, or a `data:` URI (RFC 2397) of it.
///
/// # Errors
/// For any other text, with the place of the first error.
pub fn decode(text: &str) -> Result<Vec<u8>, Base64Error> {
    let at = data_start(text)?;
    let data = &text[at..];
    if data.is_empty() {
        return Err(Base64Error::Empty);
    }
    base64_simd::STANDARD.decode_to_vec(data).map_err(|_| diagnose(data, at))
}

/// Where the base64 begins: after `data:<media type>[;parameters];base64,` in a data URI, otherwise at 0.
fn data_start(text: &str) -> Result<usize, Base64Error> {
    if !text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return Ok(0);
    }
    let comma = text.find(',').ok_or(Base64Error::Uri)?;
    let last = text[..comma].rsplit_once(';').map(|(_, last)| last);
    if !last.is_some_and(|last| last.eq_ignore_ascii_case("base64")) {
        return Err(Base64Error::Uri);
    }
    Ok(comma + 1)
}

/// Finds the error in `data`, which begins at `offset` of the text. The decoder reports only that there is one.
fn diagnose(data: &str, offset: usize) -> Base64Error {
    let characters = data.trim_end_matches('=');
    for (at, character) in characters.char_indices() {
        let position = offset + at;
        if character.is_whitespace() {
            return Base64Error::Whitespace { position };
        }
        if !(character.is_ascii_alphanumeric() || matches!(character, '+' | '/')) {
            return Base64Error::Character { character, position };
        }
    }
    let expected = characters.len().next_multiple_of(4) - characters.len();
    let got = data.len() - characters.len();
    match (expected, got) {
        (3, _) => Base64Error::CutOff { characters: characters.len() },
        _ if got != expected => Base64Error::Padding { got, expected },
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
    fn reads_data_uris() {
        for text in
            ["/9j/", "data:image/jpeg;base64,/9j/", "DATA:;BASE64,/9j/", "data:image/png;name=a.png;base64,/9j/"]
        {
            assert_eq!(decode(text).unwrap(), [0xff, 0xd8, 0xff], "{text}");
        }
        for text in ["data:image/jpeg,/9j/", "data:base64,/9j/", "data:image/jpeg;base64"] {
            assert_eq!(decode(text), Err(Base64Error::Uri), "{text}");
        }
    }

    #[test]
    fn errors_have_a_reason_and_a_position() {
        insta::assert_snapshot!(
            ["", "data:image/png;base64,", "/9j/\n/9j/", "data:image/png;base64,/9 j", "ab_c", "aéb", "=abc", "abcde", "abc", "abc==", "abcd=", "QR=="]
                .map(|text| format!("{text:?}: {}", refusal(text)))
                .join("\n"),
            @r#"
            "": it is empty
            "data:image/png;base64,": it is empty
            "/9j/\n/9j/": whitespace in base64 at position 4: send it in one piece, without line breaks
            "data:image/png;base64,/9 j": whitespace in base64 at position 24: send it in one piece, without line breaks
            "ab_c": '_' at position 2 is not a base64 character (A-Z a-z 0-9 + /)
            "aéb": 'é' at position 1 is not a base64 character (A-Z a-z 0-9 + /)
            "=abc": '=' at position 0 is not a base64 character (A-Z a-z 0-9 + /)
            "abcde": base64 of 5 characters ends in the middle of a byte: it is truncated
            "abc": base64 ends with 0 '=' of padding instead of 1
            "abc==": base64 ends with 2 '=' of padding instead of 1
            "abcd=": base64 ends with 1 '=' of padding instead of 0
            "QR==": the last base64 character has bits after the last byte: the text is damaged
            "#
        );
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(data in prop::collection::vec(any::<u8>(), 1..200)) {
            let text = base64_simd::STANDARD.encode_to_string(&data);
            prop_assert_eq!(decode(&text).unwrap(), data.clone());
            prop_assert_eq!(decode(&format!("data:image/jpeg;base64,{text}")).unwrap(), data);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(data:)?\\PC{0,40}") {
            let _ = decode(&text);
        }
    }
}
