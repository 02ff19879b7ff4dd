//! A value of a section: a number, a text, a switch, a list or a table.

use std::fmt;

use gilliam_model::{limits::LimitName, quantity::Unit, text::excerpt};
use serde::{
    Deserialize,
    de::{self, Deserializer, MapAccess, SeqAccess, Visitor},
};
use toml::Spanned;

use super::Section;

/// A value of a section.
pub(super) enum Value {
    Integer(i64),
    Decimal(f64),
    Text(String),
    Switch(bool),
    List(Vec<Spanned<String>>),
    Table(Section),
}

impl Value {
    pub(super) fn quantity(&self, name: LimitName) -> Option<u64> {
        self.amount(name.unit())
    }

    pub(super) fn amount(&self, unit: Unit) -> Option<u64> {
        match self {
            Value::Integer(number) => unit.of_integer(*number),
            Value::Decimal(number) => unit.of_decimal(*number),
            Value::Text(text) => unit.parse(text),
            Value::Switch(_) | Value::List(_) | Value::Table(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(number) => number.fmt(f),
            Value::Decimal(number) => number.fmt(f),
            Value::Text(text) => write!(f, "{:?}", excerpt(text)),
            Value::Switch(on) => on.fmt(f),
            Value::List(_) => f.write_str("[…]"),
            Value::Table(_) => f.write_str("{…}"),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true, false, a list of texts or a table")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Integer(number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Decimal(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_string()))
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Value, E> {
                Ok(Value::Switch(on))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    entries.push(entry);
                }
                Ok(Value::List(entries))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Value, A::Error> {
                let mut entries = Section::new();
                while let Some((key, value)) = table.next_entry()? {
                    entries.insert(key, value);
                }
                Ok(Value::Table(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
