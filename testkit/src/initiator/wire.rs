//! What carries the bytes of a scripted initiator.

use bytes::{Bytes, BytesMut};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Carries bytes both ways: a socket, or a target in the same thread.
pub trait Wire {
    /// Sends bytes, all of them.
    ///
    /// # Errors
    /// When the connection is gone.
    fn send(&mut self, bytes: Bytes) -> io::Result<()>;

    /// The next bytes, `None` when the other side has closed.
    ///
    /// # Errors
    /// When the connection broke, or nothing comes in due time ([`io::ErrorKind::TimedOut`]).
    fn receive(&mut self) -> io::Result<Option<Bytes>>;
}

/// A TCP connection that waits, but not for ever.
#[derive(Debug)]
pub struct TcpWire {
    stream: TcpStream,
    buffer: BytesMut,
}

impl TcpWire {
    /// How long a connection waits unless told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// Connects.
    ///
    /// # Errors
    /// Of the system.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, Self::PATIENCE)?;
        stream.set_nodelay(true)?;
        let wire = Self { stream, buffer: BytesMut::new() };
        wire.set_patience(Self::PATIENCE)?;
        Ok(wire)
    }

    /// Sets how long to wait for the other side to send or to take.
    ///
    /// # Errors
    /// Of the system.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// Of the system.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Wire for TcpWire {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.stream.write_all(&bytes)
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        self.buffer.resize(64 * 1024, 0);
        let length = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                result => break result?,
            }
        };
        Ok((length > 0).then(|| self.buffer.split_to(length).freeze()))
    }
}

impl<W: Wire + ?Sized> Wire for Box<W> {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        (**self).send(bytes)
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        (**self).receive()
    }
}
