//! A sink written in Python, in a thread of its own.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use iotml_core::async_trait;
use iotml_core::batch::Rejected;
use iotml_core::error::ConfigError;
use iotml_core::pipeline::{TaskContext, Tolerance};
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use pyo3::prelude::*;
use serde_json::Value;
use tokio::sync::oneshot;

use super::answer::Answer;
use super::batch::PyBatch;
use super::exception::{Failed, Raised};
use super::parts::{Parts, in_parts};
use super::stage::{Definition, ENDING, Instance, attached};

/// Calls `open`, `write` and `close` in one thread of its own, one call at a time, so that the task's thread goes on
/// meanwhile, and what must stay in its thread (a SQLite connection) can.
pub struct PythonSink {
    state: Mutex<State>,
    name: &'static str,
}

enum State {
    New(Instance),
    Running {
        requests: Sender<Request>,
        /// Closed once the thread has left Python for good.
        left: oneshot::Receiver<()>,
    },
    Gone,
}

type Reply<T> = oneshot::Sender<Result<T, SinkError>>;

enum Request {
    Open(TaskContext, Reply<()>),
    Write(Outgoing, Reply<Written>),
    Close(Reply<()>),
}

impl PythonSink {
    /// Errs with what the factory raised.
    pub fn new(definition: &Arc<Definition>, config: &Value) -> Result<Self, ConfigError> {
        let instance = Instance::new(definition, config)?;
        Ok(Self { name: instance.name(), state: Mutex::new(State::New(instance)) })
    }

    /// Starts the thread.
    fn start(&self) -> Result<(), SinkError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = match std::mem::replace(&mut *state, State::Gone) {
            State::New(instance) => instance,
            running => {
                *state = running;
                return Ok(());
            }
        };
        let (requests, waiting) = channel::<Request>();
        let (leaves, left) = oneshot::channel();
        let mut writer = Writer { instance, tolerance: Tolerance::default() };
        let work = move || {
            // One thread state for all calls, so that what Python keeps by thread stays.
            attached(|py| {
                py.detach(|| {
                    waiting.into_iter().for_each(|request| writer.serve(request));
                    drop(writer);
                });
            });
            drop(leaves);
        };
        let started = thread::Builder::new().name(format!("sink-{}", self.name)).spawn(work);
        started.map_err(|error| SinkError::fatal_from("no thread can be started for it", error))?;
        *state = State::Running { requests, left };
        Ok(())
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SinkError> {
        let gone = || SinkError::fatal("its thread has ended");
        let (reply, answer) = oneshot::channel();
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Running { requests, .. } => requests.send(request(reply)).map_err(|_| gone())?,
            State::New(_) => return Err(SinkError::fatal("it is not open")),
            State::Gone => return Err(gone()),
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

#[async_trait]
impl Sink for PythonSink {
    async fn open(&self, task: &TaskContext) -> Result<(), SinkError> {
        self.start()?;
        self.ask(|reply| Request::Open(task.clone(), reply)).await
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        self.ask(|reply| Request::Write(rows, reply)).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        let closed = self.ask(Request::Close).await;
        let state = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Gone);
        if let State::Running { requests, left } = state {
            drop(requests);
            // A thread that comes back to Python while the interpreter ends is ended by force, in the middle of its frames.
            let _ = left.await;
        }
        closed
    }
}

/// The part that lives in the thread.
struct Writer {
    instance: Instance,
    tolerance: Tolerance,
}

impl Writer {
    fn serve(&mut self, request: Request) {
        // A reply that nobody waits for any more is that of a write which was given up.
        match request {
            Request::Open(task, reply) => drop(reply.send(self.open(&task))),
            Request::Write(rows, reply) => drop(reply.send(self.write(&rows))),
            Request::Close(reply) => drop(reply.send(self.close())),
        }
    }

    fn open(&mut self, task: &TaskContext) -> Result<(), SinkError> {
        self.tolerance = task.tolerance;
        let opened = attached(|py| self.instance.open(py, task).map_err(|exception| Raised::new(py, exception)));
        match opened {
            Some(opened) => opened.map_err(|raised| SinkError::fatal_from("open(task) failed", raised)),
            None => Err(SinkError::fatal(ENDING)),
        }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let closed = attached(|py| self.instance.close(py).map_err(|exception| Raised::new(py, exception)));
        match closed {
            Some(closed) => closed.map_err(|raised| SinkError::fatal_from("close() failed", raised)),
            None => Err(SinkError::fatal(ENDING)),
        }
    }

    fn write(&self, rows: &Outgoing) -> Result<Written, SinkError> {
        if rows.is_empty() {
            return Ok(Written::default());
        }
        let written = attached(|py| self.write_parts(py, rows));
        let parts = written.ok_or_else(|| SinkError::fatal(ENDING))?.map_err(|failed| match failed {
            Failed::Rows(raised) => SinkError::Record(raised.into_cause()),
            Failed::Later(raised) => SinkError::retryable_from("write(batch) failed, and may succeed later", raised),
            Failed::Fatal(error) => SinkError::fatal_from("write(batch) failed", error),
        })?;
        let mut whole = Written { rejected: parts.rejected, retryable: Vec::new() };
        for (part, answer) in parts.good {
            let shifted = |row: Rejected| Rejected { row: row.row + part.start as u32, ..row };
            whole.rejected.extend(answer.rejected.into_iter().map(shifted));
            whole.retryable.extend(answer.retryable.into_iter().map(shifted));
        }
        whole.rejected.sort_by_key(|row| row.row);
        whole.retryable.sort_by_key(|row| row.row);
        Ok(whole)
    }

    fn write_parts(&self, py: Python<'_>, rows: &Outgoing) -> Result<Parts<Answer>, Failed> {
        in_parts(rows.len(), self.tolerance, false, |part| {
            if part.len() == rows.len() {
                return self.call(py, rows.clone());
            }
            let picked: Vec<u32> = (part.start as u32..part.end as u32).collect();
            let batch = rows.batch.take(&picked).map_err(|error| Failed::Fatal(error.into()))?;
            self.call(py, Outgoing { batch, messages: Arc::new(rows.messages.take(&picked)) })
        })
    }

    fn call(&self, py: Python<'_>, rows: Outgoing) -> Result<Answer, Failed> {
        let raised = |exception| Failed::raised(py, exception, true);
        let batch = rows.batch.clone();
        let given = Bound::new(py, PyBatch::outgoing(rows)).map_err(raised)?.into_any();
        let answer = self.instance.call(py, given).map_err(raised)?;
        let answer = Answer::of_write(&answer, &batch).map_err(Failed::broke)?;
        let is_both = |row: &Rejected| answer.retryable.iter().any(|other| other.row == row.row);
        match answer.rejected.iter().find(|row| is_both(row)) {
            Some(row) => Err(Failed::broke(format!("write(batch) both rejects and retries row {}", row.row))),
            None => Ok(answer),
        }
    }
}
