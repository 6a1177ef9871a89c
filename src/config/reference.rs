//! The reference page of all settings, written from the registry.

use std::fmt::Write as _;

use crate::config::keys::{self, Importance, Key};

const HEAD: &str = "\
# Configuration

<!-- Written by `corelane config reference` from the registry in `src/config/keys.rs`. -->

`corelane serve --config FILE` reads a TOML file; without one, every key has its default. In the file a key may be
written with dots (`log.segment.bytes = 1073741824`) or nested (`[log.segment]`, then `bytes = 1073741824`). A flag or
`--set KEY=VALUE` overrides the file. A key that is not on this page is an error, and so are two values for one key.

```toml
listeners = \"PLAINTEXT://0.0.0.0:9092\"
advertised.listeners = \"PLAINTEXT://broker-1.example:9092\"
log.dirs = \"/var/lib/corelane\"

[corelane]
cpus = \"0-3\"
```

Every setting takes effect when the broker starts.
";

const KAFKA_HEAD: &str = "
## Keys that Kafka has

They mean what they mean to Kafka. So do their defaults, except that `listeners` stays on this machine, and that `log.dirs` and
`node.id` have one that is enough to start with.
";

const OWN_HEAD: &str = "
## Keys of Corelane

They stand in the section `[corelane]` of the file, there without the prefix. Sizes take the units KiB, MiB, GiB and TiB. The
sizes of the journal, of staging and of memory count for each shard.
";

/// The page, as `docs/configuration.md` has it.
pub fn reference_page() -> String {
    let mut page = HEAD.to_owned();
    for (head, own) in [(KAFKA_HEAD, false), (OWN_HEAD, true)] {
        page.push_str(head);
        keys::ALL.iter().filter(|key| key.is_own() == own).for_each(|key| page.push_str(&entry(key)));
    }
    page
}

fn entry(key: &Key) -> String {
    let mut entry = format!("\n### `{}`\n\n{}\n\n", key.name, key.doc);
    let mut line = |text: String| writeln!(entry, "- {text}").expect("writing to a string does not fail");
    line(format!("Values: {}", key.kind.allowed()));
    line(key.default.map_or_else(|| "Default: none".to_owned(), |default| format!("Default: `{default}`")));
    line(format!("Flag: `--{}`", key.flag()));
    if let Some(name) = key.topic_name() {
        line(format!("A topic overrides it as `{name}`"));
    }
    line(format!("Importance: {}", importance(key.importance)));
    entry
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_the_generated_one() {
        let committed = include_str!("../../docs/configuration.md");
        assert!(
            committed == reference_page(),
            "docs/configuration.md is out of date: run `corelane config reference > docs/configuration.md`"
        );
    }

    #[test]
    fn the_page_has_every_key_and_its_example_is_valid() {
        let page = reference_page();
        for key in keys::ALL {
            assert!(page.contains(&format!("\n### `{}`\n", key.name)), "{}", key.name);
            assert!(!key.dynamic, "{}: the page says that every setting takes effect at start", key.name);
        }
    }
}
