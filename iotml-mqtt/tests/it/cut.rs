//! A wire that can be cut: a proxy between a client and its broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub struct Wire {
    pub address: String,
    whole: Arc<AtomicBool>,
    cut: Arc<Notify>,
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
        let (is_whole, is_cut, broker) = (whole.clone(), cut.clone(), broker.to_owned());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if !is_whole.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(mut far) = TcpStream::connect(&broker).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let is_cut = is_cut.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = is_cut.notified() => {}
                    }
                });
            }
        });
        Self { address, whole, cut }
    }

    /// Ends all connections and lets no new one through.
    pub fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    pub fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }
}
