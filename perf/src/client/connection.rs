//! A TCP connection that carries frames: each four bytes of length, big-endian, then that many bytes.
//!
//! Requests may be sent ahead of their answers, as many as the caller likes; a broker answers one connection in the order
//! of its requests, and [`Connection::receive`] checks that by the correlation id. The two halves can be parted, so that
//! one thread sends on schedule while another one receives.
//!
//! Invariants: an answer's announced length is bounded before it is believed, and memory grows with the bytes that came,
//! not with the length announced. A time limit that passes while receiving loses nothing: the bytes stay in the buffer, and
//! receiving can be tried again. After any error while *sending*, a part of the frame may be out: drop the connection.

use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::messages::{Request, decode_response, encode_request};
use super::wire::DecodeError;

/// The largest answer that is accepted, in bytes: more than any fetch of the tests asks for.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// Bytes of receive buffer that are ready before a read.
const READ_BYTES: usize = 64 << 10;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The peer closed; `buffered` bytes of an unfinished frame had come.
    #[error("the peer closed the connection, {buffered} bytes into a frame")]
    Closed {
        /// Bytes of the unfinished frame.
        buffered: usize,
    },
    /// Nothing complete came in time; receiving can be tried again.
    #[error("no whole frame within {0:?}")]
    TimedOut(Duration),
    /// An answer's length is negative, too small for a correlation id, or above [`FRAME_BYTES_MAX`].
    #[error("the peer announced a frame of {0} bytes")]
    FrameLength(i32),
    /// The answer belongs to another request.
    #[error("the answer has correlation id {received}, the request awaited has {expected}")]
    Correlation {
        /// The correlation id of the request awaited.
        expected: i32,
        /// The correlation id of the frame that came.
        received: i32,
    },
    /// The answer breaks the protocol.
    #[error("the answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
}

/// A request that was sent: what is needed to read its answer.
#[derive(Debug)]
#[must_use = "the answer is read with the ticket, unless none will come"]
pub struct Ticket<R> {
    correlation: i32,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl<R> Ticket<R> {
    /// The request's correlation id.
    pub fn correlation(&self) -> i32 {
        self.correlation
    }
}

/// Both halves of a connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    /// Connects. `timeout` limits connecting, each send, and each receive.
    pub fn connect(address: impl ToSocketAddrs, timeout: Duration) -> Result<Self, Error> {
        let mut failure = std::io::Error::new(ErrorKind::InvalidInput, "the name has no address");
        for address in address.to_socket_addrs().map_err(Error::Connect)? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Self::over(stream, timeout),
                Err(error) => failure = error,
            }
        }
        Err(Error::Connect(failure))
    }

    /// Takes a connected stream.
    pub fn over(stream: TcpStream, timeout: Duration) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(timeout))?;
        let receiver = Receiver {
            stream: stream.try_clone()?,
            buffer: Vec::new(),
            consumed: 0,
            filled: 0,
            timeout,
            spins: false,
        };
        Ok(Self { sender: Sender { stream, client_id: None, next_correlation: 0 }, receiver })
    }

    /// The client id that requests carry from now on.
    pub fn set_client_id(&mut self, client_id: Option<&str>) {
        self.sender.client_id = client_id.map(str::to_owned);
    }

    /// The time limit of receives from now on.
    pub fn set_receive_timeout(&mut self, timeout: Duration) {
        self.receiver.timeout = timeout;
    }

    /// Receives from now on by asking again and again instead of sleeping in the kernel.
    pub fn set_spinning(&mut self, spins: bool) {
        self.receiver.spins = spins;
    }

    /// Sends a request and waits for its answer. No other request may be unanswered.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Error> {
        let ticket = self.send(request, version)?;
        self.receive(&ticket)
    }

    /// Sends a request without waiting.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<Ticket<R>, Error> {
        self.sender.send(request, version)
    }

    /// Sends bytes as they are, for hostile tests and for frames encoded beforehand.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sender.send_bytes(bytes)
    }

    /// Ends the sending direction; answers can still be received.
    pub fn finish_sending(&mut self) -> Result<(), Error> {
        self.sender.finish()
    }

    /// Waits for the answer of the oldest unanswered request, which must be `ticket`'s.
    pub fn receive<R: Request>(&mut self, ticket: &Ticket<R>) -> Result<R::Response, Error> {
        self.receiver.receive(ticket)
    }

    /// Waits for a frame, and gives what follows its length.
    pub fn receive_frame(&mut self) -> Result<&[u8], Error> {
        self.receiver.receive_frame()
    }

    /// Waits until the peer closes. A frame that comes instead, or a part of one, is an error.
    pub fn await_close(&mut self) -> Result<(), Error> {
        match self.receiver.receive_frame() {
            Err(Error::Closed { buffered: 0 }) => Ok(()),
            Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
            Ok(frame) => {
                let length = i32::try_from(frame.len()).expect("frames are bounded by FRAME_BYTES_MAX");
                Err(Error::FrameLength(length))
            }
        }
    }

    /// Parts the halves.
    pub fn into_split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

