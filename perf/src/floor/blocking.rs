//! The server that makes one system call after the other.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;

use super::error::Error;
use super::exchange::{ANSWER_BYTES, BLOCK_BYTES, REQUEST_BYTES, receive_exact};
use super::file::BlockWriter;
use super::mode::Mode;

/// Receives, makes a block durable, answers; until the client closes.
pub(super) fn serve(mut stream: &TcpStream, file: &File, mode: Mode) -> Result<(), Error> {
    let mut writer = BlockWriter::new(file, BLOCK_BYTES, mode.flush);
    let mut request = [0; REQUEST_BYTES];
    while receive_exact(stream, &mut request, mode.wait).map_err(Error::Network)? {
        writer.write()?;
        stream.write_all(&[1; ANSWER_BYTES]).map_err(Error::Network)?;
    }
    Ok(())
}
