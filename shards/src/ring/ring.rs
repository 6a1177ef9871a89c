//! The ring itself. See the folder's documentation for its invariants.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::operation::{Gather, Key, Message, Operation, Operations, raw};
use super::provided::{GROUP, Provided};
use super::{Completion, Doorbell, Error, NetworkEvent, StorageEvent, Token};
use crate::clock::Moment;
use crate::limits::{
    CANCEL_ATTEMPTS_MAX, RING_COMPLETIONS, RING_SUBMISSIONS, SEND_SLICES_MAX, WRITE_SLICES_MAX,
};
use crate::memory::{AlignedBuffer, Slab, Slice};

/// How often a dropped ring waits a second for its operations to end before it gives their memory up.
const FAREWELLS_MAX: usize = 3;

/// A shard's io_uring. Created and used on the shard's thread alone.
pub struct Ring {
    /// Everything but in `drop` present; apart, so that it can be leaked when the kernel does not let go of memory.
    parts: ManuallyDrop<Parts>,
}

struct Parts {
    /// First, so that the kernel's side ends before the memory it knows.
    uring: IoUring,
    operations: Operations,
    provided: Provided,
    /// Entries that the submission queue had no room for, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Disk operations since the last submission. They go behind what the network asked for: the kernel carries
    /// entries out one by one, and starting a direct write takes it longer than sending an answer.
    disk: VecDeque<squeue::Entry>,
    /// The earliest wake-up asked for, and those that it replaced and the kernel has not given back.
    alarm: Option<(Moment, Key)>,
    alarms: usize,
    _doorbell: Doorbell,
}

