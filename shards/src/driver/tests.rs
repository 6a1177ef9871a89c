//! The driver with a small engine on a real disk.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use glommio::io::PollableFd;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

use super::*;
use crate::clock::Moment;
use crate::limits::BLOCK_BYTES;
use crate::memory::Slab;
use crate::net::{Request, Service};
use crate::ring::{Doorbell, StorageEvent};
use crate::runtime::{Settings, start};

struct Deaf;

impl Service for Deaf {
    fn request(&self, _request: Request) {
        unreachable!("nobody connects")
    }
}

/// Writes blocks durably, one after the other, by the method in turn, and reads each back.
struct Blocks {
    file: Rc<OwnedFd>,
    slab: Slab,
    block: u64,
    blocks: u64,
    begun: bool,
    verified: Arc<AtomicU64>,
    stopped: bool,
}

impl Blocks {
    fn position(&self) -> u64 {
        self.block * BLOCK_BYTES as u64
    }

    fn content(&self) -> u8 {
        u8::try_from(self.block % 251).expect("below 251") + 1
    }

    fn write(&mut self, context: &mut Context<'_>) {
        let mut buffer = self.slab.take(BLOCK_BYTES).expect("room");
        buffer.fill(self.content());
        let slice = buffer.freeze();
        let halves = vec![slice.narrow(0..512), slice.narrow(512..BLOCK_BYTES)];
        let durable = self.block.is_multiple_of(2);
        context.write(self.block, &self.file, self.position(), halves, durable);
    }

    fn read(&mut self, context: &mut Context<'_>) {
        let buffer = self.slab.take(BLOCK_BYTES).expect("room");
        context.read(self.block, &self.file, self.position(), buffer);
    }
}

impl Engine for Blocks {
    fn turn(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.begun, true) {
            self.write(context);
        }
    }

    fn completed(&mut self, tag: u64, event: StorageEvent, context: &mut Context<'_>) {
        assert_eq!(tag, self.block);
        assert!(event.error().is_none(), "the disk works");
        match event {
            StorageEvent::Written { result, slices } => {
                assert_eq!((result.expect("written"), slices.len()), (BLOCK_BYTES, 2));
                if self.block.is_multiple_of(2) { self.read(context) } else { context.flush(tag, &self.file) }
            }
            StorageEvent::Flushed { .. } => self.read(context),
            StorageEvent::Read { result, buffer } => {
                assert_eq!(result.expect("read"), BLOCK_BYTES);
                assert!(buffer.iter().all(|byte| *byte == self.content()));
                self.verified.fetch_add(1, Ordering::Release);
                self.block += 1;
                if self.block < self.blocks {
                    self.write(context);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn stop(&mut self, _context: &mut Context<'_>) {
        self.stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.stopped && self.block == self.blocks
    }
}

fn direct_file(name: &str) -> (PathBuf, File) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .expect("target lies on a disk that takes direct I/O");
    (path, file)
}

#[test]
fn an_engine_writes_durably_and_reads_back_parked_and_spinning() {
    for (spin, name) in
        [(Spin::Park, "park"), (Spin::For(Duration::from_micros(50)), "spin"), (Spin::Always, "always")]
    {
        let (path, file) = direct_file(&format!("driver-test-{}-{name}", std::process::id()));
        let verified = Arc::new(AtomicU64::new(0));
        let settings = Settings {
            cpus: vec![0],
            spin,
            listeners: Vec::new(),
            network: Default::default(),
            slab_bytes_max: 1 << 20,
            drain_max: Duration::from_secs(10),
        };
        let seen = Arc::clone(&verified);
        let runtime = start(settings, move |shard| {
            let file = Rc::new(OwnedFd::from(file.try_clone()?));
            let (slab, verified) = (shard.slab().clone(), Arc::clone(&seen));
            let engine = Blocks { file, slab, block: 0, blocks: 64, begun: false, verified, stopped: false };
            Ok((Rc::new(Deaf), engine))
        });
        let runtime = runtime.expect("starts");
        let counters = Arc::clone(&runtime.counters()[0]);
        runtime.stop();
        runtime.join().expect("ends well");
        assert_eq!(verified.load(Ordering::Acquire), 64, "stopping waits for the engine");
        let snapshot = counters.snapshot();
        assert_eq!((snapshot.storage_operations_total, snapshot.ring_operations), (64 * 2 + 32, 0));
        assert_eq!(snapshot.parks_total == 0, spin == Spin::Always);
        std::fs::remove_file(path).expect("ours");
    }
}

/// Answers each ring of the doorbell.
async fn answer_rings(doorbell: Doorbell, answers: mpsc::Sender<u64>, rings: u64) {
    let doorbell = PollableFd::new(doorbell).expect("an executor");
    for ring in 0..rings {
        doorbell.readable().await.expect("the doorbell can be waited for");
        doorbell.get_ref().park();
        answers.send(ring).expect("the test waits");
    }
}

/// The executor once parked with woken tasks in its queues: its thread had lost the CPU between the arming of the
/// preemption timer and the first question whether it had expired, so that no queue ran, which it took for "nothing to
/// run". A slice of a nanosecond is always over by then.
#[test]
fn a_task_woken_as_its_time_slice_ends_runs() {
    const RINGS: u64 = 1000;
    let doorbell = Doorbell::new().expect("an eventfd");
    doorbell.park();
    let (answer, answers) = mpsc::channel();
    let rung = doorbell.clone();
    let live = move || async move {
        let slice = Latency::Matters(Duration::from_nanos(1));
        let queue = glommio::executor().create_task_queue(Shares::Static(1), slice, "brief");
        let task = glommio::spawn_local_into(answer_rings(rung, answer, RINGS), queue);
        task.expect("the queue was just made").await;
    };
    let executor = LocalExecutorBuilder::new(Placement::Fixed(0)).spawn(live).expect("starts");
    for ring in 0..RINGS {
        doorbell.ring();
        assert_eq!(answers.recv_timeout(Duration::from_secs(10)), Ok(ring), "the wake-up is not lost");
    }
    executor.join().expect("ends well");
}
