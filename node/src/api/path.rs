//! Paths as JSON: `"/a/b"`, and `{"hex": "2f61ff"}` for one that is not UTF-8.
//!
//! The second form says any path, so that no character of the first needs an escape.

use std::{
    ffi::OsString,
    fmt::Write as _,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// A path.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "a path is a string, or {\"hex\": \"…\"} with its bytes"
)]
pub(crate) enum JsonPath {
    /// A path that is UTF-8.
    Text(String),
    /// Any path, by its bytes.
    Bytes(PathBytes),
}

/// A path by its bytes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathBytes {
    /// The bytes, as lower-case hex digits.
    hex: String,
}

impl JsonPath {
    fn of(path: &OsString) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(PathBytes {
                hex: to_hex(path.as_bytes()),
            }),
        }
    }

    fn into_path(self) -> Option<OsString> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Bytes(PathBytes { hex }) => from_hex(&hex).map(OsString::from_vec),
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
    }
    hex
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

fn read<E: serde::de::Error>(path: JsonPath) -> Result<OsString, E> {
    path.into_path()
        .ok_or_else(|| E::custom("the hex digits of a path are not those of whole bytes"))
}

/// Of one path, for `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(path: &OsString, to: S) -> Result<S::Ok, S::Error> {
    JsonPath::of(path).serialize(to)
}

/// Of one path, for `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OsString, D::Error> {
    read(JsonPath::deserialize(from)?)
}

/// Of a list of paths.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(paths: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(JsonPath::of))
    }

    pub(crate) fn deserialize<'de, D>(from: D) -> Result<Vec<OsString>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let paths = Vec::<JsonPath>::deserialize(from)?;
        paths.into_iter().map(read::<D::Error>).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_comes_back_and_only_those_that_are_no_text_are_escaped() {
        for (bytes, json) in [
            (&b"/a/b"[..], "\"/a/b\""),
            ("/ü %41".as_bytes(), "\"/ü %41\""),
            (b"/a\xff", "{\"hex\":\"2f61ff\"}"),
            (b"", "\"\""),
        ] {
            let path = OsString::from_vec(bytes.to_vec());
            let written = serde_json::to_string(&JsonPath::of(&path)).unwrap();
            assert_eq!(written, json);
            let read = serde_json::from_str::<JsonPath>(json).unwrap();
            assert_eq!(read.into_path(), Some(path));
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for json in ["{\"hex\":\"2f6\"}", "{\"hex\":\"zz\"}", "{\"hex\":\"ü\"}"] {
            let read = serde_json::from_str::<JsonPath>(json).unwrap();
            assert_eq!(read.into_path(), None, "{json}");
        }
        for json in ["{\"unix\":[47]}", "1", "{\"hex\":\"2f\",\"more\":1}"] {
            let error = serde_json::from_str::<JsonPath>(json).unwrap_err();
            assert!(error.to_string().contains("a path is"), "{error}");
        }
    }
}
