//! A disk that keeps its word and nothing more.
//!
//! A file is sectors of 512 bytes. A write puts new versions of its sectors into a volatile cache, where reads see them;
//! a flush makes those durable that were written before it was issued. When power fails, each sector on its own becomes
//! the durable version, or any newer one, or rarely garbage; a file whose directory was not flushed may be gone. All of
//! that is drawn from the seed.

use std::collections::BTreeMap;

use super::random::Random;

/// The unit that a power loss keeps or loses. Bytes.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// The files of a simulated directory, by path.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    files: BTreeMap<String, SimFile>,
    last_write: u64,
    /// Sectors that a power loss dropped, tore to garbage, and files that it removed.
    pub faults: Faults,
}

/// What a disk did to its owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Sectors that fell back to an older version.
    pub sectors_dropped: u64,
    /// Sectors that became garbage.
    pub sectors_garbled: u64,
    /// Files whose directory entry was lost.
    pub files_lost: u64,
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    durable: Vec<Sector>,
    /// Newer versions of sectors, oldest first.
    cached: BTreeMap<usize, Vec<Version>>,
    length: u64,
    /// The length that a power loss may bring back, while a longer one is not durable.
    durable_length: Option<u64>,
    /// Whether a flush makes its length durable too: its content was replaced, and it did not begin to grow.
    is_rewritten: bool,
    entry_is_durable: bool,
}

/// What a write put into a sector.
#[derive(Clone, Debug)]
struct Version {
    /// The write's number.
    number: u64,
    sector: Sector,
    /// A failed flush covered it: reads still see it, and no later flush makes it durable.
    forsaken: bool,
}

impl SimFile {
    fn sector(&self, index: usize) -> Sector {
        match self.cached.get(&index).and_then(|versions| versions.last()) {
            Some(version) => version.sector,
            None => self.durable.get(index).copied().unwrap_or([0; SECTOR_BYTES]),
        }
    }

    fn set_durable(&mut self, index: usize, sector: Sector) {
        if self.durable.len() <= index {
            self.durable.resize(index + 1, [0; SECTOR_BYTES]);
        }
        self.durable[index] = sector;
    }
}

impl SimDisk {
    /// Whether the file exists.
    pub fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The file's size in bytes.
    pub fn length(&self, path: &str) -> Option<u64> {
        self.files.get(path).map(|file| file.length)
    }

    /// The paths that begin with `prefix`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        self.files.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// Creates an empty file whose directory entry is not durable yet.
    pub fn create(&mut self, path: &str) {
        self.files.entry(path.to_owned()).or_default();
    }

    /// Makes the directory entry of a file durable.
    pub fn flush_directory(&mut self, path: &str) {
        if let Some(file) = self.files.get_mut(path) {
            file.entry_is_durable = true;
        }
    }

    /// Removes a file, durably at once: nothing relies on a removal that can be undone.
    pub fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// Cuts a file.
    pub fn truncate(&mut self, path: &str, length: u64) {
        let Some(file) = self.files.get_mut(path) else { return };
        file.length = file.length.min(length);
        let whole = usize::try_from(length).expect("small").div_ceil(SECTOR_BYTES);
        file.durable.truncate(whole);
        file.cached.retain(|index, _| *index < whole);
    }

    /// The number that the next write gets: a flush issued now covers all writes below it.
    pub fn next_write(&self) -> u64 {
        self.last_write + 1
    }

    /// Writes whole sectors into the volatile cache, all of them or those that `lands` says.
    pub fn write(&mut self, path: &str, position: u64, bytes: &[u8], mut lands: impl FnMut() -> bool) {
        self.last_write += 1;
        let number = self.last_write;
        let file = self.files.entry(path.to_owned()).or_default();
        let first = usize::try_from(position).expect("small") / SECTOR_BYTES;
        assert!(position.is_multiple_of(SECTOR_BYTES as u64), "direct writes are aligned");
        for (i, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            if lands() {
                let sector = sector.try_into().expect("a whole sector");
                file.cached.entry(first + i).or_default().push(Version { number, sector, forsaken: false });
            }
        }
        file.length = file.length.max(position + bytes.len() as u64);
    }

