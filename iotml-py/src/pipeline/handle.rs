//! `Pipeline` as Python sees it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use iotml_core::cli;
use iotml_core::error::report;
use iotml_core::log;
use iotml_core::pipeline::Summary;
use iotml_core::plugin::config::Config;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::run::{Run, stop_all};
use super::stats::{Seen, Stats};
use super::{failure, plugins};
use crate::error::{ConfigError, PipelineError};
use crate::process::{ForkGuard, wait};

/// A pipeline from a document in TOML, checked as a whole before anything is started.
///
/// `file` stands in messages. `plugins` is an `iotml.Plugins` with stages written in Python.
///
/// Raises `ConfigError` with everything that is wrong with the document, each with its place and line.
#[pyclass(frozen, subclass, weakref, module = "iotml")]
pub struct Pipeline {
    config: Config,
    guard: ForkGuard,
    run: Mutex<Option<Arc<Run>>>,
}

#[pymethods]
impl Pipeline {
    #[new]
    #[pyo3(signature = (text, *, file="pipeline.toml", plugins=None))]
    fn new(py: Python<'_>, text: &str, file: &str, plugins: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let registry = Arc::new(plugins::registry(plugins)?);
        let parsed = py.detach(|| Config::parse(text, Path::new(file), &registry));
        let config = parsed.map_err(|mistakes| failure::of_mistakes(py, &mistakes))?;
        Ok(Self { config, guard: ForkGuard::new(), run: Mutex::new(None) })
    }

    /// Starts all tasks and returns once every one of them receives.
    ///
    /// Raises `PipelineError` where a stage cannot be opened; nothing is left half-started then.
    fn start<'py>(slf: Bound<'py, Self>, py: Python<'py>) -> PyResult<Bound<'py, Self>> {
        let this = slf.get();
        this.guard.check("pipeline")?;
        let run = this.begin(py)?;
        match wait(py, |slice| run.wait_started(slice)) {
            Ok(started) => started.map_err(|error| failure::of_pipeline(py, &error, run.secrets()))?,
            Err(interrupted) => {
                run.stop();
                return Err(interrupted);
            }
        }
        Ok(slf)
    }

    /// Asks the pipeline to stop receiving, to drain what is in flight, and to close; waits for that unless `wait` is false.
    /// Does nothing if it does not run.
    ///
    /// Raises `PipelineError` if it failed.
    #[pyo3(signature = (*, wait=true))]
    fn stop(&self, py: Python<'_>, wait: bool) -> PyResult<()> {
        self.guard.check("pipeline")?;
        let Some(run) = self.run() else { return Ok(()) };
        run.stop();
        if wait {
            self.wait_for(py, &run, None)?;
        }
        Ok(())
    }

