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

/// An address or a link, or a place inside the directory of that address: `ADDRESS/path/inside`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) link: Link,
    /// Without the slash before it; empty for the file, or for the whole directory.
    pub(crate) path: String,
}

/// Reads a link, or an address with or without a path behind it.
pub(crate) fn parse_place(text: &str) -> Result<Place, AddressError> {
    let (address, path) = match is_link(text) {
        true => (text, ""), // its slashes are of what it tells
        false => text.split_once('/').unwrap_or((text, "")),
    };
    Ok(Place {
        link: parse_link(address)?,
        path: path.trim_end_matches('/').to_owned(),
    })
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
    fn a_place_is_an_address_and_a_path() {
        let address = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        for (text, path) in [("", ""), ("/", ""), ("/a b/c", "a b/c"), ("/a/", "a")] {
            let place = parse_place(&format!("{address}{text}")).unwrap();
            assert_eq!(
                (place.link.address().to_string(), place.path.as_str()),
                (address.to_owned(), path)
            );
        }
        let link = format!("casnode:{address}?n=a&p=/ip4/192.0.2.1/tcp/1");
        let place = parse_place(&link).unwrap();
        assert_eq!(
            (place.link.to_string().as_str(), place.path.as_str()),
            (link.as_str(), "")
        );
        let error = parse_place("abc/a").unwrap_err().to_string();
        assert_eq!(error, "it has 3 characters where 64 hex digits belong");
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
