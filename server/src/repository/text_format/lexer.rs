//! Tokens of protobuf's text format, with their positions.

use std::fmt;

/// A position in a file. Lines and columns start at 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The position of the byte at `offset`, or of the end of the text.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// `3:14`, as compilers print it after a file's name.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name: of a field, an enumeration's value, `true`, `inf`.
    Ident(&'a str),
    /// A number as written, without its sign.
    Number(&'a str),
    /// A string with decoded escapes.
    Text(Vec<u8>),
    /// Any other character.
    Punct(char),
    /// The end of the text.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ident(text) | Self::Number(text) => write!(f, "'{text}'"),
            Self::Text(text) => write!(f, "the string \"{}\"", String::from_utf8_lossy(text).escape_debug()),
            Self::Punct(c) => write!(f, "'{}'", c.escape_debug()),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// An invalid string, with its offset and the reason.
pub(super) struct BadToken {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Splits a text into tokens.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Moves past all characters that satisfy `accept`, and returns them.
    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// The next token and its offset.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, usize), BadToken> {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest().starts_with('#') {
                break;
            }
            self.take_while(|c| c != '\n');
        }
        let start = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok((Token::End, start)) };
        let is_digit_ahead = || self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        let token = match first {
            '_' | 'a'..='z' | 'A'..='Z' => Token::Ident(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')),
            '0'..='9' => Token::Number(self.number()),
            '.' if is_digit_ahead() => Token::Number(self.number()),
            '"' | '\'' => Token::Text(self.string(first)?),
            other => {
                self.at += other.len_utf8();
                Token::Punct(other)
            }
        };
        Ok((token, start))
    }

    /// Digits, letters and points, and a sign after an exponent. The parser checks whether it is a valid number.
    fn number(&mut self) -> &'a str {
        let start = self.at;
        loop {
            let part = self.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
            let is_hex = self.text[start..self.at].starts_with("0x") || self.text[start..self.at].starts_with("0X");
            let exponent = part.ends_with(['e', 'E']) && !is_hex;
            if exponent && self.rest().starts_with(['+', '-']) {
                self.at += 1;
            } else {
                return &self.text[start..self.at];
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<Vec<u8>, BadToken> {
        let start = self.at;
        let bad = |offset: usize, message: String| Err(BadToken { offset, message });
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let at = self.at;
            let Some(c) = self.rest().chars().next() else {
                return bad(start, format!("this string has no closing {quote}"));
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(out),
                '\n' => return bad(start, format!("this string has no closing {quote} on its line")),
                '\\' => {
                    if !self.escape(&mut out) {
                        let shown: String = self.text[at..].chars().take(2).filter(|c| !c.is_control()).collect();
                        return bad(at, format!("'{shown}' is not a valid escape sequence"));
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// Decodes the escape sequence after the backslash; `false` if it is invalid.
    fn escape(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(c) = self.rest().chars().next() else { return false };
        if let '0'..='7' = c {
            let digits = self.digits(8, 3);
            let value = u32::from_str_radix(digits, 8).ok().and_then(|value| u8::try_from(value).ok());
            out.extend(value);
            return value.is_some();
        }
        self.at += c.len_utf8();
        let byte = match c {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'v' => 11,
            '\\' | '\'' | '"' | '?' => c as u8,
            'x' | 'X' => match u8::from_str_radix(self.digits(16, 2), 16) {
                Ok(byte) => byte,
                Err(_) => return false,
            },
            'u' | 'U' => {
                let count = if c == 'u' { 4 } else { 8 };
                let digits = self.digits(16, count);
                let decoded = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == count);
                let Some(decoded) = decoded.and_then(char::from_u32) else { return false };
                out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                return true;
            }
            _ => return false,
        };
        out.push(byte);
        true
    }

    fn digits(&mut self, radix: u32, max: usize) -> &'a str {
        let rest = self.rest();
        let end = rest.bytes().take(max).take_while(|&byte| (byte as char).is_digit(radix)).count();
        self.at += end;
        &rest[..end]
    }
}
