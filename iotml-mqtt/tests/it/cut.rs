//! A wire that can be cut: a proxy between a client and its broker. It tells what the broker has read, which no client can see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::reader::PATIENCE;

/// MQTT's number of PUBACK.
const PUBACK: u8 = 4;

pub struct Wire {
    pub address: String,
    whole: Arc<AtomicBool>,
    cut: Arc<Notify>,
    /// PUBACKs handed to the broker's side.
    n_acks: watch::Sender<usize>,
    /// Connections that the broker has not closed.
    n_standing: watch::Sender<usize>,
}

impl Wire {
    pub async fn to(broker: &str) -> Self {
        Self::from("127.0.0.1:0", broker).await
    }

    /// A wire whose near end is at `near`, `host:port`; port 0 takes a free one.
    pub async fn from(near: &str, broker: &str) -> Self {
        let listener = TcpListener::bind(near).await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let whole = Arc::new(AtomicBool::new(true));
        let cut = Arc::new(Notify::new());
        let (n_acks, n_standing) = (watch::Sender::new(0), watch::Sender::new(0));
        let (is_whole, is_cut, broker) = (whole.clone(), cut.clone(), broker.to_owned());
        let (acks, standing) = (n_acks.clone(), n_standing.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if !is_whole.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&broker).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                standing.send_modify(|n| *n += 1);
                let (is_cut, acks, standing) = (is_cut.clone(), acks.clone(), standing.clone());
                tokio::spawn(async move {
                    carry(near, far, &is_cut, &acks).await;
                    standing.send_modify(|n| *n -= 1);
                });
            }
        });
        Self { address, whole, cut, n_acks, n_standing }
    }

    /// Ends all connections and lets no new one through.
    pub fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    pub fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }

    /// Waits until `n` PUBACKs in all have gone through to the broker's side.
    pub async fn wait_for_acks(&self, n: usize) {
        let mut acks = self.n_acks.subscribe();
        let gone = tokio::time::timeout(PATIENCE, acks.wait_for(|acks| *acks >= n)).await;
        assert!(gone.is_ok(), "only {} of {n} acknowledgements were sent", *self.n_acks.borrow());
    }

    /// Waits until the broker has closed every connection: it has read all that went through, and knows that the client is gone.
    pub async fn wait_until_parted(&self) {
        let mut standing = self.n_standing.subscribe();
        let parted = tokio::time::timeout(PATIENCE, standing.wait_for(|standing| *standing == 0)).await;
        assert!(parted.is_ok(), "the broker does not close {} connections", *self.n_standing.borrow());
    }
}

/// Carries bytes both ways until a side ends or the wire is cut; returns once the broker has closed its side.
async fn carry(near: TcpStream, far: TcpStream, is_cut: &Notify, n_acks: &watch::Sender<usize>) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let up = async {
        let (mut packets, mut buffer) = (Packets::default(), [0; 4096]);
        while let Ok(n @ 1..) = from_near.read(&mut buffer).await {
            if to_far.write_all(&buffer[..n]).await.is_err() {
                return;
            }
            let acks = packets.count(PUBACK, &buffer[..n]);
            n_acks.send_modify(|n_acks| *n_acks += acks);
        }
    };
    tokio::select! {
        () = up => {}
        _ = copy(&mut from_far, &mut to_near) => {}
        () = is_cut.notified() => {}
    }
    drop((from_near, to_near));
    // The end in good order, so that the broker reads what was sent before, and whatever it still sends is of no use.
    let _ = to_far.shutdown().await;
    let _ = copy(&mut from_far, &mut sink()).await;
}

/// Where a stream of MQTT packets stands: in the header of one, or with some bytes of its body to come.
#[derive(Default)]
struct Packets {
    /// The kind of the packet whose length is being read.
    header: Option<u8>,
    /// The kind of the packet whose body is being read.
    kind: u8,
    length: usize,
    shift: u32,
    left: usize,
}

impl Packets {
    /// Takes the next bytes of the stream; how many packets of `kind` they end.
    fn count(&mut self, kind: u8, bytes: &[u8]) -> usize {
        let mut n = 0;
        for &byte in bytes {
            if self.left > 0 {
                self.left -= 1;
                n += usize::from(self.left == 0 && self.kind == kind);
                continue;
            }
            let Some(header) = self.header else {
                (self.header, self.length, self.shift) = (Some(byte >> 4), 0, 0);
                continue;
            };
            self.length |= usize::from(byte & 0x7f) << self.shift;
            self.shift += 7;
            // A length has four bytes at most.
            if byte & 0x80 == 0 || self.shift == 28 {
                (self.header, self.kind, self.left) = (None, header, self.length);
            }
        }
        n
    }
}
