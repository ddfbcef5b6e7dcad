//! A server that says to S3's clients whatever it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
#[derive(Clone)]
pub enum Answer {
    /// These bytes, and the connection is closed.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays open.
    Nothing,
    /// The connection is closed.
    Close,
}

pub struct Server {
    pub endpoint: String,
    n_requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers every request the same.
    pub async fn new(answer: Answer) -> Self {
        Self::answering(move |_| answer.clone()).await
    }

    /// Answers by the first line of the request.
    pub async fn answering(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let n_requests = Arc::<AtomicUsize>::default();
        let (answer, counted) = (Arc::new(answer), n_requests.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (answer, counted) = (answer.clone(), counted.clone());
                connections.spawn(async move { serve(connection, &*answer, &counted).await });
            }
        });
        Server { endpoint, n_requests, task }
    }

    pub fn n_requests(&self) -> usize {
        self.n_requests.load(Ordering::SeqCst)
    }

    /// Nobody listens any more once this returns.
    pub async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve(mut connection: TcpStream, answer: &(impl Fn(&str) -> Answer + ?Sized), n_requests: &AtomicUsize) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 4096];
        match connection.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&bytes[..n]),
        }
    }
    n_requests.fetch_add(1, Ordering::SeqCst);
    let text = String::from_utf8_lossy(&request);
    match answer(text.lines().next().unwrap_or_default()) {
        Answer::Bytes(bytes) => {
            let _ = connection.write_all(&bytes).await;
            let _ = connection.shutdown().await;
        }
        Answer::Nothing => std::future::pending().await,
        Answer::Close => {}
    }
}

pub fn status(line: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!("HTTP/1.1 {line}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    Answer::Bytes(text.into_bytes())
}

/// An object of which only the first `n_sent` bytes are sent.
pub fn object(content: &[u8], n_sent: usize) -> Answer {
    let length = content.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: \"1\"\r\nLast-Modified: Sat, 28 Nov 2026 00:00:00 GMT\r\n\
         Connection: close\r\n\r\n"
    );
    Answer::Bytes([head.as_bytes(), &content[..n_sent]].concat())
}
