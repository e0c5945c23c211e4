//! Triton's spellings of booleans.

/// A boolean in one of Triton's spellings.
///
/// # Errors
/// Names the accepted spellings.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("use true, false, 1 or 0".into()),
    }
}