/// The half that sends.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    client_id: Option<String>,
    next_correlation: i32,
}

impl Sender {
    /// Sends a request without waiting.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<Ticket<R>, Error> {
        let correlation = self.next_correlation;
        let frame = encode_request(request, version, correlation, self.client_id.as_deref());
        self.next_correlation = self.next_correlation.wrapping_add(1);
        self.send_bytes(&frame)?;
        Ok(Ticket { correlation, version, request: PhantomData })
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Ends the sending direction; answers can still be received.
    pub fn finish(&mut self) -> Result<(), Error> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }
}

/// The half that receives. `buffer[consumed..filled]` holds bytes of frames not given out yet.
#[derive(Debug)]
pub struct Receiver {
    stream: TcpStream,
    buffer: Vec<u8>,
    consumed: usize,
    filled: usize,
    timeout: Duration,
    spins: bool,
}

impl Receiver {
    /// Waits for the answer of the oldest unanswered request, which must be `ticket`'s.
    pub fn receive<R: Request>(&mut self, ticket: &Ticket<R>) -> Result<R::Response, Error> {
        let frame = self.receive_frame()?;
        let Some((correlation, body)) = frame.split_first_chunk::<4>() else {
            return Err(Error::FrameLength(i32::try_from(frame.len()).expect("less than four bytes")));
        };
        let received = i32::from_be_bytes(*correlation);
        if received != ticket.correlation {
            return Err(Error::Correlation { expected: ticket.correlation, received });
        }
        Ok(decode_response::<R>(ticket.version, body)?)
    }

    /// Waits for a frame, and gives what follows its length.
    pub fn receive_frame(&mut self) -> Result<&[u8], Error> {
        let deadline = Instant::now() + self.timeout;
        let end = loop {
            match self.frame_end()? {
                Some(end) if end <= self.filled => break end,
                end => self.read_more(end.unwrap_or(0), deadline)?,
            }
        };
        let start = self.consumed + 4;
        self.consumed = end;
        Ok(&self.buffer[start..end])
    }

    /// Where in the buffer the next frame ends, once its length has come.
    fn frame_end(&self) -> Result<Option<usize>, Error> {
        let Some(prefix) = self.buffer[self.consumed..self.filled].first_chunk::<4>() else {
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*prefix);
        match usize::try_from(announced) {
            Ok(length) if length <= FRAME_BYTES_MAX => Ok(Some(self.consumed + 4 + length)),
            _ => Err(Error::FrameLength(announced)),
        }
    }

    /// Reads what has come, into a buffer that at most doubles.
    fn read_more(&mut self, frame_end: usize, deadline: Instant) -> Result<(), Error> {
        let wanted = frame_end.saturating_sub(self.filled);
        self.make_room(wanted);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut(self.timeout));
        }
        let received = if self.spins {
            receive_spinning(&self.stream, &mut self.buffer[self.filled..], deadline)
        } else {
            self.stream.set_read_timeout(Some(left))?;
            self.stream.read(&mut self.buffer[self.filled..])
        };
        match received {
            Ok(0) => Err(Error::Closed { buffered: self.filled - self.consumed }),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Error::TimedOut(self.timeout)),
                ErrorKind::Interrupted => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    fn make_room(&mut self, wanted: usize) {
        if self.consumed == self.filled {
            (self.consumed, self.filled) = (0, 0);
        }
        if self.consumed > 0 && self.buffer.len() - self.filled < wanted.max(READ_BYTES) {
            self.buffer.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
        if self.buffer.len() - self.filled < wanted.clamp(1, READ_BYTES) {
            let grown = (self.buffer.len() * 2).clamp(READ_BYTES, FRAME_BYTES_MAX + READ_BYTES);
            self.buffer.resize(grown, 0);
        }
    }
}