impl Ring {
    /// Creates the calling thread's ring. Completions signal `doorbell`; small receives are served from `pool`.
    pub fn new(doorbell: &Doorbell, pool: Slab) -> Result<Ring, Error> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(RING_COMPLETIONS)
            .build(RING_SUBMISSIONS)
            .map_err(Error::from_setup)?;
        if !uring.params().is_feature_nodrop() {
            return Err(Error::Unsupported("the promise to drop no completion"));
        }
        uring.submitter().register_eventfd(doorbell.as_raw_fd()).map_err(Error::from_setup)?;
        let provided = Provided::new(&uring, pool)?;
        let parts = Parts {
            uring,
            operations: Operations::new(),
            provided,
            backlog: VecDeque::new(),
            disk: VecDeque::new(),
            alarm: None,
            alarms: 0,
            _doorbell: doorbell.clone(),
        };
        Ok(Ring { parts: ManuallyDrop::new(parts) })
    }

    /// Accepts connections until cancelled or failed.
    pub fn accept(&mut self, token: Token, listener: Rc<OwnedFd>) -> Key {
        let entry = opcode::AcceptMulti::new(types::Fd(raw(&listener))).flags(libc::SOCK_CLOEXEC).build();
        self.parts.start(token, Operation::Accept { _listener: listener }, entry)
    }

    /// Receives into buffers of the pool, again and again, until cancelled, failed, at the end or without a buffer.
    pub fn receive_many(&mut self, token: Token, socket: Rc<OwnedFd>) -> Key {
        let entry = opcode::RecvMulti::new(types::Fd(raw(&socket)), GROUP).build();
        self.parts.start(token, Operation::ReceivePooled { _socket: socket }, entry)
    }

    /// Receives once into a buffer of the pool.
    pub fn receive_one(&mut self, token: Token, socket: Rc<OwnedFd>) -> Key {
        let entry =
            opcode::Recv::new(types::Fd(raw(&socket)), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        let entry = entry.flags(squeue::Flags::BUFFER_SELECT);
        self.parts.start(token, Operation::ReceivePooled { _socket: socket }, entry)
    }

    /// Receives once into `buffer`, from position `from` up to `until`.
    ///
    /// # Panics
    /// If that is not a piece of the buffer.
    pub fn receive(
        &mut self,
        token: Token,
        socket: Rc<OwnedFd>,
        mut buffer: AlignedBuffer,
        from: usize,
        until: usize,
    ) -> Key {
        buffer.set_length(buffer.capacity());
        let piece = &mut buffer[from..until];
        assert!(!piece.is_empty(), "a receive has room, or its result would look like the end");
        let length = u32::try_from(piece.len()).expect("a buffer's class is below 4 GiB");
        let entry = opcode::Recv::new(types::Fd(raw(&socket)), piece.as_mut_ptr(), length).build();
        self.parts.start(token, Operation::Receive { _socket: socket, buffer }, entry)
    }

    /// Sends `slices` one after the other; the result may be short.
    ///
    /// # Panics
    /// If there is none, or more than [`SEND_SLICES_MAX`].
    pub fn send(&mut self, token: Token, socket: Rc<OwnedFd>, slices: Vec<Slice>) -> Key {
        assert!(!slices.is_empty(), "a send has something to send");
        assert!(slices.len() <= SEND_SLICES_MAX, "a send's slices are bounded");
        let message = Message::new(slices);
        let flags = u32::try_from(libc::MSG_NOSIGNAL).expect("a flag is positive");
        let entry = opcode::SendMsg::new(types::Fd(raw(&socket)), message.header()).flags(flags).build();
        self.parts.start(token, Operation::Send { _socket: socket, message }, entry)
    }

    /// Writes `slices` one after the other from byte `position` of `file`; durable when it completes, if so asked.
    ///
    /// # Panics
    /// If there is none, or more than [`WRITE_SLICES_MAX`].
    pub fn write(
        &mut self,
        token: Token,
        file: Rc<OwnedFd>,
        position: u64,
        slices: Vec<Slice>,
        durable: bool,
    ) -> Key {
        assert!(!slices.is_empty(), "a write has something to write");
        assert!(slices.len() <= WRITE_SLICES_MAX, "a write's slices are bounded");
        let gather = Gather::new(slices);
        let (vectors, count) = gather.vectors();
        let count = u32::try_from(count).expect("bounded above");
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry =
            opcode::Writev::new(types::Fd(raw(&file)), vectors, count).offset(position).rw_flags(flags);
        let entry = entry.build();
        self.parts.start_on_disk(token, Operation::Write { _file: file, gather }, entry)
    }

    /// Makes durable what has been written to `file` by operations that completed before.
    pub fn flush(&mut self, token: Token, file: Rc<OwnedFd>) -> Key {
        let entry = opcode::Fsync::new(types::Fd(raw(&file))).flags(types::FsyncFlags::DATASYNC).build();
        self.parts.start_on_disk(token, Operation::Flush { _file: file }, entry)
    }

    /// Reads into the whole of `buffer` from byte `position` of `file`; the result may be short.
    pub fn read(&mut self, token: Token, file: Rc<OwnedFd>, position: u64, mut buffer: AlignedBuffer) -> Key {
        let length = buffer.len();
        let bytes = u32::try_from(length).expect("a buffer's class is below 4 GiB");
        let entry =
            opcode::Read::new(types::Fd(raw(&file)), buffer.as_mut_ptr(), bytes).offset(position).build();
        self.parts.start_on_disk(token, Operation::Read { _file: file, buffer, length }, entry)
    }

    /// Asks the kernel to end an operation early. Its final completion comes as ever, and tells what became of it.
    pub fn cancel(&mut self, key: Key) {
        self.parts.cancel(key);
    }

    /// Keeps a descriptor open until the ring's last operation has ended, even if the process dies before: the kernel gives
    /// a ring's registered files back only then.
    pub fn hold(&mut self, descriptor: &impl AsRawFd) -> io::Result<()> {
        self.parts.uring.submitter().register_files(&[descriptor.as_raw_fd()])
    }

    /// Hands the kernel what is queued and lets it finish what it has put off.
    pub fn submit(&mut self) -> io::Result<()> {
        self.parts.provided.refill();
        self.parts.submit(None)
    }

    /// The next completion that somebody waits for.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.parts.uring.completion().next()?;
            if let Some(completion) = self.parts.complete(&entry) {
                return Some(completion);
            }
        }
    }

    /// Whether the kernel has put work off whose completions come only with the next [`Ring::submit`].
    pub fn is_work_put_off(&mut self) -> bool {
        self.parts.uring.submission().taskrun()
    }

    /// Whether nothing is queued, completed or put off: only then may the shard park, because what is left behind does
    /// not signal again.
    pub fn is_quiet(&mut self) -> bool {
        let parts = &mut *self.parts;
        let submission = parts.uring.submission();
        let waiting = submission.taskrun() || submission.cq_overflow() || !submission.is_empty();
        drop(submission);
        let queued = !parts.backlog.is_empty() || !parts.disk.is_empty();
        !waiting && !queued && parts.uring.completion().is_empty()
    }

    /// Wakes the shard no later than `deadline`; one wake-up too many may come.
    ///
    /// It is the ring's timeout and not the executor's timer, which would cost every parking of the shard 50 us or more.
    pub fn wake_at(&mut self, deadline: Moment) {
        let parts = &mut *self.parts;
        if parts.alarm.is_some_and(|(at, _)| at <= deadline) {
            return;
        }
        if let Some((_, key)) = parts.alarm.take() {
            parts.cancel(key);
        }
        let nanoseconds = u32::try_from(deadline.0 % 1_000_000_000).expect("below a second");
        let time = Box::new(types::Timespec::new().sec(deadline.0 / 1_000_000_000).nsec(nanoseconds));
        let entry = opcode::Timeout::new(&raw const *time).flags(types::TimeoutFlags::ABS).build();
        parts.alarms += 1;
        let key = parts.start(Token(0), Operation::Alarm { _time: time }, entry);
        parts.alarm = Some((deadline, key));
    }

    /// Whether a wake-up is still to come.
    #[cfg(test)]
    pub(super) fn is_wake_up_due(&self) -> bool {
        self.parts.alarm.is_some()
    }

    /// Operations that have not completed finally, without wake-ups.
    pub fn in_flight(&self) -> usize {
        self.parts.operations.len() - self.parts.alarms
    }

    /// Buffers that the kernel can pick from for small receives.
    pub fn receive_buffers_available(&self) -> usize {
        self.parts.provided.available()
    }

    /// Cancels everything in flight.
    pub fn cancel_all(&mut self) {
        for key in self.parts.operations.cancellable() {
            self.parts.cancel(key);
        }
    }
}

