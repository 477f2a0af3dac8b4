//! Connections, bounded in number and in silence: one that is opened and not used costs a place for a
//! while, and no more.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at once; whoever comes then waits. More than follow runs, each with some to spare.
pub(crate) const CONNECTIONS_MAX: usize = 512;
/// A connection that carries nothing for so long is closed. An upload is answered after it was compiled,
/// which may take a minute, and others may be before it.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(300);

/// A listener that keeps to the bounds.
pub(crate) struct Connections {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence_max: Duration,
}

impl Connections {
    /// At most so many connections at once, each silent for at most so long.
    pub(crate) fn new(listener: TcpListener, most: usize, silence_max: Duration) -> Connections {
        Connections { listener, places: Arc::new(Semaphore::new(most)), silence_max }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the places are never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let silence = Box::pin(tokio::time::sleep(self.silence_max));
        (Connection { stream, silence, silence_max: self.silence_max, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection and its place.
pub(crate) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    silence_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// What came of reading or writing; an error where nothing has for too long.
    fn heard<T>(
        &mut self,
        context: &mut Context<'_>,
        came: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if came.is_ready() {
            let until = Instant::now() + self.silence_max;
            self.silence.as_mut().reset(until);
            return came;
        }
        self.silence.as_mut().poll(context).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let came = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.heard(context, came)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let came = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heard(context, came)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Longer than any machine needs.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_connection_that_says_nothing_gives_its_place_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connections = Connections::new(listener, 1, Duration::from_millis(50));
        let address = connections.local_addr().unwrap();
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut first, _) = connections.accept().await;
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"hello").await.unwrap();
        // There is no place for it while the first has one.
        let early = tokio::time::timeout(Duration::from_millis(20), connections.accept()).await;
        assert!(early.is_err());
        let ended = tokio::time::timeout(PATIENCE, first.read_u8()).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(first);
        let (mut second, _) = tokio::time::timeout(PATIENCE, connections.accept()).await.unwrap();
        let mut said = [0; 5];
        tokio::time::timeout(PATIENCE, second.read_exact(&mut said)).await.unwrap().unwrap();
        assert_eq!(&said, b"hello");
    }
}
