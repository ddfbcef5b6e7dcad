//! Acknowledgements that leave together, and a goodbye that waits for its answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rumqttc::{MqttOptions, NetworkOptions, default_socket_connect};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is kept at most; more leaves at once.
const MAX_KEPT: usize = 16 << 10;

/// How long a broker may take to end a connection that it was told is over.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps back what a connection writes until it comes to read.
///
/// The client writes acknowledgements one by one, each with a system call and a packet of its own, which costs more than all the
/// rest that is done about a message. It reads when it has no more of them to write.
#[derive(Debug)]
pub(super) struct Cork<S = TcpStream>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    is_in: AtomicBool,
    says_goodbye: AtomicBool,
    /// The socket of a connection that has said goodbye.
    left: Mutex<Option<S>>,
}

impl<S> Default for Cork<S> {
    fn default() -> Self {
        let (is_in, says_goodbye) = (AtomicBool::default(), AtomicBool::default());
        Cork(Arc::new(Shared { is_in, says_goodbye, left: Mutex::new(None) }))
    }
}

impl<S> Clone for Cork<S> {
    fn clone(&self) -> Self {
        Cork(self.0.clone())
    }
}

impl<S> Cork<S> {
    /// From now on: acknowledgements, until the next read. Not behind a goodbye.
    pub(super) fn put_in(&self) {
        self.0.is_in.store(!self.0.says_goodbye.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// From now on: something behind which nothing may be read.
    pub(super) fn pull_out(&self) {
        self.0.is_in.store(false, Ordering::Relaxed);
    }

    /// What comes now is the last.
    pub(super) fn say_goodbye(&self) {
        self.pull_out();
        self.0.says_goodbye.store(true, Ordering::Relaxed);
    }

    fn is_in(&self) -> bool {
        self.0.is_in.load(Ordering::Relaxed)
    }

    fn left(&self) -> Option<S> {
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S: AsyncRead + Unpin> Cork<S> {
    /// Waits until the broker has ended a connection that has said goodbye, once the client has let it go. By then it has read
    /// all acknowledgements; who connects earlier in the same session may take it over from before them.
    pub(super) async fn hung_up(&self) {
        let Some(mut socket) = self.left() else { return };
        let mut bytes = [0; 1024];
        let end = async { while socket.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
        if tokio::time::timeout(PATIENCE, end).await.is_err() {
            tracing::debug!("the broker does not end a connection that it was told is over");
        }
    }
}

impl Cork {
    /// Lets the connections made with `options` obey this cork. Below TLS, where there is any.
    pub(super) fn fit(&self, options: &mut MqttOptions, connect_timeout: Duration) {
        let cork = self.clone();
        options.set_socket_connector(move |host, network| {
            let cork = cork.clone();
            async move { Ok(Corked::new(connect(host, network, connect_timeout).await?, cork)) }
        });
    }
}

/// Connects to the first address of `host` that answers within its share of the time.
async fn connect(host: String, network: NetworkOptions, timeout: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&host).await?.collect();
    let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut error = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in addresses {
        let socket = tokio::time::timeout(share, default_socket_connect(address.to_string(), network.clone()));
        match socket.await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(refused)) => error = refused,
            Err(_) => error = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(error)
}

/// A socket with a cork.
struct Corked<S> {
    /// Gone only when this is.
    socket: Option<S>,
    cork: Cork<S>,
    kept: Vec<u8>,
    /// Bytes of `kept` that have left.
    n_sent: usize,
}

impl<S> Corked<S> {
    fn new(socket: S, cork: Cork<S>) -> Self {
        Corked { socket: Some(socket), cork, kept: Vec::new(), n_sent: 0 }
    }
}

impl<S> Drop for Corked<S> {
    fn drop(&mut self) {
        if self.cork.0.says_goodbye.load(Ordering::Relaxed) {
            *self.cork.0.left.lock().unwrap_or_else(PoisonError::into_inner) = self.socket.take();
        }
    }
}

impl<S: Unpin> Corked<S> {
    fn socket(&mut self) -> io::Result<Pin<&mut S>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket: Some(socket), kept, n_sent, .. } = self else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while *n_sent < kept.len() {
            match ready!(Pin::new(&mut *socket).poll_write(cx, &kept[*n_sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => *n_sent += n,
            }
        }
        kept.clear();
        *n_sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cork.pull_out();
        // A peer that takes nothing may still have something to say.
        if let Poll::Ready(Err(error)) = self.poll_empty(cx) {
            return Poll::Ready(Err(error));
        }
        self.socket()?.poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cork.is_in() && self.kept.len() + bytes.len() <= MAX_KEPT {
            self.kept.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_empty(cx))?;
        self.socket()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cork.is_in() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_empty(cx))?;
        self.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        self.socket()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn corked(n_bytes: usize) -> (Corked<DuplexStream>, DuplexStream) {
        let (socket, peer) = tokio::io::duplex(n_bytes);
        (Corked::new(socket, Cork::default()), peer)
    }

    /// What the peer has to read without waiting.
    async fn arrived(peer: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let read = tokio::time::timeout(Duration::ZERO, peer.read(&mut bytes)).await;
        bytes.truncate(read.map_or(0, |n| n.unwrap()));
        bytes
    }

    #[tokio::test]
    async fn acknowledgements_leave_with_the_next_read_and_in_order() {
        let (mut socket, mut peer) = corked(1 << 16);
        socket.cork.put_in();
        for number in 0..3 {
            socket.write_all(&[number]).await.unwrap();
            socket.flush().await.unwrap();
        }
        assert_eq!(arrived(&mut peer).await, [0; 0]);
        peer.write_all(b"x").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
        assert_eq!(arrived(&mut peer).await, [0, 1, 2]);
        socket.write_all(&[3]).await.unwrap();
        socket.flush().await.unwrap();
        assert_eq!(arrived(&mut peer).await, [3], "the read has pulled the cork");
    }

    #[tokio::test]
    async fn what_may_be_the_last_leaves_at_once_behind_what_was_kept() {
        let (mut socket, mut peer) = corked(1 << 16);
        socket.cork.put_in();
        socket.write_all(&[0]).await.unwrap();
        socket.cork.pull_out();
        socket.write_all(&[1]).await.unwrap();
        socket.flush().await.unwrap();
        assert_eq!(arrived(&mut peer).await, [0, 1]);
        socket.cork.put_in();
        socket.write_all(&[2]).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(arrived(&mut peer).await, [2]);
    }

    #[tokio::test]
    async fn inv_6_no_more_is_kept_than_so_much_and_a_peer_that_takes_nothing_can_still_speak() {
        let (mut socket, mut peer) = corked(8);
        socket.cork.put_in();
        socket.write_all(&[7; MAX_KEPT]).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(20), socket.write_all(&[8])).await;
        assert!(more.is_err(), "it waits for room");
        peer.write_all(b"x").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
        let mut taken = vec![0; MAX_KEPT];
        let (read, flushed) = tokio::join!(peer.read_exact(&mut taken), socket.flush());
        assert_eq!((read.unwrap(), flushed.unwrap()), (MAX_KEPT, ()));
        assert_eq!((taken, arrived(&mut peer).await), (vec![7; MAX_KEPT], vec![]));
    }

    #[tokio::test]
    async fn a_goodbye_waits_until_the_peer_hangs_up_but_not_for_ever() {
        let goodbye = |socket: Corked<DuplexStream>| {
            socket.cork.say_goodbye();
            socket.cork.clone()
        };
        let (socket, mut peer) = corked(1 << 16);
        let cork = goodbye(socket);
        let mut waits = pin!(cork.hung_up());
        assert!(tokio::time::timeout(PATIENCE / 10, waits.as_mut()).await.is_err(), "the peer is still there");
        peer.write_all(b"the last").await.unwrap();
        drop(peer);
        waits.await;
        let (socket, _silent) = corked(1 << 16);
        let begun = std::time::Instant::now();
        goodbye(socket).hung_up().await;
        assert!(begun.elapsed() >= PATIENCE);
        let (socket, _peer) = corked(1 << 16);
        let cork = socket.cork.clone();
        drop(socket);
        assert!(cork.left().is_none(), "a connection that is cut is gone");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().to_string();
        let patience = Duration::from_secs(5);
        assert!(connect(there, NetworkOptions::new(), patience).await.is_ok());
        drop(listener);
        let nobody = connect("127.0.0.1:1".to_owned(), NetworkOptions::new(), patience).await.unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::ConnectionRefused);
    }
}