/// What has come as soon as something has; [`ErrorKind::TimedOut`] when nothing had by the deadline.
fn receive_spinning(stream: &TcpStream, buffer: &mut [u8], deadline: Instant) -> std::io::Result<usize> {
    loop {
        match recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, count)) => return Ok(count),
            Err(Errno::AGAIN) if Instant::now() < deadline => std::hint::spin_loop(),
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::client::messages::init_producer_id::InitProducerIdRequest;

    const LONG: Duration = Duration::from_secs(30);

    /// A connection, and the peer's end of it.
    fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Connection::connect(listener.local_addr().unwrap(), LONG).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (connection, peer)
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&i32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    /// The answer to InitProducerId 0: this correlation id, and this producer id.
    fn answer(correlation: i32, producer_id: i64) -> Vec<u8> {
        let mut body = correlation.to_be_bytes().to_vec();
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&producer_id.to_be_bytes());
        body.extend_from_slice(&[0; 2]);
        frame(&body)
    }

    #[test]
    fn requests_sent_ahead_are_answered_in_order() {
        let (mut connection, mut peer) = pair();
        let request = InitProducerIdRequest::default();
        let tickets: Vec<_> = (0..100).map(|_| connection.send(&request, 0).unwrap()).collect();
        let answers: Vec<u8> = (0..100).flat_map(|n| answer(n, i64::from(n) * 3)).collect();
        // In pieces of seven bytes, so that no frame comes whole.
        let writing = thread::spawn(move || {
            peer.set_nodelay(true).unwrap();
            answers.chunks(7).try_for_each(|piece| peer.write_all(piece)).unwrap();
            peer
        });
        for (ticket, n) in tickets.iter().zip(0i64..) {
            assert_eq!(connection.receive(ticket).unwrap().producer_id, n * 3);
        }
        drop(writing.join().unwrap());
        connection.await_close().unwrap();
    }

    #[test]
    fn an_answer_out_of_order_is_an_error() {
        let (mut connection, mut peer) = pair();
        let ticket = connection.send(&InitProducerIdRequest::default(), 0).unwrap();
        peer.write_all(&answer(7, 0)).unwrap();
        let error = connection.receive(&ticket).unwrap_err();
        assert!(matches!(error, Error::Correlation { expected: 0, received: 7 }), "{error}");
    }

    #[test]
    fn after_a_time_limit_receiving_goes_on_where_it_stopped() {
        let (mut connection, mut peer) = pair();
        connection.set_receive_timeout(Duration::from_millis(20));
        let ticket = connection.send(&InitProducerIdRequest::default(), 0).unwrap();
        let bytes = answer(0, 42);
        peer.write_all(&bytes[..9]).unwrap();
        assert!(matches!(connection.receive(&ticket), Err(Error::TimedOut(_))));
        peer.write_all(&bytes[9..]).unwrap();
        connection.set_receive_timeout(LONG);
        assert_eq!(connection.receive(&ticket).unwrap().producer_id, 42);
    }

    #[test]
    fn a_receive_that_spins_gets_the_frame_and_keeps_to_its_time() {
        let (mut connection, mut peer) = pair();
        connection.set_spinning(true);
        peer.write_all(&frame(b"first")).unwrap();
        assert_eq!(connection.receive_frame().unwrap(), b"first");
        connection.set_receive_timeout(Duration::from_millis(20));
        assert!(matches!(connection.receive_frame(), Err(Error::TimedOut(_))));
    }

    #[test]
    fn a_frame_larger_than_the_buffer_comes_whole() {
        let (mut connection, mut peer) = pair();
        let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let sent = [frame(b"first"), frame(&body), frame(b"last")].concat();
        let writing = thread::spawn(move || peer.write_all(&sent).unwrap());
        assert_eq!(connection.receive_frame().unwrap(), b"first");
        assert!(connection.receive_frame().unwrap() == body);
        assert_eq!(connection.receive_frame().unwrap(), b"last");
        writing.join().unwrap();
    }

    #[test]
    fn absurd_lengths_are_refused_before_anything_is_allocated() {
        for length in [-1, i32::MIN, i32::MAX] {
            let (mut connection, mut peer) = pair();
            peer.write_all(&length.to_be_bytes()).unwrap();
            let error = connection.receive_frame().unwrap_err();
            assert!(matches!(error, Error::FrameLength(n) if n == length), "{error}");
            assert!(connection.receiver.buffer.len() <= READ_BYTES);
        }
    }

    #[test]
    fn a_half_closed_connection_still_receives() {
        let (mut connection, mut peer) = pair();
        let ticket = connection.send(&InitProducerIdRequest::default(), 0).unwrap();
        connection.finish_sending().unwrap();
        let mut request = Vec::new();
        peer.read_to_end(&mut request).unwrap();
        assert_eq!(
            request.len() - 4,
            usize::try_from(i32::from_be_bytes(request[..4].try_into().unwrap())).unwrap()
        );
        peer.write_all(&answer(0, 5)).unwrap();
        assert_eq!(connection.receive(&ticket).unwrap().producer_id, 5);
    }

    #[test]
    fn a_peer_that_closes_inside_a_frame_is_told_from_one_that_closes_after_it() {
        let (mut connection, mut peer) = pair();
        peer.write_all(&[0, 0, 0, 9, 1]).unwrap();
        drop(peer);
        let error = connection.await_close().unwrap_err();
        assert!(matches!(error, Error::Closed { buffered: 5 }), "{error}");
    }
}
