//! `run`: starts pipelines, waits for them, and stops them gracefully.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use serde_json::{Value, json};

use super::output::fail;
use super::signals::Wish;
use super::validate::load_all;
use super::{USAGE, signals};
use crate::error::Stage;
use crate::http::{self, Controls, Endpoint, HttpServer};
use crate::log;
use crate::metrics::Metrics;
use crate::pipeline::{Health, Pipeline, PipelineControl, PipelineError, PipelineHandle, PipelineSpec, Summary};
use crate::plugin::Registry;
use crate::plugin::config::{Config, HttpTable, LogFormat, LogTable, Secrets};

/// Restarts of a failed task in a row, where the configuration does not say.
const RESTARTS: u32 = 5;

/// Runs the pipelines of all files in this process until all have ended. One that fails leaves the others running; when none
/// can go on any more, whatever supervises the process sees the failure and starts it again.
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
    match start_and_wait(&configs, &around, registry) {
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
    http: Option<HttpTable>,
    secrets: Secrets,
}

impl Around {
    fn of(configs: &[Config]) -> Result<Self, String> {
        let logs = configs.iter().filter_map(|config| Some((config, config.frame.log.clone()?)));
        let log = agreed("log", logs)?.unwrap_or_default();
        let https = configs.iter().filter_map(|config| Some((config, config.frame.http.clone()?)));
        let http = agreed("http", https)?;
        let mut secrets = Secrets::default();
        configs.iter().for_each(|config| secrets.extend(config.secrets()));
        Ok(Self { log, http, secrets })
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

fn start_and_wait(configs: &[Config], around: &Around, registry: &Registry) -> Result<(), String> {
    let metrics = Metrics::default();
    let secrets = around.secrets.clone();
    let controls = Controls::new(plugins_of(registry), move |text| secrets.scrub(text));
    let crew = Arc::new(Crew { controls, is_starting: true.into() });
    let _http = match &around.http {
        Some(table) => Some(offer_http(table, &metrics, &crew, &around.secrets)?),
        None => None,
    };
    let stopping = crew.clone();
    let signalled = signals::watch(move |wish| stopping.obey(wish))
        .map_err(|error| format!("signals cannot be handled: {error}"))?;
    let mut running = Vec::with_capacity(configs.len());
    for config in configs {
        if signalled.load(Ordering::SeqCst) {
            break;
        }
        tracing::info!(file = %config.file.display(), pipeline = config.frame.pipeline.name, "starting");
        tracing::debug!(config = %config.redacted(), "configured");
        let give = |control: PipelineControl| crew.controls.add(control, config.redacted().clone());
        match Pipeline::start_controlled(supervised(config), metrics.clone(), give) {
            Ok(handle) => {
                running.push(handle);
                // A signal that came while it was opening found nothing to stop.
                if signalled.load(Ordering::SeqCst) {
                    crew.obey(Wish::Stop);
                }
            }
            // What was still being opened was told to end.
            Err(_) if signalled.load(Ordering::SeqCst) => break,
            Err(error) => {
                crew.obey(Wish::Stop);
                let _ = wait_all(running);
                return Err(format!("pipeline {:?} cannot start: {}", config.frame.pipeline.name, error.report()));
            }
        }
    }
    crew.is_starting.store(false, Ordering::SeqCst);
    wait_all(running)
}

/// The pipeline of a configuration, with restarts: a worker has no one beside it who would see the first failure.
fn supervised(config: &Config) -> PipelineSpec {
    let mut spec = config.pipeline();
    spec.options.restart_max = config.frame.pipeline.restart_max.unwrap_or(RESTARTS);
    spec
}

fn offer_http(table: &HttpTable, metrics: &Metrics, crew: &Arc<Crew>, secrets: &Secrets) -> Result<HttpServer, String> {
    let (asked, secrets) = (crew.clone(), secrets.clone());
    let health = Arc::new(move || {
        let health = asked.health();
        Health { detail: secrets.scrub(&health.detail).into_owned(), ..health }
    });
    let endpoint = Endpoint {
        controls: table.control.then(|| crew.controls.clone()),
        token: table.token.clone(),
        guards_metrics: table.metrics_need_token,
        ..Endpoint::new(metrics.clone(), health)
    };
    let server =
        http::serve_all(table.listen.0, endpoint).map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
    tracing::info!(address = %server.address(), "metrics and health at http://{}/metrics", server.address());
    Ok(server)
}

/// What `GET /connector-plugins` answers: Kafka Connect's three keys, with a stage word for the type.
fn plugins_of(registry: &Registry) -> Value {
    let all = Stage::ALL.into_iter().flat_map(|stage| registry.names(stage).into_iter().map(move |name| (stage, name)));
    all.map(|(stage, name)| json!({ "class": name, "type": stage.as_str(), "version": env!("CARGO_PKG_VERSION") }))
        .collect()
}

/// All pipelines of the process, for the signal handler and the endpoint.
struct Crew {
    controls: Controls,
    /// Not ready while pipelines are still to be started.
    is_starting: AtomicBool,
}

impl Crew {
    fn obey(&self, wish: Wish) {
        self.controls.all().iter().for_each(|pipeline| match wish {
            Wish::Stop => pipeline.end(),
            Wish::Leave => pipeline.leave(),
        });
    }

    fn health(&self) -> Health {
        let is_starting = self.is_starting.load(Ordering::SeqCst);
        let mut whole = Health { is_healthy: true, is_ready: !is_starting, detail: String::new() };
        for pipeline in self.controls.all() {
            let health = pipeline.health();
            whole.is_healthy &= health.is_healthy;
            whole.is_ready &= health.is_ready;
            let line = format!("{}: {}", pipeline.name(), health.detail);
            whole.detail = if whole.detail.is_empty() { line } else { format!("{}\n{line}", whole.detail) };
        }
        if is_starting {
            whole.detail = format!("starting\n{}", whole.detail).trim_end().to_owned();
        }
        whole
    }
}

/// Waits for all, and reports the first failure.
fn wait_all(running: Vec<PipelineHandle>) -> Result<(), String> {
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
                    failed.get_or_insert(format!("pipeline {name:?} failed: {}", error.report()));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    })
}
