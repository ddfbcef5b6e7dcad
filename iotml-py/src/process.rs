//! Waiting without the GIL, Ctrl-C while waiting, and processes that forked.

use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pyo3::{PyResult, Python};

use crate::error::{ForkedError, IotmlError};

/// The longest wait between two looks for a signal: Ctrl-C is to be felt within 200 ms.
pub const SLICE: Duration = Duration::from_millis(100);

/// The process in which a native handle was opened. Threads and sockets do not survive a fork, so a handle is of no use in a
/// child, and using it there would hang.
#[derive(Clone, Copy, Debug)]
pub struct ForkGuard(u32);

impl ForkGuard {
    /// Of this process.
    pub fn new() -> Self {
        Self(process::id())
    }

    /// Refuses the use of `what` in another process than the one that opened it.
    pub fn check(self, what: &str) -> PyResult<()> {
        if self.0 == process::id() {
            return Ok(());
        }
        Err(ForkedError::new_err(format!(
            "this {what} was opened by process {}, and its threads did not survive the fork into process {}: open another \
             one in the child, or start it with multiprocessing's \"spawn\"",
            self.0,
            process::id()
        )))
    }

    /// Whether this is still the process that opened the handle.
    pub fn is_here(self) -> bool {
        self.0 == process::id()
    }
}

/// Calls `step` without the GIL until it gives something. Each call may take [`SLICE`]; between two of them Python handles
/// its signals, so Ctrl-C raises `KeyboardInterrupt` here.
pub fn wait<T: Send>(py: Python<'_>, mut step: impl FnMut(Duration) -> Option<T> + Send) -> PyResult<T> {
    loop {
        if let Some(done) = py.detach(|| step(SLICE)) {
            return Ok(done);
        }
        py.check_signals()?;
    }
}

/// What comes on `receiver`, waited for like that; `what` is what its sender does, for the message if it dies of a defect.
pub fn receive<T: Send>(py: Python<'_>, mut receiver: Receiver<T>, what: &str) -> PyResult<T> {
    let receiver = &mut receiver;
    let received = wait(py, move |slice| match receiver.recv_timeout(slice) {
        Ok(done) => Some(Some(done)),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(None),
    })?;
    received.ok_or_else(|| IotmlError::new_err(format!("the thread that {what} died of a defect of iotml")))
}

/// Does `work`, which may block for long, in a thread of its own, which Ctrl-C leaves behind: it must end by itself.
pub fn apart<T: Send + 'static>(py: Python<'_>, what: &str, work: impl FnOnce() -> T + Send + 'static) -> PyResult<T> {
    let (sender, receiver) = channel();
    let spawned = thread::Builder::new().name("iotml-apart".to_owned()).spawn(move || drop(sender.send(work())));
    spawned.map_err(|error| IotmlError::new_err(format!("no thread can be started that {what}: {error}")))?;
    receive(py, receiver, what)
}
