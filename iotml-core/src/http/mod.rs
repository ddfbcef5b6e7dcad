//! The endpoint: `/metrics`, `/healthz`, `/readyz`, and control over pipelines by the paths of Kafka Connect
//! (docs/operating.md).

mod answer;
mod audit;
mod connectors;
mod controls;
mod flat;
mod format;
mod guard;
#[cfg(feature = "cli")]
mod loggers;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::pipeline::Health;
use crate::secret::Secret;

pub use controls::Controls;

/// Asks for the health of everything behind the endpoint.
pub type AskHealth = Arc<dyn Fn() -> Health + Send + Sync>;

/// Why the endpoint cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Another process listens there.
    #[error("{0} is in use; stop the other process, or choose another port under [http] listen (0 picks a free one)")]
    InUse(SocketAddr),
    /// The address is not one of this machine's, or not permitted.
    #[error("cannot listen on {address}; choose an address of this machine under [http] listen")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No thread could be started.
    #[error("no thread can be started for the HTTP endpoint")]
    Spawn(#[source] io::Error),
}

/// A running endpoint, on a thread of its own; dropping it closes it.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Where it listens, with the real port where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is offered.
pub struct Endpoint {
    /// At `/metrics`.
    pub metrics: Metrics,
    /// At `/healthz` and `/readyz`.
    pub health: AskHealth,
    /// The pipelines that are controlled; without them there are only metrics and health. Where other machines reach the
    /// address, a token is needed: whoever configures the endpoint sees to that.
    pub controls: Option<Controls>,
    /// Whoever wants control sends `Authorization: Bearer` and this.
    pub token: Option<Secret>,
    /// Whether metrics and health want it too.
    pub guards_metrics: bool,
}

impl Endpoint {
    /// Metrics and health for everyone, and nothing else.
    pub fn new(metrics: Metrics, health: AskHealth) -> Self {
        Self { metrics, health, controls: None, token: None, guards_metrics: false }
    }
}

/// Listens on `address` before it returns, and answers until the result is dropped:
/// `/metrics` in the OpenMetrics format for who accepts it, else in the Prometheus text format, `/healthz` with 200 or 503 by [`Health::is_healthy`], `/readyz` by
/// [`Health::is_ready`], both with [`Health::detail`] as their text.
pub fn serve(address: SocketAddr, metrics: Metrics, health: AskHealth) -> Result<HttpServer, HttpError> {
    serve_all(address, Endpoint::new(metrics, health))
}

/// Offers a whole [`Endpoint`] as [`serve`] does.
pub fn serve_all(address: SocketAddr, endpoint: Endpoint) -> Result<HttpServer, HttpError> {
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => HttpError::InUse(address),
        _ => HttpError::Listen { address, source },
    })?;
    let bound = listener.local_addr().and_then(|bound| listener.set_nonblocking(true).map(|()| bound));
    let bound = bound.map_err(|source| HttpError::Listen { address, source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HttpError::Spawn)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let router = router(endpoint);
    let serving = move || {
        runtime.block_on(async {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the HTTP endpoint has no listener"),
            };
            // A client in the middle of a request must not hold up the end of the process.
            tokio::select! {
                ended = axum::serve(listener, router) => tracing::error!(?ended, "the HTTP endpoint ended by itself"),
                _ = stopped => {}
            }
        });
    };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(serving).map_err(HttpError::Spawn)?;
    Ok(HttpServer { address: bound, stop: Some(stop), thread: Some(thread) })
}

fn router(endpoint: Endpoint) -> Router {
    let Endpoint { metrics, health, controls, token, guards_metrics } = endpoint;
    let has_control = controls.is_some();
    let behind = Arc::new(Behind { metrics, health, controls: controls.unwrap_or_default(), token });
    let guarded = middleware::from_fn_with_state(behind.clone(), guard::guard);
    let mut router = Router::new()
        .route("/metrics", get(answer_metrics))
        .route("/healthz", get(answer_healthz))
        .route("/readyz", get(answer_readyz));
    if guards_metrics {
        router = router.route_layer(guarded.clone());
    }
    if has_control {
        let mut control = connectors::routes().route("/audit", get(audit::audit));
        #[cfg(feature = "cli")]
        {
            control = control.merge(loggers::routes());
        }
        control = control.method_not_allowed_fallback(answer::no_such_method);
        router = router.merge(control.route_layer(guarded)).fallback(answer::no_such_path);
    }
    router.with_state(behind)
}

struct Behind {
    metrics: Metrics,
    health: AskHealth,
    controls: Controls,
    token: Option<Secret>,
}

async fn answer_metrics(State(behind): State<Arc<Behind>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match behind.metrics.text() {
        Ok(text) if format::takes_open_metrics(accept) => {
            ([(header::CONTENT_TYPE, format::OPEN_METRICS)], text).into_response()
        }
        Ok(text) => ([(header::CONTENT_TYPE, format::PROMETHEUS)], format::prometheus(&text)).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n").into_response(),
    }
}

async fn answer_healthz(State(behind): State<Arc<Behind>>) -> Response {
    let health = (behind.health)();
    answer(health.is_healthy, health.detail)
}

async fn answer_readyz(State(behind): State<Arc<Behind>>) -> Response {
    let health = (behind.health)();
    answer(health.is_ready, health.detail)
}

fn answer(is_well: bool, detail: String) -> Response {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{detail}\n")).into_response()
}