    /// Waits until the pipeline has ended, by itself or by `stop`, and returns true; or for at most `timeout` seconds, and
    /// returns whether it has ended. Ctrl-C stops and drains it first; a second one does not wait for that.
    ///
    /// Raises `PipelineError` if it failed; where a plug-in in Python raised something, that is its `__cause__`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.guard.check("pipeline")?;
        let Some(run) = self.run() else {
            return Err(PipelineError::new_err("the pipeline was not started; call start() first"));
        };
        let timeout = timeout.map(|seconds| {
            let seconds = if seconds < 0.0 { 0.0 } else { seconds };
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| PyValueError::new_err(format!("a timeout of {seconds} seconds cannot be waited for")))
        });
        Ok(self.wait_for(py, &run, timeout.transpose()?)?.is_some())
    }

    /// What became of the rows, and how the pipeline is doing.
    fn stats(&self) -> PyResult<Stats> {
        self.guard.check("pipeline")?;
        Ok(match self.run() {
            Some(run) => run.stats(),
            None => Stats::from(Seen {
                audit: Default::default(),
                state: "new",
                is_healthy: true,
                is_ready: false,
                detail: "not started".to_owned(),
                seconds: 0.0,
                rates: (0.0, 0.0),
            }),
        })
    }

    /// The metrics of this run, in the OpenMetrics text format; empty before the start.
    fn metrics(&self) -> PyResult<String> {
        self.guard.check("pipeline")?;
        let text = self.run().map(|run| run.metrics().text()).transpose();
        text.map(Option::unwrap_or_default).map_err(|error| PipelineError::new_err(error.to_string()))
    }

    /// The pipeline as a drawing, without secrets: `text` for a terminal, or `mermaid`.
    #[pyo3(signature = (format="text"))]
    fn graph(&self, format: &str) -> PyResult<String> {
        match format {
            "text" => Ok(cli::text(&self.config)),
            "mermaid" => Ok(cli::mermaid(&self.config)),
            other => {
                Err(PyValueError::new_err(format!("there is no format {other:?}; there are \"text\" and \"mermaid\"")))
            }
        }
    }

    /// Name of the pipeline.
    #[getter]
    fn name(&self) -> &str {
        &self.config.frame.pipeline.name
    }

    /// What a person should look at in the document; none of it stops the pipeline.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.config.warnings.iter().map(ToString::to_string).collect()
    }

    /// The document as JSON, with stars in place of secrets and of everything that came from outside of it.
    #[getter]
    fn config(&self) -> String {
        self.config.redacted().to_string()
    }

    /// `host:port` where metrics and health are served, where the document asks for that and the pipeline was started.
    #[getter]
    fn http(&self) -> Option<String> {
        self.run()?.http().map(|address| address.to_string())
    }
}

impl Pipeline {
    fn begin(&self, py: Python<'_>) -> PyResult<Arc<Run>> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.as_ref().is_some_and(|run| !run.has_ended()) {
            return Err(PipelineError::new_err(format!("pipeline {:?} runs already", self.name())));
        }
        // Without a table the log is the program's own affair, unless the environment asks for it.
        let table = self.config.frame.log.clone();
        if table.is_some() || std::env::var_os("RUST_LOG").is_some() {
            log::init(&table.unwrap_or_default(), self.config.secrets().clone())
                .map_err(|error| ConfigError::new_err(report(&error)))?;
        }
        let begun = Run::begin(&self.config, self.guard)
            .map_err(|error| failure::of_pipeline(py, &error, self.config.secrets()))?;
        *run = Some(begun.clone());
        Ok(begun)
    }

    fn run(&self) -> Option<Arc<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None` where the time is over.
    fn wait_for(&self, py: Python<'_>, run: &Run, timeout: Option<Duration>) -> PyResult<Option<Summary>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let ended = wait(py, |slice| {
            let left = deadline.map_or(slice, |deadline| deadline.saturating_duration_since(Instant::now()).min(slice));
            let ended = run.wait_ended(left);
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if ended.is_some() || is_late { Some(ended) } else { None }
        });
        match ended {
            Ok(Some(ended)) => ended.map(Some).map_err(|error| failure::of_pipeline(py, &error, run.secrets())),
            Ok(None) => Ok(None),
            Err(interrupted) => {
                run.stop();
                // What is in flight is drained, for as long as the configuration says; another Ctrl-C leaves it.
                wait(py, |slice| run.wait_ended(slice))?.ok();
                Err(interrupted)
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that does not exist there.
        if self.guard.is_here()
            && let Some(run) = self.run()
        {
            run.stop();
        }
    }
}

/// Stops and drains all pipelines of this process that still run: called when the interpreter ends, while plug-ins in Python
/// can still be called. A stage that hangs is left behind, and what was in flight is redelivered at the next start.
#[pyfunction]
pub fn stop_pipelines(py: Python<'_>) -> PyResult<()> {
    for run in stop_all() {
        let deadline = Instant::now() + run.patience();
        // A failure at this point has nobody to go to.
        wait(py, |slice| (run.wait_ended(slice).is_some() || Instant::now() >= deadline).then_some(()))?;
    }
    Ok(())
}
