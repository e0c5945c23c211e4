//! Reads NumPy's `.npy` files (format 1 to 3): the data type, the shape, and where the elements begin.
//!
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

/// The first bytes of every file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The head of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// KServe's name of the data type.
    pub(super) datatype: &'static str,
    /// The dimensions.
    pub(super) shape: Vec<i64>,
    /// Offset of the first element.
    pub(super) start: usize,
}

/// Reads the head of a file.
///
/// # Errors
/// What is wrong, or which form is not supported.
pub(super) fn head(file: &[u8]) -> Result<Head, String> {
    let rest = file.strip_prefix(MAGIC).ok_or("it is not a .npy file")?;
    let (length, after) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 6),
        _ => return Err("its format is newer than 3, or it has no head".into()),
    };
    let text = rest.get(after..).and_then(|rest| rest.get(..length)).ok_or("its head is cut off")?;
    let text = std::str::from_utf8(text).map_err(|_| "its head is not text")?;
    if value(text, "fortran_order")?.starts_with("True") {
        return Err("its elements are in Fortran's order; save numpy.ascontiguousarray(a)".into());
    }
    let descr = value(text, "descr")?.trim_start_matches(['\'', '"']);
    let descr = descr.split(['\'', '"']).next().unwrap_or_default();
    let datatype =
        datatype(descr).ok_or_else(|| format!("its type {descr} is not supported; use little-endian numbers"))?;
    let dims = value(text, "shape")?.strip_prefix('(').and_then(|rest| rest.split(')').next());
    let dims = dims.ok_or("its head has no shape")?;
    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(str::parse::<u32>);
    let shape = dims.map(|dim| dim.map(i64::from)).collect::<Result<_, _>>().map_err(|_| "its shape has no numbers")?;
    Ok(Head { datatype, shape, start: MAGIC.len() + after + length })
}

/// The text after a key of the head, which is a Python dictionary.
fn value<'a>(head: &'a str, key: &str) -> Result<&'a str, String> {
    let at =
        [format!("'{key}':"), format!("\"{key}\":")].into_iter().find_map(|key| Some(head.find(&key)? + key.len()));
    at.map(|at| head[at..].trim_start()).ok_or_else(|| format!("its head has no {key}"))
}

/// KServe's name of a NumPy type.
fn datatype(descr: &str) -> Option<&'static str> {
    Some(match descr {
        "|b1" => "BOOL",
        "|i1" => "INT8",
        "<i2" => "INT16",
        "<i4" => "INT32",
        "<i8" => "INT64",
        "|u1" => "UINT8",
        "<u2" => "UINT16",
        "<u4" => "UINT32",
        "<u8" => "UINT64",
        "<f2" => "FP16",
        "<f4" => "FP32",
        "<f8" => "FP64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file as numpy.save writes it: the head is padded with spaces to a multiple of 64.
    fn file(dictionary: &str, elements: &[u8]) -> Vec<u8> {
        let mut head = dictionary.to_owned();
        head.push_str(&" ".repeat(64 - (dictionary.len() + 11) % 64));
        head.push('\n');
        [MAGIC, &[1, 0], &(head.len() as u16).to_le_bytes(), head.as_bytes(), elements].concat()
    }

    #[test]
    fn numpys_files_are_read() {
        let bytes = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &[7; 24]);
        let found = head(&bytes).unwrap();
        assert_eq!((found.datatype, &found.shape[..], bytes.len() - found.start), ("FP32", &[2, 3][..], 24));
        let scalar = head(&file("{'descr': '<i8', 'fortran_order': False, 'shape': (), }", &[])).unwrap();
        assert_eq!((scalar.datatype, scalar.shape.len()), ("INT64", 0));
        let one = head(&file("{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }", &[])).unwrap();
        assert_eq!(one.shape, [5]);
    }

    #[test]
    fn other_forms_are_refused_with_the_reason() {
        let reason = |dictionary: &str| head(&file(dictionary, &[])).unwrap_err();
        assert!(reason("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }").contains(">f4"));
        assert!(reason("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }").contains("Fortran"));
        assert!(reason("{'fortran_order': False, 'shape': (1,), }").contains("no descr"));
        assert!(reason("{'descr': '<f4', 'fortran_order': False, 'shape': (x,), }").contains("no numbers"));
        assert_eq!(head(b"raw").unwrap_err(), "it is not a .npy file");
    }

    proptest! {
        #[test]
        fn no_file_causes_a_panic(rest: Vec<u8>, head_text in "[{}'a-z:(), 0-9<|]{0,80}") {
            let _ = head(&[MAGIC, &rest].concat());
            let _ = head(&file(&head_text, &rest));
        }
    }
}
