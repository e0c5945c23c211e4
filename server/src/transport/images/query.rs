//! What the query of a request for images asks for: `?k=5`, `?outputs=boxes,scores`.

use http::Uri;
use quintet_engine::InferError;

use crate::{image_input::base64::percent_decoded, transport::http1::query::values};

/// The number of classes of an image if the request does not say.
const DEFAULT_CLASSES: usize = 5;

/// The number of classes that `?k=` asks for.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for what is no number of at least 1.
pub(super) fn classes(uri: &Uri) -> Result<usize, InferError> {
    let Some(text) = values(uri, "k").next() else { return Ok(DEFAULT_CLASSES) };
    text.parse()
        .ok()
        .filter(|&classes| classes > 0)
        .ok_or_else(|| InferError::invalid(format_args!("k must be a whole number of at least 1, got '{text}'")))
}

/// The outputs that `?outputs=` names, separated by commas; none for all. Other characters may be percent-encoded.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for a name that is not UTF-8.
pub(super) fn outputs(uri: &Uri) -> Result<Vec<String>, InferError> {
    let names = values(uri, "outputs").flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
    names
        .map(|name| {
            String::from_utf8(percent_decoded(name))
                .map_err(|_| InferError::invalid("outputs must be names in UTF-8, percent-encoded"))
        })
        .collect()
}

/// Whether `?binary_data_output=true` asks for binary tensors; KServe's parameter of this name.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for another value than true or false.
pub(super) fn is_binary(uri: &Uri) -> Result<bool, InferError> {
    match values(uri, "binary_data_output").next() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(text) => Err(InferError::invalid(format_args!("binary_data_output must be true or false, got '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_number_of_classes() {
        let read = |uri: &'static str| classes(&Uri::from_static(uri)).map_err(|error| error.to_string());
        assert_eq!((read("/classify"), read("/classify?a&x=2&k=3")), (Ok(5), Ok(3)));
        for bad in ["/classify?k=0", "/classify?k=", "/classify?k=-1", "/classify?k=many"] {
            assert!(read(bad).unwrap_err().starts_with("k must be a whole number of at least 1, got '"), "{bad}");
        }
    }

    #[test]
    fn reads_the_names_of_outputs() {
        let read = |uri: &'static str| outputs(&Uri::from_static(uri)).unwrap();
        assert_eq!(read("/infer"), [""; 0]);
        assert_eq!(read("/infer?outputs=boxes:0,a%2Cb&outputs=%C3%A9"), ["boxes:0", "a,b", "\u{e9}"]);
        assert!(outputs(&Uri::from_static("/infer?outputs=%ff")).is_err());
        let binary = |uri: &'static str| is_binary(&Uri::from_static(uri)).ok();
        assert_eq!(binary("/infer?binary_data_output=true"), Some(true));
        assert_eq!((binary("/infer"), binary("/infer?binary_data_output=1")), (Some(false), None));
    }
}
