//! A worker process and what keeps it running: as a supervisor would, it starts the worker again whenever it ends.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cars::process::Failure;
use iotml_core::pipeline::Audit;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::crew::Crew;
use crate::worker_log::follow;

/// Before a worker that ended by itself is started again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a worker may take to drain and end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a worker's memory.
const LOOK: Duration = Duration::from_millis(100);

/// A supervised worker.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::Sender<Order>,
    seen: Arc<Mutex<Seen>>,
}

/// What is known of a worker, over all its processes.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The running process.
    pub now: Running,
    /// Processes that began to receive.
    pub n_ready: u64,
    /// Processes that ended by themselves after they had begun to receive.
    pub gave_up: Vec<String>,
    /// Processes that could not begin.
    pub n_failed_starts: u64,
    /// Highest resident memory of a process, and that of an idle one when it began, in bytes.
    pub peak_rss: u64,
    pub idle_rss: u64,
    /// Lost sessions that the log speaks of.
    pub n_lost_sessions: u64,
}

/// What is known of one process.
#[derive(Clone, Debug, Default)]
pub struct Running {
    pub is_ready: bool,
    /// `host:port` of its metrics.
    pub http: Option<String>,
    /// Its balance, once it has ended in good order.
    pub ended: Option<Audit>,
    /// Its last error.
    pub last_words: String,
}

#[derive(Debug)]
enum Order {
    Kill { pause: Duration, done: oneshot::Sender<()> },
    Stop { done: oneshot::Sender<()> },
}

/// What a worker is started from.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: String,
    pub program: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
}

impl Worker {
    /// Starts it, as a member of `crew`.
    pub fn start(recipe: Recipe, crew: Arc<Crew>) -> Self {
        let (orders, obeyed) = mpsc::channel(1);
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(Supervisor { recipe, crew, orders: obeyed, seen: seen.clone() }.run());
        Self { orders, seen }
    }

    /// kill -9; returns when it has been started again.
    pub async fn kill(&self, pause: Duration) {
        let (done, killed) = oneshot::channel();
        if self.orders.send(Order::Kill { pause, done }).await.is_ok() {
            let _ = killed.await;
        }
    }

    /// SIGTERM; returns when it has drained and ended.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop { done }).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// What is known of it.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Waits until it receives.
    pub async fn ready(&self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        while !self.seen().now.is_ready {
            if Instant::now() >= deadline {
                return Err(
                    format!("a worker did not begin to receive; it said {:?}", self.seen().now.last_words).into()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The sum over all label sets of a metric of the running process; `None` while it does not answer.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let http = self.seen().now.http?;
        let text = reqwest::get(format!("http://{http}/metrics")).await.ok()?.text().await.ok()?;
        let of_name = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        };
        let values: Vec<f64> = text.lines().filter_map(of_name).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
    }
}

struct Supervisor {
    recipe: Recipe,
    crew: Arc<Crew>,
    orders: mpsc::Receiver<Order>,
    seen: Arc<Mutex<Seen>>,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            self.crew.joins().await;
            lock(&self.seen).now = Running::default();
            let (mut child, reading) = match self.spawn() {
                Ok(spawned) => spawned,
                Err(error) => {
                    self.crew.leaves(None).await;
                    lock(&self.seen).gave_up.push(error.to_string());
                    return;
                }
            };
            let mut looks = tokio::time::interval(LOOK);
            let order = loop {
                tokio::select! {
                    status = child.wait() => break Err(status),
                    order = self.orders.recv() => break Ok(order),
                    _ = looks.tick() => self.look(&child),
                }
            };
            self.look(&child);
            match order {
                Ok(Some(Order::Kill { pause, done })) => {
                    let _ = child.kill().await;
                    let _ = reading.await;
                    self.crew.leaves(None).await;
                    sleep(pause).await;
                    let _ = done.send(());
                }
                Ok(Some(Order::Stop { done })) => {
                    self.end(&mut child).await;
                    let _ = reading.await;
                    let ended = lock(&self.seen).now.ended;
                    self.crew.leaves(ended).await;
                    let _ = done.send(());
                    return;
                }
                // The harness gives up; the process is killed as its handle is dropped.
                Ok(None) => return,
                Err(status) => {
                    let _ = reading.await;
                    self.crew.leaves(None).await;
                    self.ended_by_itself(status.ok());
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self) -> std::io::Result<(Child, tokio::task::JoinHandle<()>)> {
        let Recipe { program, config, log, .. } = &self.recipe;
        let mut command = Command::new(program);
        command.arg("run").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.env_remove("RUST_LOG").kill_on_drop(true).spawn()?;
        let stderr = child.stderr.take();
        let (seen, log, pid) = (self.seen.clone(), log.clone(), child.id());
        let reading = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                let _ = follow(stderr, &log, pid, &seen).await;
            }
        });
        Ok((child, reading))
    }

    fn look(&self, child: &Child) {
        if let Some(rss) = child.id().and_then(|pid| memory(pid, "VmHWM:")) {
            let mut seen = lock(&self.seen);
            seen.peak_rss = seen.peak_rss.max(rss);
        }
    }

    async fn end(&self, child: &mut Child) {
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout(LOOK, child.wait()).await {
                Ok(Ok(status)) if status.success() => return,
                Ok(status) => return self.ended_by_itself(status.ok()),
                Err(_) if Instant::now() < deadline => self.look(child),
                Err(_) => {
                    let _ = child.kill().await;
                    lock(&self.seen).gave_up.push(format!("{} did not end in {PATIENCE:?}", self.recipe.name));
                    return;
                }
            }
        }
    }

    fn ended_by_itself(&self, status: Option<ExitStatus>) {
        let mut seen = lock(&self.seen);
        if seen.now.is_ready {
            let status = status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
            let what = format!("{} ended by itself ({status}): {}", self.recipe.name, seen.now.last_words);
            seen.gave_up.push(what);
        } else {
            seen.n_failed_starts += 1;
        }
    }
}

/// A line of `/proc/PID/status` in bytes.
pub fn memory(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// What is known stays what it was where a thread panicked.
pub fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