impl Parts {
    fn start(&mut self, token: Token, operation: Operation, entry: squeue::Entry) -> Key {
        let key = self.operations.insert(token, operation);
        self.backlog.push_back(entry.user_data(key.to_user_data()));
        self.fill();
        key
    }

    /// As [`Parts::start`], but behind everything else of the next submission.
    fn start_on_disk(&mut self, token: Token, operation: Operation, entry: squeue::Entry) -> Key {
        let key = self.operations.insert(token, operation);
        self.disk.push_back(entry.user_data(key.to_user_data()));
        key
    }

    fn cancel(&mut self, target: Key) {
        self.try_cancel(target, 1);
    }

    fn try_cancel(&mut self, target: Key, attempt: u32) {
        let entry = opcode::AsyncCancel::new(target.to_user_data()).build();
        self.start(Token(0), Operation::Cancel { target, attempt }, entry);
    }

    /// What became of a cancellation.
    ///
    /// Found and ended, or found at work (`EALREADY`): the target's final completion comes. Not found (`ENOENT`): it has
    /// come, or the target was between two of the kernel's lists. Such a one is still live here and would go on for
    /// ever, so it is looked for again.
    fn cancelled(&mut self, target: Key, attempt: u32, result: &io::Result<usize>) {
        let error = result.as_ref().err().and_then(io::Error::raw_os_error);
        if !self.operations.is_live(target) {
            return;
        }
        match error {
            Some(libc::ENOENT) if attempt < CANCEL_ATTEMPTS_MAX => self.try_cancel(target, attempt + 1),
            None | Some(libc::EALREADY) => {}
            Some(error) => tracing::error!(error, attempt, "an operation cannot be cancelled"),
        }
    }

