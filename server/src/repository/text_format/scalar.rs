//! Parses scalars of the text format: numbers, strings, booleans, enumerations.

use std::fmt::Display;

use prost_reflect::{Kind, Value};

use super::{Parsed, Parser, Token, nearest};

impl Parser<'_> {
    pub(super) fn scalar(&mut self, kind: &Kind) -> Parsed<Value> {
        Ok(match kind {
            Kind::String => Value::String(self.text_value()?),
            Kind::Bytes => Value::Bytes(self.bytes()?.into()),
            Kind::Bool => Value::Bool(self.boolean()?),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.integer(i32::MIN, i32::MAX)?),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.integer(i64::MIN, i64::MAX)?),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.integer(u32::MIN, u32::MAX)?),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.integer(u64::MIN, u64::MAX)?),
            Kind::Float => Value::F32(self.float()? as f32),
            Kind::Double => Value::F64(self.float()?),
            Kind::Enum(descriptor) => {
                let offset = self.offset;
                match self.advance()? {
                    Token::Ident(name) => match descriptor.get_value_by_name(name) {
                        Some(value) => Value::EnumNumber(value.number()),
                        None => {
                            let names: Vec<_> = descriptor.values().map(|value| value.name().to_owned()).collect();
                            let hint = nearest(name, names.iter().cloned())
                                .map_or_else(|| names.join(", "), |near| format!("did you mean {near}?"));
                            return Err(self.error(offset, format!("unknown value '{name}': {hint}")));
                        }
                    },
                    Token::Number(text) => match text.parse() {
                        Ok(number) if descriptor.get_value(number).is_some() => Value::EnumNumber(number),
                        _ => return Err(self.error(offset, format!("has no value of number {text}"))),
                    },
                    other => return Err(self.error(offset, format!("expected a name, found {other}"))),
                }
            }
            // The caller reads messages.
            Kind::Message(_) => return self.expected("a scalar"),
        })
    }

    /// Adjacent strings are joined.
    fn bytes(&mut self) -> Parsed<Vec<u8>> {
        let mut all = match self.token {
            Token::Text(_) => Vec::new(),
            _ => return self.expected("a string in quotes"),
        };
        while let Token::Text(_) = self.token {
            if let Token::Text(part) = self.advance()? {
                all.extend(part);
            }
        }
        Ok(all)
    }

    fn text_value(&mut self) -> Parsed<String> {
        let offset = self.offset;
        String::from_utf8(self.bytes()?).map_err(|_| self.error(offset, "the string is not UTF-8".into()))
    }

    fn boolean(&mut self) -> Parsed<bool> {
        let value = match self.token {
            Token::Ident("true" | "True" | "t") | Token::Number("1") => true,
            Token::Ident("false" | "False" | "f") | Token::Number("0") => false,
            _ => return self.expected("true or false"),
        };
        self.advance()?;
        Ok(value)
    }

    fn integer<T: TryFrom<i128> + Display>(&mut self, min: T, max: T) -> Parsed<T> {
        let offset = self.offset;
        let negative = self.takes('-')?;
        let found = match &self.token {
            Token::Number(text) => {
                let number = whole(text).map(|number| if negative { -number } else { number });
                if let Some(value) = number.and_then(|number| T::try_from(number).ok()) {
                    self.advance()?;
                    return Ok(value);
                }
                format!("'{}{text}'", if negative { "-" } else { "" })
            }
            other => other.to_string(),
        };
        Err(self.error(offset, format!("expected a whole number from {min} to {max}, found {found}")))
    }

    fn float(&mut self) -> Parsed<f64> {
        let sign = if self.takes('-')? { -1.0 } else { 1.0 };
        let value = match &self.token {
            Token::Number(text) => {
                let digits = text.strip_suffix(['f', 'F']).unwrap_or(text);
                whole(text).map(|number| number as f64).or_else(|| digits.parse().ok())
            }
            Token::Ident(name) if name.eq_ignore_ascii_case("inf") || name.eq_ignore_ascii_case("infinity") => {
                Some(f64::INFINITY)
            }
            Token::Ident(name) if name.eq_ignore_ascii_case("nan") => Some(f64::NAN),
            _ => None,
        };
        let Some(value) = value else { return self.expected("a number") };
        self.advance()?;
        Ok(sign * value)
    }
}

/// A whole number: decimal, hexadecimal with `0x`, or octal with a leading 0.
fn whole(text: &str) -> Option<i128> {
    let parse = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(i128::from);
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return parse(digits, 16);
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => parse(octal, 8),
        _ => parse(text, 10),
    }
}
