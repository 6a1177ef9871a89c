//! A disk for tests: every operation is counted, may be made to fail, and takes effect at once for whoever
//! reads, but survives a crash only as far as it was flushed. What was not may be lost in any combination,
//! and the last surviving write of a file may be torn.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use crate::cluster::store::files::Files;

const SECTOR_BYTES: usize = 512;

/// Names and the files under them.
type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug)]
enum FileOperation {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum NameOperation {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<FileOperation>,
}

/// What the counted operations meet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// This operation, counted from 0, and all after it do nothing and fail: the machine stopped.
    StopAt(u64),
    /// Only this one fails; it has half taken effect if it is a write.
    FailAt(u64),
}

#[derive(Clone, Debug)]
struct Disk {
    files: Vec<Content>,
    durable_names: Names,
    names: Names,
    pending_names: Vec<NameOperation>,
    operations: u64,
    writes_after_failure: u64,
    failed: bool,
    fault: Fault,
    salt: u64,
}

/// A handle on the disk; clones share it.
#[derive(Clone, Debug)]
pub(super) struct SimulatedFiles(Rc<RefCell<Disk>>);

/// How the last surviving write of a file ends up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tear {
    Whole,
    /// Its first bytes only.
    Prefix(usize),
    /// Only the sectors of the file whose bit is set; the length as if whole.
    Sectors(u64),
}

/// What survives a crash: a bit for each pending operation, over files first and names last, and the tear of
/// one file's last survivor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survivors {
    pub(super) kept: u64,
    pub(super) tear: Tear,
}

impl SimulatedFiles {
    pub(super) fn new() -> SimulatedFiles {
        SimulatedFiles(Rc::new(RefCell::new(Disk {
            files: Vec::new(),
            durable_names: Names::new(),
            names: Names::new(),
            pending_names: Vec::new(),
            operations: 0,
            writes_after_failure: 0,
            failed: false,
            fault: Fault::None,
            salt: 1,
        })))
    }

    /// Sets the fault and starts to count again.
    pub(super) fn set_fault(&self, fault: Fault) {
        let mut disk = self.0.borrow_mut();
        disk.fault = fault;
        disk.operations = 0;
    }

    pub(super) fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Operations that change the disk and came after one that failed.
    pub(super) fn changes_after_failure(&self) -> u64 {
        self.0.borrow().writes_after_failure
    }

    /// How many operations a crash could take back.
    pub(super) fn pending(&self) -> u32 {
        let disk = self.0.borrow();
        let writes: usize = disk.files.iter().map(|file| file.pending.len()).sum();
        u32::try_from(writes + disk.pending_names.len()).unwrap()
    }

    /// The length and offset of the last write that `kept` lets survive, of the file that is written last:
    /// what can be torn.
    pub(super) fn last_survivor(&self, kept: u64) -> Option<(usize, usize)> {
        let disk = self.0.borrow();
        let mut last = None;
        for (bit, operation) in disk.files.iter().flat_map(|file| &file.pending).enumerate() {
            if kept >> bit & 1 == 1 {
                last = match operation {
                    FileOperation::Write { offset, bytes } => Some((*offset, bytes.len())),
                    FileOperation::Truncate(_) => None,
                };
            }
        }
        last
    }

    /// Another disk: this one after a crash.
    pub(super) fn crashed(&self, survivors: Survivors) -> SimulatedFiles {
        let mut disk = self.0.borrow().clone();
        let mut kept = survivors.kept;
        let mut keep = || {
            let bit = kept & 1;
            kept >>= 1;
            bit == 1
        };
        let torn_file = disk.last_written_file(survivors.kept);
        for (i, file) in disk.files.iter_mut().enumerate() {
            let survived: Vec<_> = std::mem::take(&mut file.pending).into_iter().filter(|_| keep()).collect();
            let count = survived.len();
            for (j, operation) in survived.into_iter().enumerate() {
                let torn = Some(i) == torn_file && j + 1 == count;
                apply(&mut file.durable, &operation, if torn { survivors.tear } else { Tear::Whole });
            }
            file.seen = file.durable.clone();
        }
        for operation in std::mem::take(&mut disk.pending_names) {
            if keep() {
                apply_name(&mut disk.durable_names, &operation);
            }
        }
        disk.names = disk.durable_names.clone();
        (disk.fault, disk.operations, disk.failed, disk.writes_after_failure) = (Fault::None, 0, false, 0);
        SimulatedFiles(Rc::new(RefCell::new(disk)))
    }

    /// Another disk: the same, in which the byte at `offset` of `name` is changed.
    pub(super) fn with_flip(&self, name: &str, offset: usize, mask: u8) -> SimulatedFiles {
        let mut disk = self.0.borrow().clone();
        let id = disk.names[name];
        disk.files[id].seen[offset] ^= mask;
        disk.files[id].durable = disk.files[id].seen.clone();
        disk.files[id].pending.clear();
        SimulatedFiles(Rc::new(RefCell::new(disk)))
    }

