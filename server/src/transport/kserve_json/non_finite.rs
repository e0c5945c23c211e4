//! NaN and infinities, which JSON does not have.

use quintet_proto::Float;

/// The names of the numbers, as JavaScript, Python and RapidJSON write them.
const NAMES: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// The number of this name.
pub(super) fn from_name<T: Float>(name: &str) -> Option<T> {
    let number = NAMES.iter().position(|known| *known == name)?;
    Some([T::nan(), T::infinity(), T::neg_infinity()][number])
}

/// The name of a number that is not finite.
pub(super) fn name<T: Float>(number: T) -> Option<&'static str> {
    match (number.is_nan(), number.is_infinite(), number.is_sign_negative()) {
        (true, _, _) => Some(NAMES[0]),
        (_, true, negative) => Some(NAMES[if negative { 2 } else { 1 }]),
        _ => None,
    }
}

/// The text with quotes around the numbers that some clients write as bare words; `None` if it has none.
pub(in crate::transport) fn quoted(json: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut copied, mut at, mut in_string) = (0, 0, false);
    while let Some(&byte) = json.get(at) {
        let word = match byte {
            b'\\' if in_string => {
                at += 2;
                continue;
            }
            b'"' => {
                in_string = !in_string;
                None
            }
            b'N' | b'I' | b'-' if !in_string => NAMES.iter().find(|name| json[at..].starts_with(name.as_bytes())),
            _ => None,
        };
        let Some(word) = word else {
            at += 1;
            continue;
        };
        out.extend_from_slice(&json[copied..at]);
        out.push(b'"');
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
        at += word.len();
        copied = at;
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&json[copied..]);
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bare_words_outside_of_strings_are_quoted() {
        let quoted = |text: &str| quoted(text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(
            quoted(r#"{"NaN":[NaN, -Infinity,Infinity],"x\\\"NaN":-1}"#).as_deref(),
            Some(r#"{"NaN":["NaN", "-Infinity","Infinity"],"x\\\"NaN":-1}"#)
        );
        assert_eq!(quoted(r#"["NaN", -1, "\\", "Infinity"]"#), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_kept_but_for_quotes(json: Vec<u8>, words in "([NI\\\\\"-]|NaN|-?Infinity){0,9}") {
            for text in [json, words.into_bytes()] {
                let plain = |text: &[u8]| text.iter().copied().filter(|byte| *byte != b'"').collect::<Vec<_>>();
                if let Some(quoted) = quoted(&text) {
                    prop_assert_eq!(plain(&quoted), plain(&text));
                }
            }
        }

        #[test]
        fn names_are_read_back(bits: u32) {
            let number = f32::from_bits(bits);
            prop_assert_eq!(name(number).is_none(), number.is_finite());
            if let Some(name) = name(number) {
                let read: f32 = from_name(name).unwrap();
                prop_assert!(read == number || (read.is_nan() && number.is_nan()));
            }
        }
    }
}
