//! One connection over loopback with one request in flight: the client that measures, and the threads around both ends.
//!
//! Both sockets exist before either thread starts, so neither end can wait for the other in vain: an end that fails
//! closes its socket, which ends the other.

use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::error::Error;
use super::host::{Placement, pin};
use super::mode::{Calls, Mode, Wait};
use super::{blocking, ring};

/// Bytes of a request, as a small record with its header has.
pub(super) const REQUEST_BYTES: usize = 1024;
/// Bytes of an answer.
pub(super) const ANSWER_BYTES: usize = 64;
/// Bytes made durable before an answer.
pub(super) const BLOCK_BYTES: usize = 4096;
/// How long a server spins that spins briefly.
pub(super) const BRIEF: Duration = Duration::from_micros(50);

/// A single exchange that takes longer than this is a failure, not a measurement.
const STALLED: Duration = Duration::from_secs(30);
/// Requests before the first one counted, at the least.
const WARM_UP_REQUESTS: u32 = 16;

/// Measures one row for `time`.
pub(super) fn measure(
    mode: Mode,
    placement: Placement,
    file: &File,
    time: Duration,
) -> Result<Histogram<u64>, Error> {
    let (client, server) = connect().map_err(Error::Network)?;
    let serve = move || {
        pin(placement.server_cpu)?;
        match mode.calls {
            Calls::Blocking => blocking::serve(&server, file, mode),
            Calls::Ring => ring::serve(&server, file, mode),
        }
    };
    let ask = move || {
        pin(placement.client_cpu)?;
        exchange_for(&client, mode.wait.client(), time).map_err(Error::Network)
    };
    thread::scope(|scope| {
        let serving = scope.spawn(serve);
        let asking = scope.spawn(ask);
        let asked = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let served = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // When the server failed, the client only saw its socket close.
        served.and(asked)
    })
}

fn connect() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALLED))?;
        stream.set_write_timeout(Some(STALLED))?;
    }
    Ok((client, server))
}

/// An empty histogram of nanoseconds, up to a minute, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are legal")
}

/// Nanoseconds, for a histogram.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The client: a tenth of the time to warm up, then the time itself.
fn exchange_for(mut stream: &TcpStream, wait: Wait, time: Duration) -> io::Result<Histogram<u64>> {
    let request = [7u8; REQUEST_BYTES];
    let mut answer = [0u8; ANSWER_BYTES];
    let mut latencies = histogram();
    let warm_up_end = Instant::now() + time / 10;
    let mut warm_up = WARM_UP_REQUESTS;
    let mut end = None;
    loop {
        let sent = Instant::now();
        stream.write_all(&request)?;
        if !receive_exact(stream, &mut answer, wait)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let received = Instant::now();
        match end {
            Some(end) => {
                latencies.saturating_record(nanoseconds(received - sent));
                if received >= end {
                    return Ok(latencies);
                }
            }
            None => {
                warm_up = warm_up.saturating_sub(1);
                if warm_up == 0 && received >= warm_up_end {
                    end = Some(received + time);
                }
            }
        }
    }
}

/// Fills `buffer`, waiting as told; false when the peer closed before its first byte.
pub(super) fn receive_exact(stream: &TcpStream, buffer: &mut [u8], wait: Wait) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match receive_some(stream, &mut buffer[filled..], wait)? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(true)
}

fn receive_some(stream: &TcpStream, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
    let spin = match wait {
        Wait::Parked => Duration::ZERO,
        Wait::Brief => BRIEF,
        Wait::Spinning => STALLED,
    };
    if let Some(count) = receive_spinning(stream, buffer, spin)? {
        return Ok(count);
    }
    if wait == Wait::Spinning {
        return Err(io::ErrorKind::TimedOut.into());
    }
    loop {
        match recv(stream, &mut *buffer, RecvFlags::empty()) {
            Ok((_, count)) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// None when nothing came while spinning.
fn receive_spinning(stream: &TcpStream, buffer: &mut [u8], spin: Duration) -> io::Result<Option<usize>> {
    if spin.is_zero() {
        return Ok(None);
    }
    let since = Instant::now();
    while since.elapsed() < spin {
        match recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, count)) => return Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::super::mode::Flush;
    use super::*;

    /// Both ends on the same CPU, so that the tests run anywhere.
    fn measured(calls: Calls, flush: Flush, wait: Wait, file: &File) -> Result<Histogram<u64>, Error> {
        let set = rustix::thread::sched_getaffinity(None).unwrap();
        let cpu = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| set.is_set(*cpu)).unwrap();
        let placement = Placement { server_cpu: cpu, client_cpu: cpu };
        measure(Mode { wait, flush, calls }, placement, file, Duration::from_millis(5))
    }

    fn file_that_refuses_writes() -> File {
        OpenOptions::new().write(true).open("/dev/full").unwrap()
    }

    #[test]
    fn a_failed_write_ends_both_ends_and_is_the_error_reported() {
        for calls in [Calls::Blocking, Calls::Ring] {
            for flush in [Flush::Dsync, Flush::Fdatasync] {
                match measured(calls, flush, Wait::Parked, &file_that_refuses_writes()) {
                    Err(Error::Storage(_)) => {}
                    Err(Error::RingUnavailable(_)) => assert_eq!(calls, Calls::Ring),
                    other => panic!("{calls} {flush}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn an_echo_writes_nothing() {
        for wait in [Wait::Parked, Wait::Brief] {
            let latencies =
                measured(Calls::Blocking, Flush::None, wait, &file_that_refuses_writes()).unwrap();
            assert!(!latencies.is_empty() && latencies.min() > 0);
        }
    }

    #[test]
    fn a_peer_that_closes_is_told_from_one_that_stops_in_the_middle() {
        for wait in [Wait::Parked, Wait::Brief, Wait::Spinning] {
            let (client, server) = connect().unwrap();
            (&client).write_all(&[1; 8]).unwrap();
            drop(client);
            assert!(receive_exact(&server, &mut [0; 8], wait).unwrap());
            assert!(!receive_exact(&server, &mut [0; 8], wait).unwrap());
            let (client, server) = connect().unwrap();
            (&client).write_all(&[1; 5]).unwrap();
            drop(client);
            let error = receive_exact(&server, &mut [0; 8], wait).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
