//! What a shard does when it has no work.

use std::fmt;
use std::time::Duration;

/// The longest time that a shard looks for work before it sleeps; beyond it, `always` is meant.
const SPIN_US_MAX: u32 = 1_000_000;

/// The value of `corelane.spin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spin {
    /// Sleep at once.
    Park,
    /// Look for work for this many microseconds, at least one, and then sleep.
    Microseconds(u32),
    /// Never sleep.
    Always,
}

impl Spin {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "park" => Ok(Self::Park),
            "always" => Ok(Self::Always),
            _ => {
                let number = text.strip_suffix("us").ok_or_else(|| format!("`{text}` has no unit `us`"))?;
                match number.parse() {
                    Ok(us @ 1..=SPIN_US_MAX) => Ok(Self::Microseconds(us)),
                    _ => Err(format!("`{number}` is not a whole number from 1 to {SPIN_US_MAX}")),
                }
            }
        }
    }

    /// How long a shard looks for work: nothing for [`Spin::Always`], which never ends.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Park => Some(Duration::ZERO),
            Self::Microseconds(us) => Some(Duration::from_micros(us.into())),
            Self::Always => None,
        }
    }
}

impl fmt::Display for Spin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Park => f.write_str("park"),
            Self::Microseconds(us) => write!(f, "{us}us"),
            Self::Always => f.write_str("always"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written_alike() {
        for text in ["park", "1us", "50us", "1000000us", "always"] {
            assert_eq!(Spin::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Spin::Park.limit(), Some(Duration::ZERO));
        assert_eq!(Spin::Microseconds(50).limit(), Some(Duration::from_micros(50)));
        assert_eq!(Spin::Always.limit(), None);
    }

    #[test]
    fn wrong_policies_say_why() {
        for (text, reason) in [
            ("50", "`50` has no unit `us`"),
            ("0us", "`0` is not a whole number from 1 to 1000000"),
            ("1000001us", "`1000001` is not a whole number from 1 to 1000000"),
            ("50ms", "`50ms` has no unit `us`"),
            ("sometimes", "`sometimes` has no unit `us`"),
        ] {
            assert_eq!(Spin::parse(text), Err(reason.to_owned()), "{text}");
        }
    }
}
