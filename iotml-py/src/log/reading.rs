//! A read as Python sees it: an iterator of batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::assemble::Assembler;
use super::batch::{Cut, LogBatch, Shape};
use super::block::Block;
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
    /// Blocks that were begun: one, or one a thread where several iterate.
    cuts: VecDeque<Cut>,
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
        let state = State { worker: Some(worker), cuts: VecDeque::new(), snapshot: Arc::default() };
        let follows = max_delay.is_some();
        Ok(Self { state: Mutex::new(state), shape, batch_rows, follows, guard: ForkGuard::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next block, `None` at the end. Takes the state with the GIL released, so that two threads which iterate cannot block
    /// each other; all that becomes of it is settled before another one can ask.
    fn hand(&self, py: Python<'_>) -> PyResult<Option<Result<Block, Failure>>> {
        wait(py, |slice| {
            let mut state = self.lock();
            let Some(worker) = &state.worker else { return Some(None) };
            Some(match worker.next(slice)? {
                Handed::Block(block) => {
                    state.snapshot = block.snapshot.clone();
                    Some(Ok(block))
                }
                Handed::End(snapshot) => {
                    (state.worker, state.snapshot) = (None, Arc::from(snapshot));
                    None
                }
                Handed::Failed(failure) => {
                    state.worker = None;
                    Some(Err(failure))
                }
            })
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
            if let Some(batch) = self.cut(py)? {
                return Ok(Some(batch));
            }
            match self.hand(py)? {
                Some(Ok(block)) => {
                    let cut = Cut::new(py, block, self.shape)?;
                    self.lock().cuts.push_back(cut);
                }
                Some(Err(failure)) => return Err(failure.raise(py)),
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
        state.worker = None;
        state.cuts.clear();
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
    /// The next batch of the blocks that were begun.
    fn cut(&self, py: Python<'_>) -> PyResult<Option<LogBatch>> {
        loop {
            // Not held while Python works.
            let Some(mut cut) = self.lock().cuts.pop_front() else { return Ok(None) };
            if let Some(batch) = cut.next(py, self.batch_rows)? {
                self.lock().cuts.push_front(cut);
                return Ok(Some(batch));
            }
        }
    }

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
