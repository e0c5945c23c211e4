//! Bearer tokens from a file.

use std::{path::Path, sync::Arc};

use super::{
    Refusal,
    reload::{Reloaded, warn_if_readable_by_all},
};

/// The shortest token. A shorter one can be guessed.
const MIN_TOKEN_CHARACTERS: usize = 16;

/// The most tokens of a file; each request is compared with all.
const MAX_TOKENS: usize = 1024;

/// The tokens in effect, as hashes.
pub struct Tokens(Vec<blake3::Hash>);

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{reason}. Write one token on each line, such as the output of `openssl rand -hex 32`, or choose another file with --auth-token-file"
)]
pub struct TokensError {
    reason: String,
}

impl Tokens {
    /// Reads the tokens of a file, which is read again when it changes: one on each line; `#` starts a comment.
    ///
    /// # Errors
    /// When the file cannot be read, has no token or too many, or a token is too short or not printable ASCII.
    pub fn from_file(path: &Path) -> Result<Arc<Reloaded<Self>>, TokensError> {
        let name = path.display().to_string();
        let make = move |contents: &[Vec<u8>]| Self::parse(contents.first().map_or(&[], Vec::as_slice), &name);
        let tokens = Reloaded::new(vec![path.to_owned()], make).map_err(|reason| TokensError { reason })?;
        warn_if_readable_by_all(path);
        Ok(Arc::new(tokens))
    }

    fn parse(content: &[u8], file: &str) -> Result<Self, String> {
        let mut hashes = Vec::new();
        for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
            let token = line.trim_ascii();
            if token.is_empty() || token.starts_with(b"#") {
                continue;
            }
            let line = index + 1;
            if !token.iter().all(u8::is_ascii_graphic) {
                return Err(format!("line {line} of {file} is not a token: a token is printable ASCII without spaces"));
            }
            if token.len() < MIN_TOKEN_CHARACTERS {
                return Err(format!(
                    "the token in line {line} of {file} has less than {MIN_TOKEN_CHARACTERS} characters"
                ));
            }
            hashes.push(blake3::hash(token));
        }
        match hashes.len() {
            0 => Err(format!("{file} has no token")),
            1..=MAX_TOKENS => Ok(Self(hashes)),
            count => Err(format!("{file} has {count} tokens, more than {MAX_TOKENS}")),
        }
    }

    /// Whether a request's token is one of these. The time does not depend on which one, or on how much of it is right:
    /// all hashes are compared, each in constant time.
    ///
    /// # Errors
    /// When there is no token, or another.
    pub fn check(&self, token: Option<&[u8]>) -> Result<(), Refusal> {
        let hash = blake3::hash(token.ok_or(Refusal::NoToken)?);
        let known = self.0.iter().fold(false, |known, other| known | (*other == hash));
        if known { Ok(()) } else { Err(Refusal::WrongToken) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::reload::Reload as _, *};

    const FIRST: &str = "first-token-of-the-file";
    const SECOND: &str = "second-token-of-the-file";

    #[test]
    fn several_tokens_are_valid_until_the_file_drops_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        fs::write(&file, format!("# for the load test\r\n  {FIRST}\r\n\n{SECOND}")).unwrap();
        let tokens = Tokens::from_file(&file).unwrap();
        let check = |token: &str| tokens.current().check(Some(token.as_bytes()));
        assert_eq!((check(FIRST), check(SECOND)), (Ok(()), Ok(())));
        assert_eq!(tokens.current().check(None), Err(Refusal::NoToken));
        for wrong in ["", "# for the load test", &FIRST[1..], &format!("{FIRST}x")] {
            assert_eq!(check(wrong), Err(Refusal::WrongToken), "{wrong}");
        }
        fs::write(&file, SECOND).unwrap();
        tokens.reload();
        assert_eq!((check(FIRST), check(SECOND)), (Err(Refusal::WrongToken), Ok(())));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let refusal = || Tokens::from_file(&file).err().unwrap().to_string();
        assert!(refusal().contains("cannot read ") && refusal().contains("--auth-token-file"), "{}", refusal());
        for (content, reason) in [
            ("# none\n", "has no token"),
            ("\n0123456789\n", "line 2 of "),
            ("two words in this line", "printable ASCII without spaces"),
        ] {
            fs::write(&file, content).unwrap();
            assert!(refusal().contains(reason), "{}", refusal());
        }
    }
}
