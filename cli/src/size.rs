//! Sizes and rates as people write them. A unit is required: nobody means 100 bytes by 100.

use casnode_node::{MemoryBudget, StoreLimit};

/// No store works in less: its reserve and one pack take that much.
const MIN_LIMIT_BYTES: u64 = 64 << 20;

/// The slowest pace that makes sense: one of the largest chunks in a minute or so.
const MIN_RATE_BYTES: u64 = 64 << 10;

/// The least that is worth measuring.
const MIN_SIZE_BYTES: u64 = 1 << 20;

/// What may follow a number, in any case of its letters.
const UNITS: [(&str, u64); 8] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// The most that a store may take; `None` when nothing was said: an empty variable is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<StoreLimit>);

/// How much memory; `None` when nothing was said: an empty variable is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory(pub(crate) Option<MemoryBudget>);

/// How fast; `None` is not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<u64>);

/// Reads the most that a store may take: a size of at least 64 MiB, or `none`.
pub(crate) fn parse_limit(text: &str) -> Result<Limit, String> {
    if text.is_empty() {
        return Ok(Limit(None));
    }
    if text.eq_ignore_ascii_case("none") {
        return Ok(Limit(Some(StoreLimit::Unlimited)));
    }
    let bytes = parse_bytes(text)?;
    if bytes < MIN_LIMIT_BYTES {
        return Err("a store needs at least 64MiB".to_owned());
    }
    Ok(Limit(Some(StoreLimit::Bytes(bytes))))
}

/// Reads how much memory a node may use: a size of at least 64 MiB.
pub(crate) fn parse_memory(text: &str) -> Result<Memory, String> {
    if text.is_empty() {
        return Ok(Memory(None));
    }
    match MemoryBudget::new(parse_bytes(text)?) {
        Some(budget) => Ok(Memory(Some(budget))),
        None => Err(format!(
            "a node needs at least {}MiB",
            MemoryBudget::MIN_BYTES >> 20
        )),
    }
}

/// Reads bytes a second, with or without `/s`, or `off`.
pub(crate) fn parse_rate(text: &str) -> Result<Rate, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(Rate(None));
    }
    let bytes = parse_bytes(text.strip_suffix("/s").unwrap_or(text))?;
    if bytes < MIN_RATE_BYTES {
        return Err("the slowest pace is 64KiB/s; to check nothing, write off".to_owned());
    }
    Ok(Rate(Some(bytes)))
}

/// Reads the size of a file to measure with: less than 1 MiB says nothing.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes < MIN_SIZE_BYTES {
        return Err("less than 1MiB is too little to measure".to_owned());
    }
    Ok(bytes)
}

/// Reads a place in a file, or a length: bytes, or a number with a unit.
pub(crate) fn parse_place(text: &str) -> Result<u64, String> {
    match text.trim() {
        digits if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) => digits
            .parse()
            .map_err(|_| format!("{text} is beyond any file")),
        text => parse_bytes(text),
    }
}

/// Reads a number with a unit: `100GiB`, `1.5 TB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    if number.is_empty() {
        return Err("write a number and a unit, like 100GiB".to_owned());
    }
    if unit.is_empty() {
        return Err(format!("which unit? write {number}GiB, for example"));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("the units are KiB, MiB, GiB, TiB, and KB, MB, GB, TB".to_owned());
    };
    times(number, *factor).ok_or_else(|| format!("{text} is no size"))
}

/// A decimal number times a factor, rounded down; `None` when it is malformed or too large.
pub(crate) fn times(number: &str, factor: u64) -> Option<u64> {
    /// More digits of a fraction change nothing that anybody sees.
    const FRACTION_DIGITS: usize = 9;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let bytes = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return (!number.ends_with('.')).then_some(bytes);
    }
    let digits = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(factor);
    let part = part / 10u128.pow(u32::try_from(digits.len()).ok()?);
    bytes.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bytes_or_have_units() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("1.5MiB", 3 << 19), (" 7 ", 7)] {
            assert_eq!(parse_place(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "-1", "1.5", "x", "99999999999999999999", "1 byte"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("100GiB", 100 << 30),
            ("100 gib", 100 << 30),
            ("1.5GiB", 3 << 29),
            ("2TB", 2_000_000_000_000),
            ("100000KB", 100_000_000),
            (" 0.5TiB ", 1 << 39),
        ] {
            let limit = parse_limit(text).unwrap();
            assert_eq!(limit, Limit(Some(StoreLimit::Bytes(bytes))), "{text}");
        }
        let none = parse_limit("none").unwrap();
        assert_eq!(none, Limit(Some(StoreLimit::Unlimited)));
        assert_eq!(parse_limit(""), Ok(Limit(None)));
    }

    #[test]
    fn what_is_measured_has_at_least_a_mebibyte() {
        assert_eq!(parse_size("1MiB"), Ok(1 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        for text in ["1023KiB", "5", "none", ""] {
            assert!(!parse_size(text).unwrap_err().is_empty(), "{text}");
        }
    }

    #[test]
    fn memory_is_a_size_that_is_enough() {
        let read = |text| parse_memory(text).map(|m| m.0.map(MemoryBudget::total_bytes));
        assert_eq!(read("64MiB"), Ok(Some(64 << 20)));
        assert_eq!(read("1.5GiB"), Ok(Some(3 << 29)));
        assert_eq!(read(""), Ok(None));
        assert!(read("63MiB").unwrap_err().contains("64MiB"));
        assert!(read("256").is_err() && read("none").is_err());
    }

    #[test]
    fn what_is_no_size_is_refused_with_advice() {
        assert!(parse_limit("100").unwrap_err().contains("100GiB"));
        for text in [
            " ",
            "GiB",
            "-1GiB",
            "1.GiB",
            "1.2.3GiB",
            ".5GiB",
            "1e3GiB",
            "1GiBit",
            "1G",
            "63MiB",
            "0KiB",
            "99999999999TiB",
            "20000000000000000000KB",
            "1.٣GiB",
        ] {
            let error = parse_limit(text).unwrap_err();
            assert!(!error.is_empty(), "{text}");
        }
    }

    #[test]
    fn rates_are_sizes_a_second() {
        assert_eq!(parse_rate("8MiB/s"), Ok(Rate(Some(8 << 20))));
        assert_eq!(parse_rate("8MiB"), Ok(Rate(Some(8 << 20))));
        assert_eq!(parse_rate("off"), Ok(Rate(None)));
        for text in ["8", "0MiB/s", "8MiB/m", "1KiB/s", "/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