    fn operation<T>(
        &self,
        changes: bool,
        run: impl FnOnce(&mut Disk, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.0.borrow_mut();
        let number = disk.operations;
        disk.operations += 1;
        if disk.failed && changes {
            disk.writes_after_failure += 1;
        }
        match disk.fault {
            Fault::StopAt(at) if number >= at => Err(io::Error::other("the machine stopped")),
            Fault::FailAt(at) if number == at => {
                disk.failed = true;
                // Its effect is not known to the caller, so half of a write has one here.
                let _ = run(&mut disk, true);
                Err(io::Error::other("injected"))
            }
            _ => run(&mut disk, false),
        }
    }
}

impl Disk {
    fn last_written_file(&self, kept: u64) -> Option<usize> {
        let mut bit = 0;
        let mut last = None;
        for (i, file) in self.files.iter().enumerate() {
            for _ in &file.pending {
                if kept >> bit & 1 == 1 {
                    last = Some(i);
                }
                bit += 1;
            }
        }
        last
    }

    fn id(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change_names(&mut self, operation: NameOperation) {
        apply_name(&mut self.names, &operation);
        self.pending_names.push(operation);
    }

    fn change_file(&mut self, file: usize, operation: FileOperation) {
        apply(&mut self.files[file].seen, &operation, Tear::Whole);
        self.files[file].pending.push(operation);
    }
}

fn apply(content: &mut Vec<u8>, operation: &FileOperation, tear: Tear) {
    let (offset, bytes) = match operation {
        FileOperation::Truncate(len) => return content.truncate(*len),
        FileOperation::Write { offset, bytes } => (*offset, bytes),
    };
    let len = if let Tear::Prefix(len) = tear { len.min(bytes.len()) } else { bytes.len() };
    if len > 0 && content.len() < offset + len {
        content.resize(offset + len, 0);
    }
    for (i, byte) in bytes[..len].iter().enumerate() {
        let sector = (offset + i) / SECTOR_BYTES - offset / SECTOR_BYTES;
        let lost = matches!(tear, Tear::Sectors(mask) if mask >> sector & 1 == 0);
        if !lost {
            content[offset + i] = *byte;
        }
    }
}

/// A rename or removal of a name whose creation did not survive has nothing to act upon.
fn apply_name(names: &mut Names, operation: &NameOperation) {
    match operation {
        NameOperation::Create(name, id) => {
            names.insert(name.clone(), *id);
        }
        NameOperation::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        NameOperation::Remove(name) => {
            names.remove(name);
        }
    }
}

impl Files for SimulatedFiles {
    type File = usize;

    fn list(&self) -> io::Result<Vec<String>> {
        self.operation(false, |disk, _| Ok(disk.names.keys().cloned().collect()))
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.operation(false, |disk, _| {
            let bytes = disk.files[disk.id(name)?].seen.clone();
            if bytes.len() as u64 > bytes_max { Err(io::Error::other("too large")) } else { Ok(bytes) }
        })
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.operation(true, |disk, _| {
            if disk.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = disk.files.len();
            disk.files.push(Content::default());
            disk.change_names(NameOperation::Create(name.to_owned(), id));
            Ok(id)
        })
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.operation(false, |disk, _| disk.id(name))
    }

    fn write_at(&self, file: &usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operation(true, |disk, half| {
            let len = if half { bytes.len() / 2 } else { bytes.len() };
            let offset = usize::try_from(offset).unwrap();
            disk.change_file(*file, FileOperation::Write { offset, bytes: bytes[..len].to_vec() });
            Ok(())
        })
    }

    fn truncate(&self, file: &usize, len: u64) -> io::Result<()> {
        self.operation(true, |disk, _| {
            disk.change_file(*file, FileOperation::Truncate(usize::try_from(len).unwrap()));
            Ok(())
        })
    }

    fn flush(&self, file: &usize) -> io::Result<()> {
        self.operation(true, |disk, failing| {
            let content = &mut disk.files[*file];
            if failing {
                return Ok(());
            }
            assert!(
                !content.pending.iter().any(|operation| matches!(operation, FileOperation::Truncate(_))),
                "a changed length is flushed by flush_all"
            );
            content.pending.clear();
            content.durable = content.seen.clone();
            Ok(())
        })
    }

    fn flush_all(&self, file: &usize) -> io::Result<()> {
        self.operation(true, |disk, failing| {
            let content = &mut disk.files[*file];
            if !failing {
                content.pending.clear();
                content.durable = content.seen.clone();
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operation(true, |disk, _| {
            disk.id(from)?;
            disk.change_names(NameOperation::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operation(true, |disk, _| {
            disk.id(name)?;
            disk.change_names(NameOperation::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn flush_directory(&self) -> io::Result<()> {
        self.operation(true, |disk, failing| {
            if !failing {
                disk.durable_names = disk.names.clone();
                disk.pending_names.clear();
            }
            Ok(())
        })
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        let mut disk = self.0.borrow_mut();
        disk.salt = disk.salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ok(disk.salt.to_le_bytes())
    }
}
