//! The path of a request: an address, and a place inside. Pure.

use casnode_cas::Address;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// No path inside a directory is longer, in bytes.
const MAX_BYTES: usize = casnode_cas::MAX_PATH_BYTES;

const NO_COMPONENT: &str = "its path has a component that is empty, `.` or `..`";

/// What is written as it is in a path.
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where a request leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    /// Inside the directory, without a slash at either end; empty: the address itself.
    pub(super) inside: String,
    /// It was written with a slash at its end, as folders are.
    pub(super) is_folder: bool,
}

/// Reads what follows `/b3/`. Each component is decoded once, and has to be one of a path that a directory may have:
/// nothing that leads out of it or around in it.
///
/// # Errors
/// Why it leads nowhere.
pub(super) fn parse(path: &str) -> Result<Place, &'static str> {
    let (address, inside) = match path.split_once('/') {
        Some((address, inside)) => (address, Some(inside)),
        None => (path, None),
    };
    let address = address.parse().map_err(|_| "an address is 64 hex digits")?;
    let (inside, is_folder) = match inside {
        None => ("", false),
        Some("") => ("", true),
        Some(inside) => match inside.strip_suffix('/') {
            Some("") => return Err(NO_COMPONENT),
            Some(folder) => (folder, true),
            None => (inside, false),
        },
    };
    let mut decoded = String::with_capacity(inside.len());
    let components = inside.split('/').filter(|_| !inside.is_empty());
    for component in components {
        let component = percent_decode_str(component)
            .decode_utf8()
            .map_err(|_| "its path is not UTF-8")?;
        if component.is_empty() || matches!(&*component, "." | "..") {
            return Err(NO_COMPONENT);
        }
        if component.contains(['/', '\0']) {
            return Err("its path has a component with a slash or a NUL in it");
        }
        if !decoded.is_empty() {
            decoded.push('/');
        }
        decoded.push_str(&component);
        if decoded.len() > MAX_BYTES {
            return Err("its path is too long");
        }
    }
    Ok(Place {
        address,
        inside: decoded,
        is_folder,
    })
}

/// A component as it is written in a link.
pub(super) fn encode(component: &str) -> String {
    utf8_percent_encode(component, &PLAIN).to_string()
}

/// The path of a request for this folder.
pub(super) fn of_folder(address: &Address, inside: &str) -> String {
    let mut path = format!("/b3/{address}/");
    for component in inside.split('/').filter(|c| !c.is_empty()) {
        path.push_str(&encode(component));
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> Address {
        Address::from_bytes([0xab; 32])
    }

    fn inside(path: &str) -> Result<(String, bool), &'static str> {
        let place = parse(&format!("{}{path}", address()))?;
        assert_eq!(place.address, address());
        Ok((place.inside, place.is_folder))
    }

    #[test]
    fn places_inside() {
        for (path, place, is_folder) in [
            ("", "", false),
            ("/", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a/b%20c", "a/b c", false),
            ("/%C3%A4/%2e%2ex", "ä/..x", false),
            ("/a%252e", "a%2e", false),
            ("/100%", "100%", false),
        ] {
            assert_eq!(inside(path), Ok((place.to_owned(), is_folder)), "{path}");
        }
    }

    #[test]
    fn what_leads_out_or_around_leads_nowhere() {
        for path in [
            "//",
            "//a",
            "/a//b",
            "/..",
            "/../x",
            "/a/../b",
            "/%2e%2e/x",
            "/%2E%2E",
            "/.",
            "/a/./b",
            "/..%2f..%2fetc",
            "/a%2fb",
            "/a%00b",
            "/%ff",
            "/a/../..",
            "/%2e",
        ] {
            assert!(inside(path).is_err(), "{path}");
        }
        assert!(inside(&format!("/{}", "x".repeat(MAX_BYTES + 1))).is_err());
        for address in ["", "abc", &"g".repeat(64), &"a".repeat(65), "%61"] {
            assert!(parse(address).is_err(), "{address}");
        }
    }

    proptest! {
        #[test]
        fn a_link_to_a_folder_leads_to_it(components in prop::collection::vec("[^/\\x00]{1,9}", 0..4)) {
            prop_assume!(components.iter().all(|c| c != "." && c != ".."));
            let folder = components.join("/");
            let link = of_folder(&address(), &folder);
            let place = parse(link.strip_prefix("/b3/").unwrap()).unwrap();
            prop_assert_eq!((place.inside, place.is_folder), (folder, true));
            prop_assert!(link.is_ascii());
        }
    }
}
