//! A TCP proxy between a worker and a server that cuts, half-closes, stalls and delays.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::plan::{Side, Trouble};

/// A listener whose connections go on to one server. Dropping it ends them all.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    /// The server's port; 0 while it is not known.
    target: watch::Sender<u16>,
    weather: watch::Sender<Weather>,
    n_connections: Arc<AtomicU64>,
    accepting: tokio::task::AbortHandle,
}

/// What holds for every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    is_stalled: bool,
    delay: Duration,
    /// No connection comes through.
    is_shut: bool,
    /// Connections that began before the latest cut are reset,
    n_cuts: u64,
    /// and those before the latest half-close toward a side no longer go there.
    n_closed_to_worker: u64,
    n_closed_to_server: u64,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Toward {
    Worker,
    Server,
}

impl Weather {
    fn n_closed(&self, toward: Toward) -> u64 {
        match toward {
            Toward::Worker => self.n_closed_to_worker,
            Toward::Server => self.n_closed_to_server,
        }
    }
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (target, weather) = (watch::Sender::new(0), watch::Sender::new(Weather::default()));
        let n_connections = Arc::new(AtomicU64::new(0));
        let accepting = accept(listener, target.subscribe(), weather.subscribe(), n_connections.clone());
        let accepting = tokio::spawn(accepting).abort_handle();
        Ok(Self { port, target, weather, n_connections, accepting })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where connections go from now on.
    pub fn set_target(&self, port: u16) {
        self.target.send_replace(port);
    }

    /// Connections that reached the server so far.
    pub fn n_connections(&self) -> u64 {
        self.n_connections.load(Ordering::Relaxed)
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.n_cuts += 1);
    }

    /// Resets all connections and lets none through until opened again.
    pub fn shut(&self, is_shut: bool) {
        self.weather.send_modify(|weather| {
            weather.is_shut = is_shut;
            weather.n_cuts += 1;
        });
    }

    /// Carries out one trouble; returns when it is over.
    pub async fn trouble(&self, trouble: Trouble) {
        match trouble {
            Trouble::Cut => self.cut(),
            Trouble::HalfClose(Side::Worker) => self.weather.send_modify(|weather| weather.n_closed_to_worker += 1),
            Trouble::HalfClose(Side::Server) => self.weather.send_modify(|weather| weather.n_closed_to_server += 1),
            Trouble::Stall(time) => {
                self.weather.send_modify(|weather| weather.is_stalled = true);
                tokio::time::sleep(time).await;
                self.weather.send_modify(|weather| weather.is_stalled = false);
            }
            Trouble::Delay { by, time } => {
                self.weather.send_modify(|weather| weather.delay = by);
                tokio::time::sleep(time).await;
                self.weather.send_modify(|weather| weather.delay = Duration::ZERO);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<u16>,
    weather: watch::Receiver<Weather>,
    n_connections: Arc<AtomicU64>,
) {
    loop {
        let Ok((worker, _)) = listener.accept().await else { continue };
        // Read now: a cut from here on is this connection's, too.
        let began = *weather.borrow();
        if began.is_shut {
            let _ = worker.set_zero_linger();
            continue;
        }
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, *target.borrow()));
        tokio::spawn(carry(worker, server, began, weather.clone(), n_connections.clone()));
    }
}

/// Passes bytes both ways until both ends have no more, or a cut.
async fn carry(
    mut worker: TcpStream,
    server: SocketAddr,
    began: Weather,
    mut weather: watch::Receiver<Weather>,
    n_connections: Arc<AtomicU64>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        let _ = worker.set_zero_linger();
        return;
    };
    n_connections.fetch_add(1, Ordering::Relaxed);
    for stream in [&worker, &server] {
        let _ = stream.set_nodelay(true);
    }
    let is_cut = {
        let (from_worker, to_worker) = worker.split();
        let (from_server, to_server) = server.split();
        let (up, down) = (weather.clone(), weather.clone());
        // An end that is gone ends its own way only; the other finds out by itself.
        let both_ways = async {
            tokio::join!(
                pump(from_worker, to_server, Toward::Server, began, up),
                pump(from_server, to_worker, Toward::Worker, began, down)
            )
        };
        tokio::select! {
            _ = weather.wait_for(|weather| weather.n_cuts > began.n_cuts) => true,
            _ = both_ways => false,
        }
    };
    if is_cut {
        let _ = worker.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// Passes bytes on one way until the sender has no more; then the receiver is told so.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    toward: Toward,
    began: Weather,
    mut weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let is_closed = |weather: &Weather| weather.n_closed(toward) > began.n_closed(toward);
    loop {
        let n = tokio::select! {
            _ = weather.wait_for(is_closed) => 0,
            read = from.read(&mut buffer) => read.unwrap_or(0),
        };
        if n == 0 {
            return to.shutdown().await;
        }
        let delay = {
            let Ok(calm) = weather.wait_for(|weather| !weather.is_stalled).await else { return Ok(()) };
            calm.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&buffer[..n]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy before a server that says everything back, and a connection through it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start().await.unwrap();
        proxy.set_target(listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
        (proxy, stream)
    }

    async fn says_back(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"hello").await?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"hello");
        Ok(())
    }

    #[tokio::test]
    async fn bytes_pass_and_a_cut_resets() {
        let (proxy, mut stream) = echo().await;
        says_back(&mut stream).await.unwrap();
        assert_eq!(proxy.n_connections(), 1);
        proxy.cut();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_half_close_toward_the_worker_leaves_the_other_way_open() {
        let (proxy, mut stream) = echo().await;
        says_back(&mut stream).await.unwrap();
        proxy.trouble(Trouble::HalfClose(Side::Worker)).await;
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "told that nothing more comes");
        stream.write_all(b"still taken").await.unwrap();
    }

    #[tokio::test]
    async fn a_stall_holds_bytes_back_and_loses_none() {
        let (proxy, mut stream) = echo().await;
        says_back(&mut stream).await.unwrap();
        let proxy = Arc::new(proxy);
        let (stalling, time) = (proxy.clone(), Duration::from_millis(300));
        let began = tokio::time::Instant::now();
        let stall = tokio::spawn(async move { stalling.trouble(Trouble::Stall(time)).await });
        while !proxy.weather.borrow().is_stalled {
            tokio::task::yield_now().await;
        }
        says_back(&mut stream).await.unwrap();
        assert!(began.elapsed() >= time);
        stall.await.unwrap();
    }
}
