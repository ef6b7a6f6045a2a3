//! The JSON of a line, read without a detour: names and values before it is known what they are for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::attempt::Attempt;
use crate::error::{Error, Result};

/// What a line is about.
pub(super) enum Kind {
    Job,
    Vm,
}

/// `{"job":{…}}` or `{"vm":{…}}`.
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) fields: Fields<'a>,
}

pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Scalar<'a>)>;

/// A field's value before it is known which field it is.
pub(super) enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(i128),
    Null,
    Other,
}

impl Scalar<'_> {
    pub(super) fn text(self, field: &'static str) -> Result<String> {
        self.optional_text(field)?
            .ok_or_else(|| Error::invalid(field, "must not be null"))
    }

    pub(super) fn optional_text(self, field: &'static str) -> Result<Option<String>> {
        match self {
            Self::Text(text) => Ok(Some(text.into_owned())),
            Self::Null => Ok(None),
            Self::Number(_) | Self::Other => Err(Error::invalid(field, "must be a string")),
        }
    }

    pub(super) fn attempt(self) -> Result<Option<u32>> {
        let range = || {
            Error::invalid(
                "attempt",
                format_args!("must be a whole number, 1 to {}", Attempt::MAX),
            )
        };
        match self {
            Self::Number(number) => u32::try_from(number).map(Some).map_err(|_| range()),
            Self::Null => Ok(None),
            Self::Text(_) | Self::Other => Err(range()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number.into()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Texts that borrow from the line where they hold no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Name(text)),
            Scalar::Number(_) | Scalar::Null | Scalar::Other => {
                Err(de::Error::custom("a name must be a string"))
            }
        }
    }
}

struct FieldMap<'a>(Fields<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for FieldMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = FieldMap<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the update's fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Fields<'de> = Vec::with_capacity(10);
                while let Some(Name(name)) = map.next_key()? {
                    if fields.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(de::Error::custom("a field stands twice"));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(FieldMap(fields))
            }
        }
        const WANTED: &str = "the fields of an update stand in an object, {…}";
        let map = deserializer.deserialize_map(Object);
        map.map_err(|error| withhold_value(error, WANTED))
    }
}

const SHAPE: &str = r#"a line is one object, {"job":{…}} or {"vm":{…}}"#;

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outer;
        impl<'de> Visitor<'de> for Outer {
            type Value = Line<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"{"job":{…}} or {"vm":{…}}"#)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let Some(Name(name)) = map.next_key()? else {
                    return Err(de::Error::custom(SHAPE));
                };
                let kind = match name.as_ref() {
                    "job" => Kind::Job,
                    "vm" => Kind::Vm,
                    _ => return Err(de::Error::custom(SHAPE)),
                };
                let FieldMap(fields) = map.next_value()?;
                if map.next_key::<Name<'de>>()?.is_some() {
                    return Err(de::Error::custom(SHAPE));
                }
                Ok(Line { kind, fields })
            }
        }
        let map = deserializer.deserialize_map(Outer);
        map.map_err(|error| withhold_value(error, SHAPE))
    }
}

/// serde's text for a value of the wrong type shows the value.
fn withhold_value<E: de::Error>(error: E, wanted: &str) -> E {
    let text = error.to_string();
    if text.starts_with("invalid type") {
        E::custom(wanted)
    } else {
        error
    }
}
