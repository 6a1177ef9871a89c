//! What may name a topic: Kafka's rule, which also makes a name safe as a directory's.

/// The longest name, in bytes.
pub const LENGTH_MAX: usize = 249;

/// Why a name is refused, for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// It has no letters.
    #[error("the topic name is empty")]
    Empty,
    /// It means a directory.
    #[error("the topic name cannot be \".\" or \"..\"")]
    Dots,
    /// It is too long.
    #[error("the topic name is {0} bytes long, {LENGTH_MAX} are allowed")]
    TooLong(usize),
    /// It has a character that no name may have.
    #[error("the topic name has characters other than ASCII letters, digits, '.', '_' and '-'")]
    Character,
}

/// Checks a name.
pub fn validate(name: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(Invalid::Empty),
        "." | ".." => Err(Invalid::Dots),
        _ if name.len() > LENGTH_MAX => Err(Invalid::TooLong(name.len())),
        _ if !name.bytes().all(legal) => Err(Invalid::Character),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_judges_them() {
        for name in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
        assert_eq!(validate(""), Err(Invalid::Empty));
        assert_eq!(validate(".."), Err(Invalid::Dots));
        assert_eq!(validate(&"x".repeat(250)), Err(Invalid::TooLong(250)));
        for name in ["a/b", "a b", "a\0", "\u{e9}"] {
            assert_eq!(validate(name), Err(Invalid::Character), "{name:?}");
        }
    }
}
