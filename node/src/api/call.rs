//! A request as HTTP carries it: the operation's name in the path, its fields as a JSON object in the body.

use std::cell::Cell;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Value, de::SliceRead};

use super::Request;

/// Why a request could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no operation of this name.
    #[error("there is no operation {0:?}")]
    UnknownOperation(String),
    /// The body is not what the operation takes.
    #[error("{}{why}", if field.is_empty() { String::new() } else { format!("the field `{field}`: ") })]
    Malformed {
        /// Where in the body, as `source.file`; empty: the body as a whole.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Request {
    /// The operation's name, and its fields.
    pub(crate) fn to_call(&self) -> serde_json::Result<(String, Value)> {
        Ok(match serde_json::to_value(self)? {
            Value::Object(named) => named
                .into_iter()
                .next()
                .unwrap_or_else(|| (String::new(), Value::Null)),
            Value::String(name) => (name, Value::Object(serde_json::Map::new())),
            other => (String::new(), other),
        })
    }

    /// Reads the fields of an operation. Unknown ones are refused: they are mistyped ones.
    pub(crate) fn from_call(operation: &str, fields: &[u8]) -> Result<Self, CallError> {
        let is_known = Cell::new(true);
        let mut json = serde_json::Deserializer::from_slice(fields);
        let call = Call {
            operation,
            is_known: &is_known,
            fields: &mut json,
        };
        let request = serde_path_to_error::deserialize(call).map_err(|error| {
            if !is_known.get() {
                return CallError::UnknownOperation(operation.to_owned());
            }
            let path = error.path().to_string();
            let field = path.strip_prefix(operation).unwrap_or(&path);
            CallError::Malformed {
                field: field.trim_start_matches('.').to_owned(),
                why: error.into_inner().to_string(),
            }
        })?;
        let whole = |why: String| CallError::Malformed {
            field: String::new(),
            why,
        };
        json.end().map_err(|error| whole(error.to_string()))?;
        // serde would take a list for the fields in their order.
        if fields.trim_ascii_start().first() != Some(&b'{') {
            return Err(whole("it is not an object".to_owned()));
        }
        Ok(request)
    }
}

/// An operation and its fields, as the one value that serde takes an enum for.
struct Call<'a, 'de> {
    operation: &'a str,
    is_known: &'a Cell<bool>,
    fields: &'a mut serde_json::Deserializer<SliceRead<'de>>,
}

impl<'de> Deserializer<'de> for Call<'_, 'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.is_known.set(variants.contains(&self.operation));
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Call<'_, 'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Self::Error> {
        let name: StrDeserializer<'_, Self::Error> = self.operation.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Call<'_, 'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NoFields {}
        let NoFields {} = NoFields::deserialize(self.fields)?;
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, Self::Error> {
        seed.deserialize(self.fields)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("an operation has named fields"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.fields.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Keep, Output};

    fn refused(operation: &str, fields: &str) -> (String, String) {
        match Request::from_call(operation, fields.as_bytes()).unwrap_err() {
            CallError::Malformed { field, why } => (field, why),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let get = Request::from_call("get", br#"{"address": "ab", "output": "stream"}"#).unwrap();
        let expected = Request::Get {
            address: "ab".to_owned(),
            output: Output::Stream,
            timeout_ms: None,
            peers: Vec::new(),
            keep: Keep::Auto,
            pin: false,
            seed: None,
            swarm: None,
        };
        assert_eq!(get, expected);
        assert_eq!(Request::from_call("peers", b" {} "), Ok(Request::Peers));
    }

    #[test]
    fn an_unknown_operation_is_told_apart_from_a_wrong_body() {
        let unknown = Request::from_call("fly", b"{}").unwrap_err();
        assert_eq!(unknown, CallError::UnknownOperation("fly".to_owned()));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let wrong = r#"{"address": "ab", "output": {"file": {"path": 5, "force": true}}}"#;
        assert_eq!(refused("get", wrong).0, "output.file.path");
        let (field, why) = refused("stat", r#"{"address": 5}"#);
        assert_eq!(field, "address");
        assert!(why.contains("expected a string"), "{why}");
        assert!(refused("stat", "{}").1.contains("`address`"));
        assert!(
            refused("stat", r#"{"adress": "ab"}"#)
                .1
                .contains("`adress`")
        );
        assert!(refused("peers", r#"{"x": 1}"#).1.contains("`x`"));
        assert!(
            refused("stat", r#"{"address": "a", "address": "b"}"#)
                .1
                .contains("duplicate")
        );
    }

    #[test]
    fn what_is_no_object_or_more_than_one_is_refused() {
        for body in ["", "[", "null", "[]", "5", "\"peers\"", "{} {}", "{}x"] {
            refused("peers", body);
        }
        refused("stat", &"[".repeat(100_000));
    }
}