    /// Makes durable what was written to a file before write number `before`.
    pub fn flush(&mut self, path: &str, before: u64) {
        let Some(file) = self.files.get_mut(path) else { return };
        let mut cached = std::mem::take(&mut file.cached);
        for (index, versions) in &mut cached {
            let newest = versions.iter().rposition(|v| v.number < before && !v.forsaken);
            if let Some(newest) = newest {
                file.set_durable(*index, versions[newest].sector);
                versions.drain(..=newest);
            }
        }
        cached.retain(|_, versions| !versions.is_empty());
        file.cached = cached;
        if file.is_rewritten {
            file.durable_length = None;
        }
    }

    /// A flush of what was written before write number `before` fails: the kernel takes these pages for clean now.
    pub fn fail_flush(&mut self, path: &str, before: u64) {
        let Some(file) = self.files.get_mut(path) else { return };
        for version in file.cached.values_mut().flatten().filter(|v| v.number < before) {
            version.forsaken = true;
        }
    }

    /// Makes a write durable that has just been made, as a synchronous write does: that range and nothing else.
    pub fn flush_write(&mut self, path: &str, position: u64, length: usize) {
        let Some(file) = self.files.get_mut(path) else { return };
        let first = usize::try_from(position).expect("small") / SECTOR_BYTES;
        for index in first..first + length / SECTOR_BYTES {
            if let Some(versions) = file.cached.remove(&index)
                && let Some(version) = versions.last()
            {
                file.set_durable(index, version.sector);
            }
        }
    }

    /// Makes a file longer: what lies between is zeros, durably.
    pub fn extend(&mut self, path: &str, from: u64, to: u64) {
        let Some(file) = self.files.get_mut(path) else { return };
        let sector = |bytes: u64| usize::try_from(bytes).expect("small") / SECTOR_BYTES;
        for index in sector(from)..sector(to) {
            file.cached.remove(&index);
            file.set_durable(index, [0; SECTOR_BYTES]);
        }
        file.length = file.length.max(to);
        file.durable_length = None;
    }

    /// Begins to make a file longer and does not get far: its new length is seen, and not durable.
    pub fn extend_in_part(&mut self, path: &str, to: u64) {
        if let Some(file) = self.files.get_mut(path) {
            file.durable_length.get_or_insert(file.length);
            file.length = file.length.max(to);
        }
    }

    /// Fills `buffer` from a position on; gives back how many bytes the file had.
    pub fn read(&self, path: &str, position: u64, buffer: &mut [u8]) -> usize {
        let Some(file) = self.files.get(path) else { return 0 };
        let available =
            usize::try_from(file.length.saturating_sub(position)).expect("small").min(buffer.len());
        let start = usize::try_from(position).expect("small");
        for (i, chunk) in buffer[..available].chunks_mut(SECTOR_BYTES).enumerate() {
            chunk.copy_from_slice(&file.sector(start / SECTOR_BYTES + i)[..chunk.len()]);
        }
        available
    }

