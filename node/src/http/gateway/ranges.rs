//! Which bytes of a file a request wants, and whether it wants any (RFC 9110, sections 13 and 14). Pure.

use std::ops::Range;

use http::{HeaderMap, HeaderName, header};

/// What a request wants of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes: at least one, and none beyond the end.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Unsatisfiable,
}

/// What there is to be said before any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// It holds, or there is none.
    Holds,
    /// The client has it already: 304.
    NotModified,
    /// The client wants another one: 412.
    Failed,
}

/// Whether the file with this entity tag is what is asked for.
pub(super) fn precondition(headers: &HeaderMap, etag: &str) -> Precondition {
    let strong = |tag: &str| tag == "*" || tag == etag;
    let weak = |tag: &str| strong(tag.strip_prefix("W/").unwrap_or(tag));
    if headers.contains_key(header::IF_MATCH) && !tags(headers, header::IF_MATCH).any(strong) {
        return Precondition::Failed;
    }
    match tags(headers, header::IF_NONE_MATCH).any(weak) {
        true => Precondition::NotModified,
        false => Precondition::Holds,
    }
}

/// The entity tags of a list. Those of this node have no comma, so what is cut wrongly matches none of them.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// Which bytes of a file of this size and entity tag are wanted. What is no range of bytes is ignored, as is a list of
/// several: the whole file answers those, too, and no client depends on getting less.
pub(super) fn wanted(headers: &HeaderMap, etag: &str, size_bytes: u64) -> Wanted {
    let is_other = |tag: &http::HeaderValue| tag.as_bytes() != etag.as_bytes();
    if headers.get(header::IF_RANGE).is_some_and(is_other) {
        return Wanted::Whole;
    }
    let mut ranges = headers.get_all(header::RANGE).into_iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return Wanted::Whole;
    };
    let range = range.to_str().ok().and_then(parse);
    range.map_or(Wanted::Whole, |range| range.of(size_bytes))
}

/// A range as it is written.
enum Written {
    From(u64),
    Within { first: u64, last: u64 },
    Last(u64),
}

impl Written {
    fn of(&self, size_bytes: u64) -> Wanted {
        let part = match *self {
            Self::From(first) => first..size_bytes,
            Self::Within { first, last } => first..last.saturating_add(1).min(size_bytes),
            // There is no way to say that nothing follows: the whole of nothing is the end of it.
            Self::Last(1..) if size_bytes == 0 => return Wanted::Whole,
            Self::Last(count) => size_bytes.saturating_sub(count)..size_bytes,
        };
        match part.is_empty() {
            true => Wanted::Unsatisfiable,
            false => Wanted::Part(part),
        }
    }
}

fn parse(text: &str) -> Option<Written> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(Written::Last(number(last)?)),
        (first, "") => Some(Written::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Written::Within { first, last })
        }
    }
}

/// A decimal number; one that is too large is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"abc\"";

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = list.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn of(range: &str, size_bytes: u64) -> Wanted {
        wanted(&headers(&[(header::RANGE, range)]), ETAG, size_bytes)
    }

    #[test]
    fn ranges_as_clients_write_them() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..100),
            ("bytes=10-19", 10..20),
            ("Bytes = 10-19", 10..20),
            ("bytes=90-1000", 90..100),
            ("bytes=-1", 99..100),
            ("bytes=-1000", 0..100),
            ("bytes=5-99999999999999999999999", 5..100),
        ] {
            assert_eq!(of(range, 100), Wanted::Part(part), "{range}");
        }
    }

    #[test]
    fn what_lies_beyond_the_end_is_refused() {
        for range in [
            "bytes=100-",
            "bytes=100-200",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(range, 100), Wanted::Unsatisfiable, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(of("bytes=-5", 0), Wanted::Whole);
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "bytes=1 -2",
        ] {
            assert_eq!(of(range, 100), Wanted::Whole, "{range}");
        }
        let twice = headers(&[]);
        assert_eq!(wanted(&twice, ETAG, 100), Wanted::Whole);
        let mut twice = headers(&[(header::RANGE, "bytes=0-1")]);
        twice.append(header::RANGE, "bytes=4-5".parse().unwrap());
        assert_eq!(wanted(&twice, ETAG, 100), Wanted::Whole);
    }

    #[test]
    fn a_range_of_another_file_is_the_whole_of_this_one() {
        let range = (header::RANGE, "bytes=1-2");
        for (tag, part) in [
            ("\"abc\"", Wanted::Part(1..3)),
            ("W/\"abc\"", Wanted::Whole),
            ("\"other\"", Wanted::Whole),
            ("Sat, 21 Nov 2026 10:00:00 GMT", Wanted::Whole),
        ] {
            let headers = headers(&[range.clone(), (header::IF_RANGE, tag)]);
            assert_eq!(wanted(&headers, ETAG, 100), part, "{tag}");
        }
    }

    #[test]
    fn whoever_has_it_is_sent_nothing() {
        for (list, told) in [
            ("\"abc\"", Precondition::NotModified),
            ("W/\"abc\"", Precondition::NotModified),
            ("\"x\", \"abc\"", Precondition::NotModified),
            ("*", Precondition::NotModified),
            ("\"x\"", Precondition::Holds),
            ("abc", Precondition::Holds),
        ] {
            let headers = headers(&[(header::IF_NONE_MATCH, list)]);
            assert_eq!(precondition(&headers, ETAG), told, "{list}");
        }
        for (list, told) in [
            ("\"abc\"", Precondition::Holds),
            ("*", Precondition::Holds),
            ("W/\"abc\"", Precondition::Failed),
            ("\"x\"", Precondition::Failed),
        ] {
            let headers = headers(&[(header::IF_MATCH, list)]);
            assert_eq!(precondition(&headers, ETAG), told, "{list}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_a_part_is_a_part(text in "(bytes=)?[0-9,a-z =-]{0,24}", size in 0u64..50) {
            if let Wanted::Part(part) = of(&text, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }
}
