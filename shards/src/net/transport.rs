//! What lies between a socket and the frames of a connection. Today nothing does; TLS will be another variant, which
//! opens received bytes before they reach the input and seals outgoing slices before they are sent.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::Shutdown;

/// How a connection's bytes travel.
pub(super) enum Transport {
    /// As they are.
    Plain(Rc<OwnedFd>),
}

impl Transport {
    /// The socket, for the ring.
    pub(super) fn socket(&self) -> Rc<OwnedFd> {
        match self {
            Transport::Plain(socket) => Rc::clone(socket),
        }
    }

    /// Ends both directions. Operations under way complete; the peer may be gone already, which is as good.
    pub(super) fn shut_down(&self) {
        match self {
            Transport::Plain(socket) => {
                let _ended = rustix::net::shutdown(socket, Shutdown::Both);
            }
        }
    }
}
