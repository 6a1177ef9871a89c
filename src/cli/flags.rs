//! A flag for each setting, made from the registry: `--log-dirs` for `log.dirs`, `--cpus` for `corelane.cpus`.

use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{Key, keys};

/// The names live as long as the program, as clap wants them to.
static NAMES: LazyLock<Vec<(&'static Key, String)>> =
    LazyLock::new(|| keys::ALL.iter().map(|key| (*key, key.flag())).collect());

/// The flags that were given, in the registry's order.
#[derive(Debug, Default)]
pub(crate) struct Flags(pub Vec<(&'static Key, String)>);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        NAMES.iter().fold(command, |command, (key, name)| {
            let heading = if key.is_own() { "Corelane's settings" } else { "Kafka's settings" };
            let default = key.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
            let flag = Arg::new(key.name)
                .long(name.as_str())
                .value_name(key.kind.placeholder())
                .help(format!("{}{default}", key.doc))
                .help_heading(heading)
                .allow_negative_numbers(true);
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |key: &&'static Key| Some((*key, matches.get_one::<String>(key.name)?.clone()));
        Ok(Self(keys::ALL.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_settings_share_a_flag() {
        let names: BTreeSet<&str> = NAMES.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names.len(), keys::ALL.len());
        assert!(names.contains("log-dirs") && names.contains("cpus") && names.contains("flush-method"));
    }
}
