//! Rates as people write them. The unit is always written, and `/s` with it: a line's 100 are megabits, a program's
//! megabytes, and a limit that is wrong by eight is worse than none.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use casnode_node::api::RateLimit;

use crate::size::times;

/// What a number is followed by, and its bytes a second. `b` alone stands for nothing here: to some it is a bit.
const UNITS: [(&str, u64); 10] = [
    ("GiB/s", 1 << 30),
    ("GB/s", 1_000_000_000),
    ("Gbit/s", 125_000_000),
    ("MiB/s", 1 << 20),
    ("MB/s", 1_000_000),
    ("Mbit/s", 125_000),
    ("KiB/s", 1 << 10),
    ("kB/s", 1_000),
    ("kbit/s", 125),
    ("B/s", 1),
];

/// The most that goes one way, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) RateLimit);

impl Rate {
    /// Bytes a second; `None`: no limit.
    pub(crate) fn bytes_per_s(self) -> Option<NonZeroU64> {
        match self.0 {
            RateLimit::Unlimited => None,
            RateLimit::BytesPerS(rate) => Some(rate),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self(RateLimit::Unlimited));
        }
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err("write a number and a unit, like 10MiB/s or 50Mbit/s, or none".to_owned());
        }
        let factor = factor(number, unit.trim())?;
        let rate = times(number, factor).ok_or_else(|| format!("{text} is no rate"))?;
        match NonZeroU64::new(rate) {
            Some(rate) if rate.get() >= RateLimit::MIN_BYTES_PER_S => {
                Ok(Self(RateLimit::BytesPerS(rate)))
            }
            _ => Err(too_slow()),
        }
    }
}

fn too_slow() -> String {
    let slowest = NonZeroU64::new(RateLimit::MIN_BYTES_PER_S);
    let slowest = Rate(slowest.map_or(RateLimit::Unlimited, RateLimit::BytesPerS));
    format!("the slowest limit is {slowest}; without a limit, write none")
}

/// The bytes a second of a unit, or what should have been written.
fn factor(number: &str, unit: &str) -> Result<u64, String> {
    if unit.is_empty() {
        return Err(format!(
            "which unit? write {number}MiB/s or {number}Mbit/s, for example"
        ));
    }
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) {
        return Ok(*factor);
    }
    let with_s = format!("{unit}/s");
    if UNITS.iter().any(|(name, _)| *name == with_s) {
        return Err(format!(
            "a rate is so much a second: write {number}{with_s}"
        ));
    }
    Err(
        "the units are B/s, KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s, and kbit/s, Mbit/s, Gbit/s"
            .to_owned(),
    )
}

/// In the largest unit of bytes of which it is a whole number: what is shown can be typed, and is the same rate.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.bytes_per_s() else {
            return f.write_str("none");
        };
        let rate = rate.get();
        let whole = |(name, factor): &&(&str, u64)| {
            !name.ends_with("bit/s") && rate.is_multiple_of(*factor)
        };
        match UNITS.iter().find(whole) {
            Some((name, factor)) => write!(f, "{}{name}", rate / factor),
            None => write!(f, "{rate}B/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(bytes_per_s: u64) -> Rate {
        Rate(RateLimit::BytesPerS(NonZeroU64::new(bytes_per_s).unwrap()))
    }

    #[test]
    fn rates_have_units() {
        for (text, bytes_per_s) in [
            ("10MiB/s", 10 << 20),
            ("10 MiB/s", 10 << 20),
            ("2GiB/s", 2 << 30),
            ("64KiB/s", 64 << 10),
            ("64kB/s", 64_000),
            ("1.5MB/s", 1_500_000),
            ("2GB/s", 2_000_000_000),
            ("100Mbit/s", 12_500_000),
            ("160kbit/s", 20_000),
            ("1Gbit/s", 125_000_000),
            (" 16384B/s ", 16384),
        ] {
            assert_eq!(text.parse(), Ok(limit(bytes_per_s)), "{text}");
        }
        assert_eq!("none".parse(), Ok(Rate(RateLimit::Unlimited)));
    }

    #[test]
    fn what_is_no_rate_is_refused_with_advice() {
        for (text, advice) in [
            ("", "none"),
            ("fast", "10MiB/s"),
            ("-1MiB/s", "10MiB/s"),
            ("10", "10MiB/s or 10Mbit/s"),
            ("10/s", "the units are"),
            ("10MiB", "write 10MiB/s"),
            ("50Mbit", "write 50Mbit/s"),
            ("10Mb/s", "Mbit/s"),
            ("10mib/s", "MiB/s"),
            ("10MiB/m", "the units are"),
            ("0MiB/s", "none"),
            ("16383B/s", "slowest limit is 16KiB/s"),
            ("1.MiB/s", "is no rate"),
            ("99999999999999GiB/s", "is no rate"),
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(limit(10 << 20).to_string(), "10MiB/s");
        assert_eq!(limit(12_500_000).to_string(), "12500kB/s");
        assert_eq!(limit(1025).to_string(), "1025B/s");
        assert_eq!(Rate(RateLimit::Unlimited).to_string(), "none");
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(bytes_per_s in RateLimit::MIN_BYTES_PER_S..=u64::MAX) {
            let rate = limit(bytes_per_s);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn a_number_and_a_unit_are_their_product(number in 132_000u64..1 << 20, unit in 0..UNITS.len()) {
            let (name, factor) = UNITS[unit];
            prop_assert_eq!(format!("{number}{name}").parse(), Ok(limit(number * factor)));
        }

        #[test]
        fn nothing_that_is_typed_is_a_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<Rate>();
        }
    }
}