    /// Moves the backlog into the submission queue as far as there is room.
    fn fill(&mut self) {
        let mut submission = self.uring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: what the entry points at is owned by its operation, which stays in the slab until the final
            // completion: slices and aligned buffers have fixed addresses, the message header is boxed, and the
            // vectors' memory does not move with its owner.
            #[allow(unsafe_code)]
            let pushed = unsafe { submission.push(entry) };
            if pushed.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// One call per queue-full, plus one that runs deferred work; waits for a completion if `wait` is given.
    fn submit(&mut self, wait: Option<&types::Timespec>) -> io::Result<()> {
        self.backlog.append(&mut self.disk);
        loop {
            self.fill();
            let result = match wait {
                Some(time) => {
                    let arguments = types::SubmitArgs::new().timespec(time);
                    self.uring.submitter().submit_with_args(1, &arguments)
                }
                None => self.enter(),
            };
            match result {
                Ok(_) if wait.is_none() && !self.backlog.is_empty() => continue,
                Ok(_) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    // The kernel wants its completions taken, or memory, before it takes more; or the wait was long.
                    Some(libc::EBUSY | libc::EAGAIN | libc::ETIME) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }

    fn enter(&mut self) -> io::Result<usize> {
        let submission = self.uring.submission();
        let count = u32::try_from(submission.len()).expect("the queue is short");
        if count == 0 && !submission.taskrun() && !submission.cq_overflow() {
            return Ok(0);
        }
        drop(submission);
        let flags = io_uring::EnterFlags::GETEVENTS.bits();
        // SAFETY: the call passes no argument; entries are valid as `fill` says.
        #[allow(unsafe_code)]
        unsafe {
            self.uring.submitter().enter::<libc::sigset_t>(count, 0, flags, None)
        }
    }

    /// Turns a completion into what its submitter waits for. Cancellations and alarms have nobody waiting.
    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let key = Key::from_user_data(entry.user_data());
        let last = !cqueue::more(entry.flags());
        let result = match u32::try_from(entry.result()) {
            Ok(count) => Ok(count as usize),
            Err(_) => Err(io::Error::from_raw_os_error(-entry.result())),
        };
        if let (token, Operation::ReceivePooled { .. }) = self.operations.get(key) {
            let token = *token;
            let result = self.received(result, cqueue::buffer_select(entry.flags()));
            if last {
                self.operations.remove(key);
            }
            return Some(Completion::Network(token, NetworkEvent::Received { result, last }));
        }
        if let (token, Operation::Accept { .. }) = self.operations.get(key) {
            let token = *token;
            let result = result.map(|_| owned(entry.result()));
            if last {
                self.operations.remove(key);
            }
            return Some(Completion::Network(token, NetworkEvent::Accepted { result, last }));
        }
        assert!(last, "only accepts and pooled receives complete more than once");
        let (token, operation) = self.operations.remove(key);
        match operation {
            Operation::Alarm { .. } => {
                self.alarms -= 1;
                self.alarm.take_if(|(_, armed)| *armed == key);
            }
            Operation::Cancel { target, attempt } => self.cancelled(target, attempt, &result),
            _ => {}
        }
        finished(token, operation, result)
    }

    /// The bytes of a pooled receive. A buffer that was picked leaves the kernel's hands whatever the result.
    fn received(&mut self, result: io::Result<usize>, picked: Option<u16>) -> io::Result<Slice> {
        let length = *result.as_ref().unwrap_or(&0);
        let slice = picked.map(|number| self.provided.take(number, length));
        result?;
        assert!(slice.is_some() || length == 0, "received bytes lie in a buffer");
        Ok(slice.unwrap_or_else(|| Slice::from_static(&[])))
    }
}

fn finished(token: Token, operation: Operation, result: io::Result<usize>) -> Option<Completion> {
    Some(match operation {
        Operation::Receive { buffer, .. } => {
            Completion::Network(token, NetworkEvent::ReceivedInto { result, buffer })
        }
        Operation::Send { message, .. } => {
            Completion::Network(token, NetworkEvent::Sent { result, slices: message.into_slices() })
        }
        Operation::Write { gather, .. } => {
            Completion::Storage(token, StorageEvent::Written { result, slices: gather.into_slices() })
        }
        Operation::Flush { .. } => {
            Completion::Storage(token, StorageEvent::Flushed { result: result.map(|_| ()) })
        }
        Operation::Read { mut buffer, length, .. } => {
            buffer.set_length(length);
            Completion::Storage(token, StorageEvent::Read { result, buffer })
        }
        Operation::Cancel { .. } | Operation::Alarm { .. } => return None,
        Operation::Accept { .. } | Operation::ReceivePooled { .. } => {
            unreachable!("operations that complete more than once are handled before")
        }
    })
}

/// Takes charge of the descriptor that the kernel made for us.
fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel has just handed us this descriptor by a completed accept; nobody else knows of it.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(descriptor)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.parts.operations.len() > 0 {
            self.cancel_all();
        }
        let second = types::Timespec::new().sec(1);
        let mut farewells = 0;
        while self.parts.operations.len() > 0 && farewells < FAREWELLS_MAX {
            let submitted = self.parts.submit(Some(&second));
            let before = self.parts.operations.len();
            while self.next_completion().is_some() {}
            farewells += usize::from(submitted.is_err() || self.parts.operations.len() == before);
        }
        if self.parts.operations.len() > 0 {
            tracing::error!(
                operations = self.parts.operations.len(),
                "operations do not end: their memory is given up"
            );
            return;
        }
        // SAFETY: dropped here and never used again; nothing is in flight, so no memory of it is in the kernel's hands.
        #[allow(unsafe_code)]
        unsafe {
            ManuallyDrop::drop(&mut self.parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::limits::RECEIVE_POOL_BYTES_MAX;

    fn ring() -> Ring {
        let doorbell = Doorbell::new().expect("an eventfd");
        Ring::new(&doorbell, Slab::new(RECEIVE_POOL_BYTES_MAX)).expect("io_uring works here")
    }

    /// An operation that is live here while the kernel does not find it.
    fn hidden(ring: &mut Ring, socket: UnixStream) -> (Key, squeue::Entry) {
        let socket = Rc::new(OwnedFd::from(socket));
        let entry = opcode::RecvMulti::new(types::Fd(raw(&socket)), GROUP).build();
        let key = ring.parts.operations.insert(Token(7), Operation::ReceivePooled { _socket: socket });
        (key, entry.user_data(key.to_user_data()))
    }

    #[test]
    fn a_cancellation_that_misses_looks_again() {
        let mut ring = ring();
        let (_peer, socket) = UnixStream::pair().expect("sockets");
        let (key, entry) = hidden(&mut ring, socket);
        ring.cancel(key);
        ring.submit().expect("the ring works");
        assert!(ring.parts.operations.is_live(key), "the first cancellation missed");
        ring.parts.backlog.push_back(entry);
        let deadline = Instant::now() + Duration::from_secs(10);
        let completion = loop {
            if let Some(completion) = ring.next_completion() {
                break completion;
            }
            ring.submit().expect("the ring works");
            assert!(Instant::now() < deadline, "the second cancellation finds it");
        };
        let Completion::Network(Token(7), NetworkEvent::Received { result, last: true }) = completion else {
            panic!("the receive ends")
        };
        assert_eq!(result.expect_err("cancelled").raw_os_error(), Some(libc::ECANCELED));
    }

    #[test]
    fn a_cancellation_does_not_look_for_ever() {
        let mut ring = ring();
        let (_peer, socket) = UnixStream::pair().expect("sockets");
        let (key, _) = hidden(&mut ring, socket);
        ring.cancel(key);
        let mut rounds = 0;
        while ring.in_flight() > 1 {
            ring.submit().expect("the ring works");
            assert!(ring.next_completion().is_none(), "a cancellation has nobody waiting");
            rounds += 1;
            assert!(rounds <= 2 * CANCEL_ATTEMPTS_MAX, "the attempts are bounded");
        }
        ring.parts.operations.remove(key);
    }
}
