//! The server on an io_uring of its own: receive, write, flush and send as operations, one in flight.
//!
//! The ring has a single issuer and defers task work until the server enters the kernel; the TASKRUN flag tells a spinning
//! server when that is worth while.
//!
//! Invariant: memory that an operation names is neither touched, moved nor freed before its completion. A server that is
//! dropped with an operation in flight leaks that memory.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Instant;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::ReadWriteFlags;

use super::error::Error;
use super::exchange::{ANSWER_BYTES, BLOCK_BYTES, BRIEF, REQUEST_BYTES};
use super::file::{AlignedBlock, Cycle, expect_whole};
use super::mode::{Flush, Mode, Wait};

/// Entries of the ring; one is used.
const ENTRIES: u32 = 8;

/// Receives, makes a block durable, answers; until the client closes.
pub(super) fn serve(stream: &TcpStream, file: &File, mode: Mode) -> Result<(), Error> {
    let mut server = Server::new(stream, file, mode)?;
    while server.receive_request()? {
        server.make_durable()?;
        server.send_answer()?;
    }
    Ok(())
}

/// Memory that operations name.
#[derive(Default)]
struct Buffers {
    request: Vec<u8>,
    answer: Vec<u8>,
    block: AlignedBlock,
}

struct Server<'a> {
    ring: IoUring,
    buffers: Buffers,
    in_flight: bool,
    stream: &'a TcpStream,
    file: &'a File,
    cycle: Cycle,
    mode: Mode,
}

impl<'a> Server<'a> {
    /// Makes the ring on the calling thread, which is then its only issuer.
    fn new(stream: &'a TcpStream, file: &'a File, mode: Mode) -> Result<Self, Error> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let buffers = Buffers {
            request: vec![0; REQUEST_BYTES],
            answer: vec![1; ANSWER_BYTES],
            block: AlignedBlock::new(BLOCK_BYTES),
        };
        Ok(Self {
            ring: builder.build(ENTRIES).map_err(Error::RingUnavailable)?,
            buffers,
            in_flight: false,
            stream,
            file,
            cycle: Cycle::new(BLOCK_BYTES),
            mode,
        })
    }

    /// False when the client closed.
    fn receive_request(&mut self) -> Result<bool, Error> {
        let fd = types::Fd(self.stream.as_raw_fd());
        let mut filled = 0;
        while filled < REQUEST_BYTES {
            let rest = &mut self.buffers.request[filled..];
            let entry = opcode::Recv::new(fd, rest.as_mut_ptr(), length_of(rest)).build();
            match self.complete(&entry)?.map_err(Error::Network)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(Error::Network(io::ErrorKind::UnexpectedEof.into())),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn send_answer(&mut self) -> Result<(), Error> {
        let fd = types::Fd(self.stream.as_raw_fd());
        let mut sent = 0;
        while sent < ANSWER_BYTES {
            let rest = &self.buffers.answer[sent..];
            let entry = opcode::Send::new(fd, rest.as_ptr(), length_of(rest)).build();
            sent += self.complete(&entry)?.map_err(Error::Network)?;
        }
        Ok(())
    }

    fn make_durable(&mut self) -> Result<(), Error> {
        let fd = types::Fd(self.file.as_raw_fd());
        match self.mode.flush {
            Flush::None => Ok(()),
            Flush::Dsync => self.write(fd, ReadWriteFlags::DSYNC),
            Flush::Fdatasync => {
                self.write(fd, ReadWriteFlags::empty())?;
                let entry = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
                self.complete(&entry)?.map_err(Error::Storage)?;
                Ok(())
            }
        }
    }

    fn write(&mut self, fd: types::Fd, flags: ReadWriteFlags) -> Result<(), Error> {
        let bytes = self.buffers.block.bytes();
        let entry = opcode::Write::new(fd, bytes.as_ptr(), length_of(bytes))
            .offset(self.cycle.next())
            .rw_flags(flags.bits().cast_signed())
            .build();
        let written = self.complete(&entry)?.map_err(Error::Storage)?;
        expect_whole(written, BLOCK_BYTES).map_err(Error::Storage)
    }

    /// Carries out one operation, and waits for it as the mode says. The outer error is the ring's, the inner one the
    /// operation's.
    fn complete(&mut self, entry: &squeue::Entry) -> Result<io::Result<usize>, Error> {
        assert!(!self.in_flight, "one operation at a time");
        // SAFETY: every entry names memory of `self.buffers` (or none), in its bounds, and file descriptors that `self`
        // borrows. Those vectors are not touched until the completion has been seen below, and `drop` leaks them when it
        // has not.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the queue has room: one operation at a time");
        self.in_flight = true;
        let result = self.await_completion().map_err(Error::Ring)?;
        self.in_flight = false;
        Ok(usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)))
    }

    fn await_completion(&mut self) -> io::Result<i32> {
        self.enter(self.mode.wait == Wait::Parked)?;
        let since = Instant::now();
        loop {
            if let Some(completion) = self.ring.completion().next() {
                return Ok(completion.result());
            }
            let park = match self.mode.wait {
                Wait::Parked => true,
                Wait::Brief => since.elapsed() >= BRIEF,
                Wait::Spinning => false,
            };
            let submission = self.ring.submission();
            // An interrupted call may have left the entry in the queue.
            let work = submission.taskrun() || !submission.is_empty();
            drop(submission);
            if park || work {
                self.enter(park)?;
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Submits what is queued, runs deferred task work if there is any, and sleeps for a completion if told to.
    fn enter(&mut self, park: bool) -> io::Result<()> {
        match self.ring.submit_and_wait(usize::from(park)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            entered => entered.map(|_| ()),
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.in_flight {
            std::mem::forget(std::mem::take(&mut self.buffers));
        }
    }
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("the buffers are a few KiB")
}
