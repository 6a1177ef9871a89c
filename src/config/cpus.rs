//! Lists of CPUs, as the kernel writes them: `0-3,6`.

use std::collections::BTreeSet;
use std::fmt;

/// The largest number of a CPU that the kernel's masks carry here.
const CPU_MAX: u16 = 1023;

/// The most entries of a list, each of which is a shard: as many as there can be CPUs.
const ENTRIES_MAX: usize = CPU_MAX as usize + 1;

/// The number of a CPU, as in /proc/cpuinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub u16);

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of `corelane.cpus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    /// All that the process may use.
    All,
    /// These, in this order, with repetitions; never empty.
    These(Vec<CpuId>),
}

impl Cpus {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("the range `{part}` runs backwards"));
            }
            cpus.extend((first..=last).map(CpuId));
            if cpus.len() > ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} shards"));
            }
        }
        Ok(Self::These(cpus))
    }

    /// The CPU of each shard, or those CPUs that are meant but not allowed.
    pub fn among(&self, allowed: &BTreeSet<CpuId>) -> Result<Vec<CpuId>, BTreeSet<CpuId>> {
        match self {
            Self::All => Ok(allowed.iter().copied().collect()),
            Self::These(cpus) => {
                let refused: BTreeSet<_> =
                    cpus.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
                if refused.is_empty() { Ok(cpus.clone()) } else { Err(refused) }
            }
        }
    }
}

/// The CPUs that are there more than once.
pub(crate) fn shared(cpus: &[CpuId]) -> BTreeSet<CpuId> {
    let mut once = BTreeSet::new();
    cpus.iter().copied().filter(|cpu| !once.insert(*cpu)).collect()
}

fn number(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(cpu) if cpu <= CPU_MAX => Ok(cpu),
        _ => Err(format!("`{text}` is not a CPU's number from 0 to {CPU_MAX}")),
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::These(cpus) => f.write_str(&ranges(cpus)),
        }
    }
}

/// Writes CPUs the short way, in their order: `0-3,6`.
pub(crate) fn ranges<'a>(cpus: impl IntoIterator<Item = &'a CpuId>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for &CpuId(cpu) in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let shown = runs.iter().map(|&(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_short_in_their_order() {
        for (text, written) in [
            ("all", "all"),
            ("0,1,2,3,6", "0-3,6"),
            ("6,0-3", "6,0-3"),
            ("2", "2"),
            ("1, 0", "1,0"),
            ("0,1,0,1", "0-1,0-1"),
            ("0-2,1", "0-2,1"),
            ("3,3", "3,3"),
            ("0-1023", "0-1023"),
        ] {
            let cpus = Cpus::parse(text).unwrap();
            assert_eq!(cpus.to_string(), written);
            assert_eq!(Cpus::parse(written), Ok(cpus), "what is written means the same");
        }
    }

    #[test]
    fn wrong_lists_say_why() {
        for (text, reason) in [
            ("", "`` is not a CPU's number from 0 to 1023"),
            ("0,", "`` is not a CPU's number from 0 to 1023"),
            ("1024", "`1024` is not a CPU's number from 0 to 1023"),
            ("-1", "`` is not a CPU's number from 0 to 1023"),
            ("3-1", "the range `3-1` runs backwards"),
            ("0-1023,0", "more than 1024 shards"),
        ] {
            assert_eq!(Cpus::parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn only_allowed_cpus_are_taken() {
        let allowed = BTreeSet::from([CpuId(1), CpuId(2)]);
        assert_eq!(Cpus::All.among(&allowed), Ok(vec![CpuId(1), CpuId(2)]));
        assert_eq!(Cpus::parse("2").unwrap().among(&allowed), Ok(vec![CpuId(2)]));
        assert_eq!(Cpus::parse("0-2,0").unwrap().among(&allowed), Err(BTreeSet::from([CpuId(0)])));
    }

    #[test]
    fn each_entry_is_a_shard_and_shared_cpus_are_known() {
        let allowed = BTreeSet::from([CpuId(0), CpuId(1), CpuId(2)]);
        let cpus = Cpus::parse("0-2,1,0").unwrap().among(&allowed).unwrap();
        assert_eq!(cpus, [0, 1, 2, 1, 0].map(CpuId));
        assert_eq!(shared(&cpus), BTreeSet::from([CpuId(0), CpuId(1)]));
        assert_eq!(shared(&cpus[..3]), BTreeSet::new());
    }
}
