//! One input through one target: a panic, or memory beyond a bound, is reported with the target and the input.

use std::panic::catch_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fuzz::Target;

/// The most address space that one input may add to what the process ever had. An honest input takes a few MiB; a length
/// that is believed takes GiB, touched or not.
const GROWTH_MIB_MAX: u64 = 256;

/// Inputs are attempted in one thread at a time, since they are measured by what the whole process takes.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets `target` read `bytes`.
pub(crate) fn attempt(target: Target, name: &str, bytes: &[u8]) -> Result<(), String> {
    let before = peak_mib();
    let outcome = catch_unwind(|| (target.run)(bytes));
    let growth = peak_mib() - before;
    let harm = match outcome {
        Err(_) => "panicked".to_owned(),
        Ok(()) if growth > GROWTH_MIB_MAX => format!("took {growth} MiB"),
        Ok(()) => return Ok(()),
    };
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(format!("target {} {harm} on {name}: {hexadecimal}", target.name))
}

/// The most address space that this process ever had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("among other things");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib >> 10
}
