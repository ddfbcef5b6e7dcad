//! One run of a pipeline: a thread that starts it and waits for its end, and what others may ask meanwhile.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use iotml_core::error::ConfigError;
use iotml_core::http::{self, Controls, Endpoint};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Audit, Health, Pipeline, PipelineControl, PipelineError, PipelineHandle, Summary};
use iotml_core::plugin::config::{Config, HttpTable, Secrets};
use serde_json::json;

use super::stats::{Rates, Seen, Stats, between};
use crate::process::ForkGuard;

/// One run, shared by the thread that supervises it and the Python object that asks.
pub struct Run {
    inner: Mutex<Inner>,
    changed: Condvar,
    metrics: Metrics,
    secrets: Secrets,
    began: Instant,
    guard: ForkGuard,
    patience: Duration,
}

struct Inner {
    phase: Phase,
    is_stopping: bool,
    rates: Rates,
    http: Option<SocketAddr>,
}

enum Phase {
    Starting,
    Running(PipelineControl),
    Ended { result: Result<Summary, Arc<PipelineError>>, audit: Audit, took: Duration },
}

/// All runs of the process that may not have ended, for its exit.
static RUNS: Mutex<Vec<Weak<Run>>> = Mutex::new(Vec::new());

impl Run {
    /// Begins a run in a thread of its own.
    pub fn begin(config: &Config, guard: ForkGuard) -> Result<Arc<Self>, PipelineError> {
        let began = Instant::now();
        let run = Arc::new(Self {
            inner: Mutex::new(Inner {
                phase: Phase::Starting,
                is_stopping: false,
                rates: Rates::new(began),
                http: None,
            }),
            changed: Condvar::new(),
            metrics: Metrics::default(),
            secrets: config.secrets().clone(),
            began,
            guard,
            // What is in flight, then the source, then the sinks, have this long each.
            patience: 3 * config.frame.pipeline.drain_timeout.0.max(Duration::from_secs(1)),
        });
        let name = format!("run-{}", config.frame.pipeline.name);
        let (supervised, config) = (run.clone(), config.clone());
        let supervise = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| supervised.run(&config)));
            let ended = ended.unwrap_or_else(|_| {
                let message = "a plug-in panicked while the pipeline was being made".to_owned();
                Err(PipelineError::Panicked { task: 0, message })
            });
            supervised.end(ended);
        };
        thread::Builder::new().name(name).spawn(supervise).map_err(PipelineError::Spawn)?;
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|known| known.strong_count() > 0);
        runs.push(Arc::downgrade(&run));
        Ok(run)
    }

    fn run(self: &Arc<Self>, config: &Config) -> Result<Summary, PipelineError> {
        let secrets = self.secrets.clone();
        let controls = Controls::new(json!([]), move |text| secrets.scrub(text));
        let _http = match &config.frame.http {
            Some(table) => Some(self.offer_http(table, &controls)?),
            None => None,
        };
        let handle = Pipeline::start(config.pipeline(), self.metrics.clone())?;
        controls.add(handle.control(), config.redacted().clone());
        self.started(&handle);
        let summary = handle.wait()?;
        if !summary.audit.balances() {
            // Never to be seen, and not to be overlooked.
            return Err(ConfigError::new(format!("the pipeline lost rows: {}", summary.audit)).into());
        }
        Ok(summary)
    }

    fn started(&self, handle: &PipelineHandle) {
        let control = handle.control();
        let mut inner = self.lock();
        if inner.is_stopping {
            control.end();
        }
        inner.phase = Phase::Running(control);
        self.changed.notify_all();
    }

    fn end(&self, ended: Result<Summary, PipelineError>) {
        let mut inner = self.lock();
        let audit = match (&ended, &inner.phase) {
            (Ok(summary), _) => summary.audit,
            (Err(_), Phase::Running(control)) => control.audit(),
            (Err(_), _) => Audit::default(),
        };
        inner.phase = Phase::Ended { result: ended.map_err(Arc::new), audit, took: self.began.elapsed() };
        self.changed.notify_all();
    }

    fn offer_http(self: &Arc<Self>, table: &HttpTable, controls: &Controls) -> Result<http::HttpServer, PipelineError> {
        let run = Arc::downgrade(self);
        let health = Arc::new(move || match run.upgrade() {
            Some(run) => run.health(),
            None => Health { is_healthy: false, is_ready: false, detail: "ended".to_owned() },
        });
        let endpoint = Endpoint {
            controls: table.control.then(|| controls.clone()),
            token: table.token.clone(),
            guards_metrics: table.metrics_need_token,
            ..Endpoint::new(self.metrics.clone(), health)
        };
        let server = http::serve_all(table.listen.0, endpoint)
            .map_err(|error| ConfigError::with(format!("http: {error}"), error))?;
        self.lock().http = Some(server.address());
        Ok(server)
    }

    fn health(&self) -> Health {
        let health = match &self.lock().phase {
            Phase::Starting => Health { is_healthy: true, is_ready: false, detail: "starting".to_owned() },
            Phase::Running(control) => control.health(),
            Phase::Ended { result: Ok(_), audit, .. } => {
                Health { is_healthy: true, is_ready: false, detail: audit.to_string() }
            }
            Phase::Ended { result: Err(error), .. } => {
                Health { is_healthy: false, is_ready: false, detail: error.report() }
            }
        };
        Health { detail: self.secrets.scrub(&health.detail).into_owned(), ..health }
    }

    /// Asks the pipeline to stop receiving, to drain and to close. Returns at once.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.is_stopping = true;
        if let Phase::Running(control) = &inner.phase {
            control.end();
        }
    }

    /// Waits for at most `slice` until every task receives, or the pipeline could not start.
    pub fn wait_started(&self, slice: Duration) -> Option<Result<(), Arc<PipelineError>>> {
        let inner = self.wait_while(slice, |phase| matches!(phase, Phase::Starting));
        match &inner.phase {
            Phase::Starting => None,
            Phase::Ended { result: Err(error), .. } => Some(Err(error.clone())),
            _ => Some(Ok(())),
        }
    }

    /// Waits for at most `slice` until the pipeline has ended.
    pub fn wait_ended(&self, slice: Duration) -> Option<Result<Summary, Arc<PipelineError>>> {
        let inner = self.wait_while(slice, |phase| !matches!(phase, Phase::Ended { .. }));
        match &inner.phase {
            Phase::Ended { result, .. } => Some(result.clone()),
            _ => None,
        }
    }

    fn wait_while(&self, slice: Duration, is_waiting: impl Fn(&Phase) -> bool) -> MutexGuard<'_, Inner> {
        let waited = self.changed.wait_timeout_while(self.lock(), slice, |inner| is_waiting(&inner.phase));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether the pipeline has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended { .. })
    }

    /// How it is doing.
    pub fn stats(&self) -> Stats {
        let health = self.health();
        let mut inner = self.lock();
        let now = Instant::now();
        let (state, audit, took, rates) = match &inner.phase {
            Phase::Starting => ("starting", Audit::default(), now - self.began, Some((0.0, 0.0))),
            Phase::Running(control) => ("running", control.audit(), now - self.began, None),
            Phase::Ended { result, audit, took } => {
                let state = if result.is_ok() { "stopped" } else { "failed" };
                (state, *audit, *took, Some(between(Audit::default(), *audit, *took)))
            }
        };
        let rates = rates.unwrap_or_else(|| inner.rates.add(now, audit));
        let Health { is_healthy, is_ready, detail } = health;
        Stats::from(Seen { audit, state, is_healthy, is_ready, detail, seconds: took.as_secs_f64(), rates })
    }

    /// The metrics of this run.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where metrics and health are served.
    pub fn http(&self) -> Option<SocketAddr> {
        self.lock().http
    }

    /// How long a stop takes at most, unless a stage hangs.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// What must not be shown.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one assignment, so a panic elsewhere cannot leave it half made.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks every pipeline of this process to stop, and gives those that have not ended.
pub fn stop_all() -> Vec<Arc<Run>> {
    let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    let running = runs.iter().filter_map(Weak::upgrade).filter(|run| run.guard.is_here() && !run.has_ended());
    let running: Vec<_> = running.collect();
    running.iter().for_each(|run| run.stop());
    running
}
