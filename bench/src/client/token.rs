//! Bearer tokens from a file.

use std::{fs, io, path::Path};

use http::HeaderValue;

/// The value of `Authorization` with the first token of a file: one on each line, `#` starts a comment.
///
/// # Errors
/// When the file cannot be read, or has no token.
pub fn authorization(file: &Path) -> io::Result<HeaderValue> {
    let unusable = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", file.display()));
    let text = fs::read_to_string(file)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display())))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let token = token.ok_or_else(|| unusable("has no token"))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| unusable("has a token with characters that a header cannot hold"))?;
    // It is not printed with the request.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_of_the_file_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        fs::write(&file, "# mine\n\n  abc \nother\n").unwrap();
        assert_eq!(authorization(&file).unwrap(), "Bearer abc");
        fs::write(&file, "# none\n").unwrap();
        assert!(authorization(&file).unwrap_err().to_string().ends_with("has no token"));
    }
}
