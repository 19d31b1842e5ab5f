//! The three names content has: a file's address, a chunk's hash and a manifest's id.
//!
//! All three are BLAKE3 outputs of 32 bytes. They are separate types because mixing them up compiles
//! silently otherwise, and a file of one chunk makes such a mistake look right in a test.

use std::fmt;
use std::str::FromStr;

/// Bytes in a BLAKE3 output.
pub const HASH_BYTES: usize = 32;

/// Hex digits in the text form of a hash.
pub const HASH_HEX_DIGITS: usize = 2 * HASH_BYTES;

/// Hex digits in the short form that logs and temporary names use.
const SHORT_HEX_DIGITS: usize = 10;

/// Why a text is not a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseHashError {
    /// The text has another number of characters than 64.
    #[error("expected {HASH_HEX_DIGITS} hexadecimal digits, found {found} characters")]
    Length {
        /// Characters found.
        found: usize,
    },
    /// A character is not a hexadecimal digit.
    #[error("character {character:?} at position {position} is not a hexadecimal digit")]
    Digit {
        /// The offending character.
        character: char,
        /// Its position, counted in characters from 1.
        position: usize,
    },
}

fn parse_hex(text: &str) -> Result<[u8; HASH_BYTES], ParseHashError> {
    let mut out = [0u8; HASH_BYTES];
    let mut found = 0usize;
    let mut bad_digit = None;
    for character in text.chars() {
        match character
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
        {
            Some(digit) => {
                if let Some(byte) = out.get_mut(found / 2) {
                    *byte = (*byte << 4) | digit;
                }
            }
            None => {
                bad_digit.get_or_insert(ParseHashError::Digit {
                    character,
                    position: found + 1,
                });
            }
        }
        found += 1;
    }
    match bad_digit {
        Some(error) => Err(error),
        None if found != HASH_HEX_DIGITS => Err(ParseHashError::Length { found }),
        None => Ok(out),
    }
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; HASH_BYTES]);

        impl $name {
            /// Wraps the raw 32 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; HASH_BYTES]) -> Self {
                Self(bytes)
            }

            /// The raw 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
                &self.0
            }

            /// The BLAKE3 hash of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// The first ten hex digits, for logs and temporary names; never enough to identify content.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(SHORT_HEX_DIGITS);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(blake3::Hash::from_bytes(self.0).to_hex().as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    };
}

hash_type! {
    /// The BLAKE3 hash of a whole file: what `b3sum` prints, and the only thing a user has to know.
    Address
}
hash_type! {
    /// The BLAKE3 hash of one chunk's bytes, wherever in whichever file the chunk is.
    ChunkHash
}
hash_type! {
    /// The BLAKE3 hash of an encoded manifest: tells two manifests of the same file apart.
    ManifestId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_upper_case_is_accepted() {
        let address = Address::of(b"abc");
        let text = address.to_string();
        assert_eq!(
            text,
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
        assert_eq!(text.parse::<Address>().unwrap(), address);
        assert_eq!(text.to_uppercase().parse::<Address>().unwrap(), address);
        assert_eq!(format!("{address:?}"), text);
        assert_eq!(address.short(), "6437b3ac38");
    }

    #[test]
    fn malformed_text_says_what_is_wrong_with_it() {
        assert_eq!(
            "".parse::<Address>(),
            Err(ParseHashError::Length { found: 0 })
        );
        assert_eq!(
            "ab".repeat(33).parse::<Address>(),
            Err(ParseHashError::Length { found: 66 })
        );
        let mut text = "0".repeat(64);
        text.replace_range(6..7, "x");
        let error = text.parse::<ChunkHash>().unwrap_err();
        assert_eq!(
            error,
            ParseHashError::Digit {
                character: 'x',
                position: 7
            }
        );
        assert_eq!(
            error.to_string(),
            "character 'x' at position 7 is not a hexadecimal digit"
        );
        assert!(matches!(
            "é".parse::<ChunkHash>(),
            Err(ParseHashError::Digit { position: 1, .. })
        ));
    }
}
