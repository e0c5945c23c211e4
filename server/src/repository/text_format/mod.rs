//! A parser for protobuf's text format whose errors name the position, the field and the remedy.
//!
//! It accepts everything that protobuf's own parser accepts: comments, both list forms, `{ }` and `< >`, messages with
//! or without a colon, joined strings. Fields are looked up in the descriptor, so nesting is at most as deep as the
//! schema. Why it does not use prost-reflect's parser: `docs/adr/0004-written-by-hand.md`.

mod lexer;
mod scalar;

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};

use self::lexer::{BadToken, Lexer, Token};

pub use self::lexer::Position;

/// An error in a text: `3:14: field 'input.dims': ...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {}{message}", in_field(.field))]
pub struct SyntaxError {
    /// The position.
    pub position: Position,
    /// The path of the field being read; empty at the top level.
    pub field: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("field '{field}': ") }
}

/// The first position of each field, by path (`dynamic_batching.priority_levels`).
pub(super) type Positions = HashMap<String, Position>;

/// Reads a message of this type.
///
/// # Errors
/// When the text is not UTF-8, has a field or a value that the type does not have, or ends early.
pub(super) fn parse(text: &[u8], descriptor: MessageDescriptor) -> Result<(DynamicMessage, Positions), SyntaxError> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let valid = std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default();
        let position = Position::of(valid, valid.len());
        SyntaxError { position, field: String::new(), message: "the file is not UTF-8".into() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser {
        text,
        lexer: Lexer::new(text),
        token: Token::End,
        offset: 0,
        path: Vec::new(),
        positions: Positions::new(),
    };
    let mut message = DynamicMessage::new(descriptor);
    parser.advance()?;
    while parser.token != Token::End {
        parser.field(&mut message)?;
    }
    Ok((message, parser.positions))
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The current token and its offset.
    token: Token<'a>,
    offset: usize,
    path: Vec<String>,
    positions: Positions,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'a> Parser<'a> {
    fn error(&self, offset: usize, message: String) -> SyntaxError {
        SyntaxError { position: Position::of(self.text, offset), field: self.path.join("."), message }
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        Err(self.error(self.offset, format!("expected {what}, found {}", self.token)))
    }

    /// Returns the current token and reads the next one.
    fn advance(&mut self) -> Parsed<Token<'a>> {
        let (token, offset) = self.lexer.next().map_err(|BadToken { offset, message }| self.error(offset, message))?;
        self.offset = offset;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Consumes this character if it is the current token.
    fn takes(&mut self, c: char) -> Parsed<bool> {
        let is_next = self.token == Token::Punct(c);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    /// `name: value`, `name { ... }` or `name [ ... ]`, and a separator if there is one.
    fn field(&mut self, message: &mut DynamicMessage) -> Parsed<()> {
        let Token::Ident(name) = self.token else { return self.expected("a field's name") };
        let descriptor = message.descriptor();
        let Some(field) = descriptor.get_field_by_name(name) else {
            let known = descriptor.fields().map(|field| field.name().to_owned());
            let hint = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            return Err(self.error(self.offset, format!("unknown field '{name}'{hint}")));
        };
        self.path.push(name.to_owned());
        // Only the first of a repeated field has a position, which is counted from the text's start.
        let (text, offset) = (self.text, self.offset);
        self.positions.entry(self.path.join(".")).or_insert_with(|| Position::of(text, offset));
        self.refuse_second(message, &field)?;
        self.advance()?;
        let has_colon = self.takes(':')?;
        let is_message = matches!(field.kind(), Kind::Message(_));
        if !has_colon && !is_message && self.token != Token::Punct('[') {
            return self.expected("':'");
        }
        if field.is_list() || field.is_map() {
            if self.takes('[')? {
                while !self.takes(']')? {
                    self.element(message, &field)?;
                    if !self.takes(',')? && self.token != Token::Punct(']') {
                        return self.expected("',' or ']'");
                    }
                }
            } else {
                self.element(message, &field)?;
            }
        } else if self.token == Token::Punct('[') {
            return Err(self.error(self.offset, "takes one value, not a list".into()));
        } else {
            let value = self.value(&field.kind())?;
            message.set_field(&field, value);
        }
        if !self.takes(',')? {
            self.takes(';')?;
        }
        self.path.pop();
        Ok(())
    }

    /// Refuses a second value of a field with one value, or of another field of its oneof.
    fn refuse_second(&self, message: &DynamicMessage, field: &FieldDescriptor) -> Parsed<()> {
        if field.is_list() || field.is_map() {
            return Ok(());
        }
        let others = field.containing_oneof().into_iter().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
        match [field.clone()].into_iter().chain(others).find(|field| message.has_field(field)) {
            Some(set) if set == *field => Err(self.error(self.offset, "is given twice".into())),
            Some(set) => Err(self.error(self.offset, format!("excludes '{}', which is given too", set.name()))),
            None => Ok(()),
        }
    }

    /// One element of a list, or one entry of a map.
    fn element(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Parsed<()> {
        let value = self.value(&field.kind())?;
        match (message.get_field_mut(field), value) {
            (Value::List(list), value) => list.push(value),
            (Value::Map(map), Value::Message(entry)) => {
                let part = |name: &str| entry.get_field_by_name(name).map(std::borrow::Cow::into_owned);
                if let (Some(key), Some(value)) = (part("key").and_then(map_key), part("value")) {
                    map.insert(key, value);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind) -> Parsed<Value> {
        let Kind::Message(descriptor) = kind else { return self.scalar(kind) };
        let close = match self.token {
            Token::Punct('{') => '}',
            Token::Punct('<') => '>',
            _ => return self.expected("'{'"),
        };
        self.advance()?;
        let mut message = DynamicMessage::new(descriptor.clone());
        while !self.takes(close)? {
            if self.token == Token::End {
                return self.expected(&format!("'{close}'"));
            }
            self.field(&mut message)?;
        }
        Ok(Value::Message(message))
    }
}

fn map_key(value: Value) -> Option<MapKey> {
    Some(match value {
        Value::Bool(key) => MapKey::Bool(key),
        Value::I32(key) => MapKey::I32(key),
        Value::I64(key) => MapKey::I64(key),
        Value::U32(key) => MapKey::U32(key),
        Value::U64(key) => MapKey::U64(key),
        Value::String(key) => MapKey::String(key),
        _ => return None,
    })
}

/// The known name that is most similar to `name`, if it is similar enough.
pub(super) fn nearest(name: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    const ALIKE: f64 = 0.75;
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
