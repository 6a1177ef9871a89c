//! Listening sockets, bound before the shards start, so that a taken port is an error of the start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use crate::limits::{LISTEN_BACKLOG, LISTENERS_MAX};

/// A listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error("cannot listen on {0}: the port is in use; stop its owner or choose another port")]
    InUse(SocketAddr),
    /// The address is not one of this machine's.
    #[error("cannot listen on {0}: this machine has no such address")]
    NoSuchAddress(SocketAddr),
    /// The port is below 1024 and we may not use such.
    #[error(
        "cannot listen on {0}: permission denied; choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE"
    )]
    Denied(SocketAddr),
    /// There are too many listeners.
    #[error("{0} listeners are configured; there may be {LISTENERS_MAX}")]
    TooMany(usize),
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Bound listening sockets.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<OwnedFd>,
    addresses: Vec<SocketAddr>,
}

impl Listeners {
    /// Binds all of `addresses`, in order; port 0 lets the kernel choose.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Listeners, BindError> {
        if addresses.len() > LISTENERS_MAX {
            return Err(BindError::TooMany(addresses.len()));
        }
        let mut listeners = Listeners { sockets: Vec::new(), addresses: Vec::new() };
        for &address in addresses {
            let (socket, bound) = bind(address).map_err(|source| explain(address, source))?;
            listeners.sockets.push(socket);
            listeners.addresses.push(bound);
        }
        Ok(listeners)
    }

    /// Where they listen, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The sockets, in the same order.
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        self.sockets
    }
}

fn bind(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    // Listening again only sets the backlog.
    rustix::net::listen(&listener, LISTEN_BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener.into(), bound))
}

fn explain(address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress(address),
        io::ErrorKind::PermissionDenied => BindError::Denied(address),
        _ => BindError::Other { address, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let first = Listeners::bind(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        let error = Listeners::bind(first.addresses()).expect_err("taken");
        assert!(matches!(error, BindError::InUse(address) if address == first.addresses()[0]));
        assert!(error.to_string().contains(&first.addresses()[0].to_string()));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = Listeners::bind(&["192.0.2.1:0".parse().expect("an address")]).expect_err("not ours");
        assert!(error.to_string().contains("no such address"), "{error}");
    }
}
