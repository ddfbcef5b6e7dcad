//! A read as Python sees it: an iterator of batches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::assemble::Assembler;
use super::batch::{Cut, LogBatch, Shape};
use super::failure::Failure;
use super::rows::RowSource;
use super::stats::{LogStats, Snapshot};
use super::worker::{Handed, Worker};
use crate::error::SourceError;
use crate::process::{ForkGuard, wait};

/// A read that goes on: an iterator of batches, filled ahead by a thread of its own.
///
/// It ends, and its thread with it, when everything was read, on an error, when it is closed, and when nobody holds it any
/// more. A process that was forked off must begin a read of its own.
#[pyclass(frozen, module = "iotml")]
pub struct LogRead {
    state: Mutex<State>,
    shape: Shape,
    batch_rows: usize,
    follows: bool,
    guard: ForkGuard,
}

struct State {
    worker: Option<Worker>,
    cut: Option<Cut>,
    snapshot: Arc<Snapshot>,
}

impl LogRead {
    pub fn start(
        open: impl FnOnce() -> Result<Box<dyn RowSource>, Failure> + Send + 'static,
        assembler: Assembler,
        (shape, batch_rows, max_delay): (Shape, usize, Option<Duration>),
    ) -> PyResult<Self> {
        let worker = Worker::start(open, assembler, max_delay);
        let worker = worker.map_err(|error| SourceError::new_err(format!("no thread can be started: {error}")))?;
        let state = State { worker: Some(worker), cut: None, snapshot: Arc::default() };
        let follows = max_delay.is_some();
        Ok(Self { state: Mutex::new(state), shape, batch_rows, follows, guard: ForkGuard::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the state with the GIL released, so that two threads which iterate cannot block each other.
    fn hand(&self, py: Python<'_>) -> PyResult<Option<Handed>> {
        wait(py, |slice| {
            let state = self.lock();
            match &state.worker {
                None => Some(None),
                Some(worker) => worker.next(slice).map(Some),
            }
        })
    }
}

#[pymethods]
impl LogRead {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The next batch. Ctrl-C is honoured while it is waited for.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<LogBatch>> {
        self.guard.check("read of the log")?;
        loop {
            let mut cut = self.lock().cut.take();
            if let Some(rest) = &mut cut
                && let Some(batch) = rest.next(py, self.batch_rows)?
            {
                self.lock().cut = cut;
                return Ok(Some(batch));
            }
            match self.hand(py)? {
                Some(Handed::Block(block)) => {
                    let snapshot = block.snapshot.clone();
                    let cut = Cut::new(py, block, self.shape)?;
                    let mut state = self.lock();
                    (state.cut, state.snapshot) = (Some(cut), snapshot);
                }
                Some(Handed::End(snapshot)) => {
                    let mut state = self.lock();
                    (state.worker, state.snapshot) = (None, Arc::from(snapshot));
                }
                Some(Handed::Failed(failure)) => {
                    self.lock().worker = None;
                    return Err(failure.raise(py));
                }
                None => return Ok(None),
            }
        }
    }

    /// What became of the rows, as of the batches that were handed out.
    fn stats(&self) -> PyResult<LogStats> {
        self.guard.check("read of the log")?;
        Ok(LogStats::from(self.lock().snapshot.as_ref()))
    }

    /// Whether it goes on without an end.
    #[getter]
    fn follows(&self) -> bool {
        self.follows
    }

    /// Ends the read; nothing more comes.
    fn close(&self) -> PyResult<()> {
        self.guard.check("read of the log")?;
        let mut state = self.lock();
        (state.worker, state.cut) = (None, None);
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = self.lock();
        let progress = &state.snapshot.progress;
        let total = progress.n_offsets_total.map(|total| format!(" of {total}")).unwrap_or_default();
        format!("<LogRead: {} rows, {}{total} offsets>", state.snapshot.n_rows, progress.n_offsets)
    }
}

impl LogRead {
    /// For a stream of Arrow batches instead of NumPy arrays, which takes the thread over.
    pub fn take_worker(&self) -> PyResult<Option<Worker>> {
        self.guard.check("read of the log")?;
        Ok(self.lock().worker.take())
    }

    /// Takes note of how far whoever took the thread over is.
    pub fn note(&self, snapshot: Arc<Snapshot>) {
        self.lock().snapshot = snapshot;
    }
}

impl Drop for LogRead {
    fn drop(&mut self) {
        if !self.guard.is_here()
            && let Ok(mut state) = self.state.try_lock()
        {
            // Its thread did not survive the fork, and the channel may be locked by it for good.
            std::mem::forget(state.worker.take());
        }
    }
}
