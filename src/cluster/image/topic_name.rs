//! Kafka's rules for topic names.

/// The longest topic name, in bytes: a directory `<name>-<partition>` of Kafka must fit into a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The topic in which a Kafka controller keeps its metadata; no client may create it.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Why a name is not a topic's, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no characters.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// It would be a directory's own or its parent's name.
    #[error("Topic name is invalid: '.' or '..' is not allowed")]
    Dots,
    /// It is longer than a topic's name may be.
    #[error(
        "Topic name is invalid: the length of '{name}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
    )]
    TooLong {
        /// The beginning of the name, as far as a name may go.
        name: String,
    },
    /// It has characters that a topic's name may not have.
    #[error(
        "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters {
        /// The name.
        name: String,
    },
}

/// Whether a topic may have this name. Whether it collides with an existing one, only an image can say.
pub fn validate_topic_name(name: &str) -> Result<(), NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if name.len() > TOPIC_NAME_BYTES_MAX => {
            Err(NameError::TooLong { name: name.chars().take(TOPIC_NAME_BYTES_MAX).collect() })
        }
        _ if !name.bytes().all(allowed) => Err(NameError::Characters { name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Whether clients are told that the topic belongs to the broker (`is_internal` of Metadata).
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// Two names that differ only in '.' and '_' collide, because names of metrics do not tell these apart. Names
/// collide if and only if this is the same for both.
pub(super) fn collision_form(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_kafka_refuses() {
        assert_eq!(validate_topic_name(""), Err(NameError::Empty));
        assert_eq!(validate_topic_name("."), Err(NameError::Dots));
        assert_eq!(validate_topic_name(".."), Err(NameError::Dots));
        assert!(validate_topic_name(&"a".repeat(249)).is_ok());
        assert!(matches!(validate_topic_name(&"a".repeat(250)), Err(NameError::TooLong { .. })));
        for name in ["a b", "a/b", "ä", "a\0", "a,b", "a:b", "a\n"] {
            assert_eq!(validate_topic_name(name), Err(NameError::Characters { name: name.to_owned() }));
        }
        for name in ["...", "-", "_", "__consumer_offsets", "A.b_c-9"] {
            assert_eq!(validate_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn only_kafkas_own_topics_are_internal() {
        assert!(is_internal_topic("__consumer_offsets") && is_internal_topic("__transaction_state"));
        assert!(!is_internal_topic("__mine") && !is_internal_topic("consumer_offsets"));
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn a_valid_name_is_short_and_of_the_character_set(name in "\\PC{0,260}|[a-z._-]{0,260}") {
            let valid = validate_topic_name(&name).is_ok();
            let set = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
            let expected = name.chars().all(|c| set.contains(c)) && (1..=249).contains(&name.len())
                && name != "." && name != "..";
            prop_assert_eq!(valid, expected);
        }
    }
}
