//! `run`: starts pipelines, waits for them, and stops them gracefully.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use super::output::fail;
use super::validate::load_all;
use super::{USAGE, signals};
use crate::http::{self, HttpServer};
use crate::log;
use crate::metrics::Metrics;
use crate::pipeline::{Health, Pipeline, PipelineError, PipelineHandle, Summary};
use crate::plugin::Registry;
use crate::plugin::config::{Config, LogFormat, LogTable, Secrets};

/// Runs the pipelines of all files in this process until all have ended. The first that fails stops the others: whatever
/// supervises the process sees the failure and starts it again.
pub(super) fn run(files: &[PathBuf], registry: &Arc<Registry>) -> ExitCode {
    let configs = match load_all(files, registry) {
        Ok(configs) => configs,
        Err(code) => return code,
    };
    let around = match Around::of(&configs) {
        Ok(around) => around,
        Err(message) => return fail(&message, USAGE),
    };
    // Every connection is a file, and the usual soft limit is low; what the system does not allow stays as it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    if let Err(error) = log::init(&around.log, around.secrets.clone()) {
        return fail(&error, USAGE);
    }
    match start_and_wait(&configs, &around) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader of JSON lines gets a JSON line.
        Err(message) if around.log.format == LogFormat::Json && tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
        Err(message) => fail(&around.secrets.scrub(&message), 1),
    }
}

/// What the pipelines of one process share.
struct Around {
    log: LogTable,
    listen: Option<SocketAddr>,
    secrets: Secrets,
}

impl Around {
    fn of(configs: &[Config]) -> Result<Self, String> {
        let logs = configs.iter().filter_map(|config| Some((config, config.frame.log.clone()?)));
        let log = agreed("log", logs)?.unwrap_or_default();
        let listens = configs.iter().filter_map(|config| Some((config, config.frame.http.as_ref()?.listen.0)));
        let listen = agreed("http", listens)?;
        let mut secrets = Secrets::default();
        configs.iter().for_each(|config| secrets.extend(config.secrets()));
        Ok(Self { log, listen, secrets })
    }
}

/// The one setting of several files; one process has one log and one endpoint.
fn agreed<'a, T: PartialEq>(table: &str, settings: impl Iterator<Item = (&'a Config, T)>) -> Result<Option<T>, String> {
    let mut agreed: Option<(&Config, T)> = None;
    for (config, setting) in settings {
        match &agreed {
            Some((first, other)) if *other != setting => {
                let (first, second) = (first.file.display(), config.file.display());
                return Err(format!(
                    "{first} and {second} differ in [{table}]; one process has only one, so leave one out"
                ));
            }
            Some(_) => {}
            None => agreed = Some((config, setting)),
        }
    }
    Ok(agreed.map(|(_, setting)| setting))
}

fn start_and_wait(configs: &[Config], around: &Around) -> Result<(), String> {
    let metrics = Metrics::default();
    let crew = Arc::new(Crew { is_starting: true.into(), ..Crew::default() });
    let _http = match around.listen {
        Some(listen) => Some(offer_http(listen, &metrics, &crew, &around.secrets)?),
        None => None,
    };
    let stopping = crew.clone();
    let signalled =
        signals::watch(move || stopping.stop()).map_err(|error| format!("signals cannot be handled: {error}"))?;
    let mut running = Vec::with_capacity(configs.len());
    for config in configs {
        if signalled.load(Ordering::SeqCst) {
            break;
        }
        tracing::info!(file = %config.file.display(), pipeline = config.frame.pipeline.name, "starting");
        tracing::debug!(config = %config.redacted(), "configured");
        match Pipeline::start(config.pipeline(), metrics.clone()) {
            Ok(handle) => {
                running.push(crew.add(handle));
                // A signal that came while it was opening found nothing to stop.
                if signalled.load(Ordering::SeqCst) {
                    crew.stop();
                }
            }
            Err(error) => {
                crew.stop();
                let _ = wait_all(running, &crew);
                return Err(format!("pipeline {:?} cannot start: {}", config.frame.pipeline.name, error.report()));
            }
        }
    }
    crew.is_starting.store(false, Ordering::SeqCst);
    wait_all(running, &crew)
}

fn offer_http(
    listen: SocketAddr,
    metrics: &Metrics,
    crew: &Arc<Crew>,
    secrets: &Secrets,
) -> Result<HttpServer, String> {
    let (crew, secrets) = (crew.clone(), secrets.clone());
    let health = Arc::new(move || {
        let health = crew.health();
        Health { detail: secrets.scrub(&health.detail).into_owned(), ..health }
    });
    let server =
        http::serve(listen, metrics.clone(), health).map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
    tracing::info!(address = %server.address(), "metrics and health at http://{}/metrics", server.address());
    Ok(server)
}

/// All pipelines of the process, for the signal handler and the endpoint.
#[derive(Default)]
struct Crew {
    members: Mutex<Vec<Member>>,
    /// Not ready while pipelines are still to be started.
    is_starting: AtomicBool,
}

struct Member {
    name: String,
    stop: Box<dyn Fn() + Send>,
    health: Box<dyn Fn() -> Health + Send>,
}

impl Crew {
    fn add(&self, handle: PipelineHandle) -> PipelineHandle {
        let (stop, health) = (Box::new(handle.stopper()), Box::new(handle.monitor()));
        self.members().push(Member { name: handle.name().to_owned(), stop, health });
        handle
    }

    fn stop(&self) {
        self.members().iter().for_each(|member| (member.stop)());
    }

    fn health(&self) -> Health {
        let is_starting = self.is_starting.load(Ordering::SeqCst);
        let mut whole = Health { is_healthy: true, is_ready: !is_starting, detail: String::new() };
        for member in self.members().iter() {
            let health = (member.health)();
            whole.is_healthy &= health.is_healthy;
            whole.is_ready &= health.is_ready;
            let line = format!("{}: {}", member.name, health.detail);
            whole.detail = if whole.detail.is_empty() { line } else { format!("{}\n{line}", whole.detail) };
        }
        if is_starting {
            whole.detail = format!("starting\n{}", whole.detail).trim_end().to_owned();
        }
        whole
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Vec<Member>> {
        // Members are only ever added, so a panic elsewhere cannot leave the list half changed.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for all, stops all when one fails, and reports the first failure.
fn wait_all(running: Vec<PipelineHandle>, crew: &Crew) -> Result<(), String> {
    let (ended, endings) = mpsc::channel::<(String, Result<Summary, PipelineError>)>();
    thread::scope(|scope| {
        for handle in running {
            let ended = ended.clone();
            scope.spawn(move || {
                let name = handle.name().to_owned();
                let _ = ended.send((name, handle.wait()));
            });
        }
        drop(ended);
        let mut failed = None;
        for (name, ending) in endings {
            match ending {
                Ok(Summary { audit, is_drained }) => {
                    tracing::info!(pipeline = name, %audit, is_drained, "ended");
                    if !is_drained {
                        tracing::warn!(
                            pipeline = name,
                            "not all was done in time; the rest is redelivered at the next start"
                        );
                    }
                    if !audit.balances() {
                        failed.get_or_insert(format!("pipeline {name:?} lost rows: {audit}"));
                    }
                }
                Err(error) => {
                    crew.stop();
                    failed.get_or_insert(format!("pipeline {name:?} failed: {}", error.report()));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    })
}
