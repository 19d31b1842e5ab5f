//! Lists of files as `b3sum` and `casnode store --sums` print them: an address, two spaces, a path.
//!
//! A line that begins with a backslash has `\n`, `\r` and `\\` in its path stand for what they mean. Lines may end as they do on
//! Windows.

use casnode_node::api::{ErrorKind, ListedFile};

use crate::address;
use crate::exit::{Failure, Result};

/// Between address and path.
const GAP: &str = "  ";

/// Hex digits of an address.
const DIGITS: usize = 64;

/// The files of a list.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<ListedFile>> {
    let mut files = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        files.push(parse_line(line).map_err(|why| {
            Failure::new(
                ErrorKind::Usage,
                format!("line {} of the list was not understood", at + 1),
                why,
                "make the list with `b3sum` or `casnode store --sums`: 64 hex digits, two spaces, a path",
            )
        })?);
    }
    Ok(files)
}

fn parse_line(line: &[u8]) -> Result<ListedFile, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let (is_escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let parts = line.split_at_checked(DIGITS);
    let parts = parts.and_then(|(hex, rest)| Some((hex, rest.strip_prefix(GAP)?)));
    let Some((hex, path)) = parts else {
        return Err("it is not an address, two spaces and a path".to_owned());
    };
    let address = address::parse(hex).map_err(|error| error.to_string())?;
    let path = match is_escaped {
        true => unescape(path)?,
        false => path.to_owned(),
    };
    Ok(ListedFile {
        address: address.into_string(),
        path,
    })
}

fn unescape(path: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(path.len());
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        plain.push(match chars.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('\\') => '\\',
            _ => return Err("a backslash in its path means nothing".to_owned()),
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn paths(text: &str) -> Vec<String> {
        let text = text.replace('@', ADDRESS);
        let files = parse(text.as_bytes()).unwrap();
        assert!(files.iter().all(|file| file.address == ADDRESS));
        files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn lines_of_b3sum_are_understood() {
        assert_eq!(paths("@  a\n@  b/c d  e\n"), ["a", "b/c d  e"]);
        assert_eq!(paths("@  a\r\n\r\n@   b"), ["a", " b"]);
        assert_eq!(
            paths("\\@  a\\nb\\\\c\\r\n@  a\\nb"),
            ["a\nb\\c\r", "a\\nb"]
        );
        assert!(paths("").is_empty());
    }

    #[test]
    fn addresses_may_be_in_capitals() {
        let text = format!("{}  a", ADDRESS.to_uppercase());
        assert_eq!(parse(text.as_bytes()).unwrap()[0].address, ADDRESS);
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for bad in ["@ a", "@", "@\ta", "a  @", "\\@  a\\x", "\\@  a\\", "é"] {
            let text = format!("@  good\n{bad}").replace('@', ADDRESS);
            let Failure::Api(error) = parse(text.as_bytes()).unwrap_err() else {
                panic!("{bad}")
            };
            assert!(error.what.contains("line 2"), "{bad}: {error:?}");
        }
        assert!(parse(format!("{ADDRESS}  \u{e9}").as_bytes()).is_ok());
        assert!(parse([ADDRESS.as_bytes(), b"  \xff"].concat().as_slice()).is_err());
    }
}
