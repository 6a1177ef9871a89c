//! `corelane serve`: from arguments and file to settings, and on to the broker.

use std::collections::BTreeSet;

use crate::cli::args::ServeArguments;
use crate::cli::log;
use crate::cli::run::Failure;
use crate::config::{self, CpuId, Origin, Settings, Values};

/// Runs the broker until it is told to stop.
pub(crate) fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let settings = settings(arguments, &allowed_cpus()?)?;
    log::start();
    Ok(crate::broker::serve(settings)?)
}

/// The settings that a command line means: the defaults, under the file, under the flags.
pub(crate) fn settings(
    arguments: &ServeArguments,
    allowed_cpus: &BTreeSet<CpuId>,
) -> Result<Settings, config::Error> {
    let mut values = Values::default();
    if let Some(path) = &arguments.config {
        config::read_file(path, &mut values)?;
    }
    for (key, text) in &arguments.flags.0 {
        values.set_key(key, text, Origin::Flag(key.flag()))?;
    }
    for (name, text) in &arguments.assignments {
        values.set(name, text, Origin::Set)?;
    }
    Settings::new(values, allowed_cpus)
}

/// The CPUs that this process may run on.
fn allowed_cpus() -> Result<BTreeSet<CpuId>, Failure> {
    let mask = rustix::thread::sched_getaffinity(None).map_err(|error| {
        Failure::Other(format!("the kernel does not say which CPUs may be used: {error}"))
    })?;
    let numbers = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu));
    Ok(numbers.filter_map(|cpu| u16::try_from(cpu).ok()).map(CpuId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_allows_this_process_some_cpu() {
        let allowed = allowed_cpus().expect("the kernel says which");
        assert!(!allowed.is_empty());
    }
}
