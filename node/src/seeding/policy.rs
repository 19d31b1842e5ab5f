//! For how long a fetched file is served to others.

use std::{fmt, str::FromStr, time::Duration};

/// The longest time that can be said: a hundred years. Who wants more says `forever`.
pub(super) const MAX_SEED_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The largest ratio that can be said.
pub(super) const MAX_SEED_RATIO: f64 = 1e6;

/// For how long a fetched file is served. As text: `none`, `until-exit`, a span like `30m`, `ratio=1.5`, `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SeedPolicy {
    /// Not at all once it is whole.
    None,
    /// As long as this process runs.
    UntilExit,
    /// For this long after it was whole: whole seconds.
    For(Duration),
    /// Until this many times its size was sent.
    Ratio(f64),
    /// As long as it is here.
    #[default]
    Forever,
}

/// Why a text is not a [`SeedPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedPolicyError {
    /// It is neither a word nor a time nor a ratio.
    #[error(
        "{0:?} is neither none, until-exit, forever, a time like 30m, nor a ratio like ratio=1.5"
    )]
    Unknown(String),
    /// It is a number without a unit.
    #[error("{0:?} has no unit: write 30s, 30m, 12h, 7d, or ratio=1.5")]
    NoUnit(String),
    /// It is a time, but not of whole seconds, 1 s to 100 years.
    #[error("{0:?} is not a time of whole seconds from 1s to 100y")]
    Time(String),
    /// What follows `ratio=` is no number above 0 and up to a million.
    #[error("{0:?} is not a ratio: a number above 0 and up to 1000000")]
    Ratio(String),
}

impl SeedPolicy {
    /// Whether a file is served no more. Times are Unix seconds; `finished_s` is when it was whole, `None` before that:
    /// what is not whole is served whatever the policy. A file of which nothing can be sent has no ratio to reach.
    #[must_use]
    pub fn is_over(
        self,
        finished_s: Option<u64>,
        now_s: u64,
        uploaded_bytes: u64,
        size_bytes: u64,
    ) -> bool {
        let Some(finished_s) = finished_s else {
            return false;
        };
        match self {
            Self::None => true,
            Self::UntilExit | Self::Forever => false,
            Self::For(span) => now_s >= finished_s.saturating_add(span.as_secs()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a ratio is not exact to the byte"
            )]
            Self::Ratio(ratio) => {
                size_bytes > 0 && uploaded_bytes as f64 >= ratio * size_bytes as f64
            }
        }
    }
}

impl fmt::Display for SeedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::UntilExit => f.write_str("until-exit"),
            // Without spaces: it is one word on a command line.
            Self::For(span) => {
                let text = humantime::format_duration(*span).to_string();
                f.write_str(&text.replace(' ', ""))
            }
            Self::Ratio(ratio) => write!(f, "ratio={ratio}"),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl FromStr for SeedPolicy {
    type Err = SeedPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "until-exit" => Ok(Self::UntilExit),
            "forever" => Ok(Self::Forever),
            _ => match text.strip_prefix("ratio=") {
                Some(ratio) => parse_ratio(ratio),
                None => parse_time(text),
            },
        }
    }
}

fn parse_ratio(text: &str) -> Result<SeedPolicy, SeedPolicyError> {
    match text.parse() {
        Ok(ratio) if ratio > 0.0 && ratio <= MAX_SEED_RATIO => Ok(SeedPolicy::Ratio(ratio)),
        _ => Err(SeedPolicyError::Ratio(text.to_owned())),
    }
}

fn parse_time(text: &str) -> Result<SeedPolicy, SeedPolicyError> {
    if text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(SeedPolicyError::NoUnit(text.to_owned()));
    }
    match humantime::parse_duration(text) {
        Ok(span) if span.subsec_nanos() == 0 && !span.is_zero() && span <= MAX_SEED_TIME => {
            Ok(SeedPolicy::For(span))
        }
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
            Err(SeedPolicyError::Time(text.to_owned()))
        }
        Err(_) => Err(SeedPolicyError::Unknown(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<SeedPolicy, SeedPolicyError> {
        text.parse()
    }

    #[test]
    fn every_form_is_understood_and_written() {
        for (text, policy) in [
            ("none", SeedPolicy::None),
            ("until-exit", SeedPolicy::UntilExit),
            ("30m", SeedPolicy::For(Duration::from_secs(1800))),
            ("1h30m", SeedPolicy::For(Duration::from_secs(5400))),
            ("ratio=1.5", SeedPolicy::Ratio(1.5)),
            ("ratio=2", SeedPolicy::Ratio(2.0)),
            ("forever", SeedPolicy::Forever),
        ] {
            assert_eq!(parse(text), Ok(policy));
            assert_eq!(policy.to_string(), text);
        }
        assert_eq!(parse("90m").map(|p| p.to_string()).as_deref(), Ok("1h30m"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        use SeedPolicyError::{NoUnit, Ratio, Time, Unknown};
        let wrong = |text: &str| parse(text).unwrap_err();
        for text in ["", "never", "None", "ratio", "30 parsecs", "1.5x", "-3m"] {
            assert_eq!(wrong(text), Unknown(text.to_owned()));
        }
        for text in ["30", "1.5", "0", "-3"] {
            assert_eq!(wrong(text), NoUnit(text.to_owned()));
        }
        for text in ["0s", "500ms", "1s1ms", "101y", "99999999999999999999y"] {
            assert_eq!(wrong(text), Time(text.to_owned()));
        }
        for text in ["", "0", "-1", "nan", "inf", "1e7", "two"] {
            assert_eq!(wrong(&format!("ratio={text}")), Ratio(text.to_owned()));
        }
    }

    #[test]
    fn each_policy_is_over_when_it_says() {
        let over =
            |policy: SeedPolicy, now_s, uploaded| policy.is_over(Some(100), now_s, uploaded, 1000);
        assert!(over(SeedPolicy::None, 0, 0));
        assert!(!over(SeedPolicy::UntilExit, u64::MAX, u64::MAX));
        assert!(!over(SeedPolicy::Forever, u64::MAX, u64::MAX));
        let hour = SeedPolicy::For(Duration::from_secs(3600));
        assert!(!over(hour, 3699, u64::MAX));
        assert!(over(hour, 3700, 0));
        assert!(!over(hour, 99, 0), "the clock was set back");
        let ratio = SeedPolicy::Ratio(1.5);
        assert!(!over(ratio, u64::MAX, 1499));
        assert!(over(ratio, 0, 1500));
        assert!(
            !ratio.is_over(Some(100), 200, 0, 0),
            "of an empty file nothing is sent"
        );
        for policy in [SeedPolicy::None, hour, ratio] {
            assert!(
                !policy.is_over(None, u64::MAX, u64::MAX, 1),
                "it is not whole yet"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(secs in 1..=MAX_SEED_TIME.as_secs(), ratio in 1e-9..=MAX_SEED_RATIO) {
            for policy in [SeedPolicy::For(Duration::from_secs(secs)), SeedPolicy::Ratio(ratio)] {
                prop_assert_eq!(parse(&policy.to_string()), Ok(policy));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            if let Ok(policy) = parse(&text) {
                prop_assert_eq!(parse(&policy.to_string()), Ok(policy));
            }
        }
    }
}