    /// Replaces a small file as a rename does: whole, and durable.
    pub fn replace(&mut self, path: &str, bytes: &[u8]) {
        let mut file = SimFile { length: bytes.len() as u64, entry_is_durable: true, ..SimFile::default() };
        for (i, chunk) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let mut sector = [0; SECTOR_BYTES];
            sector[..chunk.len()].copy_from_slice(chunk);
            file.set_durable(i, sector);
        }
        self.files.insert(path.to_owned(), file);
    }

    /// Gives a file new content of whole sectors, as far as they land, without a flush: a power loss may bring any mixture
    /// of old and new sectors, and the old length.
    pub fn rewrite(&mut self, path: &str, bytes: &[u8], lands: impl FnMut() -> bool) {
        let before = self.length(path).unwrap_or(0);
        self.write(path, 0, bytes, lands);
        if let Some(file) = self.files.get_mut(path) {
            file.durable_length.get_or_insert(before);
            file.is_rewritten = true;
            file.length = bytes.len() as u64;
        }
    }

    /// The whole of a file.
    pub fn read_all(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length(path)?).expect("small")];
        self.read(path, 0, &mut bytes);
        Some(bytes)
    }

    /// The power fails: what was not flushed is kept or lost sector by sector, as `random` draws.
    pub fn lose_power(&mut self, random: &mut Random, garbage: bool) {
        let lost: Vec<_> = self
            .files
            .iter()
            .filter(|(_, file)| !file.entry_is_durable)
            .map(|(path, _)| path.clone())
            .filter(|_| random.per_mille(500))
            .collect();
        for path in lost {
            self.faults.files_lost += 1;
            self.files.remove(&path);
        }
        let keeps_all = random.per_mille(100);
        let keeps_none = random.per_mille(150);
        for file in self.files.values_mut() {
            file.entry_is_durable = true;
            if let Some(durable) = file.durable_length.take()
                && random.per_mille(500)
            {
                file.length = durable;
            }
            for (index, versions) in std::mem::take(&mut file.cached) {
                let kept = match () {
                    () if keeps_all => versions.len(),
                    () if keeps_none => 0,
                    () => random.below(versions.len() + 1),
                };
                if garbage && !keeps_all && random.per_mille(20) {
                    self.faults.sectors_garbled += 1;
                    let mut sector = [0; SECTOR_BYTES];
                    sector.fill_with(|| random.bits().to_le_bytes()[0]);
                    file.set_durable(index, sector);
                } else if kept > 0 {
                    file.set_durable(index, versions[kept - 1].sector);
                }
                self.faults.sectors_dropped += u64::from(kept < versions.len());
            }
        }
    }

    /// Flips one bit of a file, in the durable version and in what reads see.
    pub fn flip(&mut self, path: &str, byte: u64, bit: u8) {
        let Some(file) = self.files.get_mut(path) else { return };
        let (index, at) = (
            usize::try_from(byte).expect("small") / SECTOR_BYTES,
            usize::try_from(byte).expect("small") % SECTOR_BYTES,
        );
        let mut sector = file.sector(index);
        sector[at] ^= 1 << bit;
        file.cached.remove(&index);
        file.set_durable(index, sector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimDisk, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        disk.read("f", 0, &mut bytes);
        bytes
    }

    #[test]
    fn a_flush_covers_what_was_written_before_it_was_issued() {
        let mut disk = SimDisk::default();
        disk.create("f");
        disk.flush_directory("f");
        disk.write("f", 0, &[1; 512], || true);
        let issued = disk.next_write();
        disk.write("f", 512, &[2; 512], || true);
        disk.flush("f", issued);
        let mut lost = 0;
        for seed in 0..50 {
            let mut cut = disk.clone();
            cut.lose_power(&mut Random::new(seed), false);
            let bytes = read(&cut, 1024);
            assert_eq!(bytes[..512], [1; 512], "flushed bytes stay");
            lost += usize::from(bytes[512] == 0);
        }
        assert!((10..50).contains(&lost), "unflushed bytes are lost in some runs and kept in others: {lost}");
    }

    #[test]
    fn a_file_survives_with_its_directory_only() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut disk = SimDisk::default();
            disk.write("f", 0, &[1; 512], || true);
            disk.flush("f", disk.next_write());
            disk.lose_power(&mut Random::new(seed), false);
            lost += usize::from(!disk.exists("f"));
        }
        assert!((5..45).contains(&lost), "{lost} of 50");
    }

    #[test]
    fn sectors_are_torn_apart() {
        let mut torn = 0;
        for seed in 0..200 {
            let mut disk = SimDisk::default();
            disk.create("f");
            disk.flush_directory("f");
            disk.write("f", 0, &[1; 4096], || true);
            disk.lose_power(&mut Random::new(seed), false);
            let bytes = read(&disk, 4096);
            torn += usize::from(bytes.contains(&0) && bytes.contains(&1));
        }
        assert!(torn > 50, "{torn} of 200");
    }
}
