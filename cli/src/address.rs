//! Addresses and chunk hashes as people type them.
//!
//! They are checked here, before a store is opened or a peer asked, so that a slip of the hand costs nothing
//! and the message can say which character it was.

use std::fmt;

use casnode_node::{Link, LinkError, is_link};

/// Hex digits of an address.
const DIGITS: usize = 64;

/// An address or chunk hash: 64 hex digits, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(String);

impl Address {
    /// The 64 lower-case digits.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// What is wrong with a text that should be an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// It is not 64 hex digits.
    Digits {
        length: usize,
        /// The first character that is no hex digit, and where it stands, counted from 1.
        stranger: Option<(char, usize)>,
    },
    /// It begins like a link and is none.
    Link(LinkError),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, stranger) = match self {
            Self::Digits { length, stranger } => (length, stranger),
            Self::Link(error) => return write!(f, "it is no link: {error}"),
        };
        if *length != DIGITS {
            write!(
                f,
                "it has {length} characters where {DIGITS} hex digits belong"
            )?;
        }
        if let Some((found, position)) = stranger {
            if *length != DIGITS {
                f.write_str(", and ")?;
            }
            write!(
                f,
                "character {position} is {found:?}, which is no hex digit (0-9, a-f)"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for AddressError {}

/// Reads an address, in either case of letters, or a link, of which it takes the address.
pub(crate) fn parse(text: &str) -> Result<Address, AddressError> {
    if is_link(text) {
        return Ok(Address(parse_link(text)?.address().to_string()));
    }
    parse_digits(text)
}

/// Reads a link, or an address as one that says nothing more.
pub(crate) fn parse_link(text: &str) -> Result<Link, AddressError> {
    if !is_link(text) {
        parse_digits(text)?; // for what it says of a slip
    }
    text.parse().map_err(AddressError::Link)
}

fn parse_digits(text: &str) -> Result<Address, AddressError> {
    let length = text.chars().count();
    let stranger = text
        .chars()
        .zip(1..)
        .find(|(found, _)| !found.is_ascii_hexdigit());
    if length != DIGITS || stranger.is_some() {
        return Err(AddressError::Digits { length, stranger });
    }
    Ok(Address(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_case_is_read_and_kept_in_lower_case() {
        let text = "AF1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(parse(text).unwrap().into_string(), text.to_lowercase());
    }

    #[test]
    fn of_a_link_the_address_is_taken() {
        let digits = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let link = format!("casnode:{digits}?n=a.txt&s=5");
        assert_eq!(parse(&link).unwrap().into_string(), digits);
        assert_eq!(parse_link(&link).unwrap().size_bytes(), Some(5));
        assert_eq!(parse_link(digits).unwrap().size_bytes(), None);
        let error = parse(&format!("casnode:{digits}?s=x")).unwrap_err();
        assert_eq!(error.to_string(), "it is no link: s= is no number of bytes");
        let error = parse_link("abc").unwrap_err().to_string();
        assert!(error.starts_with("it has 3 characters"), "{error}");
    }

    #[test]
    fn a_wrong_length_is_named() {
        let error = parse("abc").unwrap_err().to_string();
        assert_eq!(error, "it has 3 characters where 64 hex digits belong");
        assert!(parse("").unwrap_err().to_string().contains("0 characters"));
        assert!(
            parse(&"a".repeat(65))
                .unwrap_err()
                .to_string()
                .contains("65 characters")
        );
    }

    #[test]
    fn the_first_strange_character_and_its_place_are_named() {
        let text = format!("{}g{}x", "0".repeat(9), "0".repeat(53));
        let error = parse(&text).unwrap_err().to_string();
        assert_eq!(
            error,
            "character 10 is 'g', which is no hex digit (0-9, a-f)"
        );
    }

    #[test]
    fn both_faults_are_named_and_characters_are_counted_not_bytes() {
        let error = parse("añ\n").unwrap_err().to_string();
        assert!(error.contains("3 characters"), "{error}");
        assert!(error.contains("character 2 is 'ñ'"), "{error}");
    }
}
