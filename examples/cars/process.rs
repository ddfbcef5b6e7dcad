//! What every example program does at its start and at its end.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use iotml_core::pipeline::{PipelineError, PipelineHandle, Summary};
use tokio::sync::watch;

/// Why a program ends early; `iotml_core::error::report` prints it with its causes.
pub use iotml_core::error::BoxError as Failure;

/// Whether a run is to end early. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Default for Stop {
    /// Not asked for.
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    /// Asked for by the next Ctrl-C, which from now on does not end the process any more.
    ///
    /// Errs where the system allows no thread or no handler.
    pub fn at_interrupt() -> io::Result<Self> {
        let stop = Self::default();
        let asking = stop.clone();
        at_interrupt(move || asking.ask())?;
        Ok(stop)
    }

    /// Asks the run to end.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Whether the run is to end.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Becomes true when the run is to end.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// Calls `act` at the next Ctrl-C, in a thread that otherwise ends with the process.
fn at_interrupt(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            act();
        }
    };
    thread::Builder::new().name("interrupt".to_owned()).spawn(wait)?;
    Ok(())
}

/// Raises the limit of open files to what so many connections need: a thousand of them pass the usual 1,024.
///
/// Errs with what to do where the system's hard limit is lower.
pub fn raise_open_files(n_connections: u64) -> io::Result<()> {
    // The broker of a demo holds the other end of each connection in the same process.
    let wanted = 2 * n_connections + 1_000;
    let got = rlimit::increase_nofile_limit(wanted)?;
    if got < wanted {
        let message =
            format!("{n_connections} connections need {wanted} open files and the limit is {got}: raise ulimit -n");
        return Err(io::Error::other(message));
    }
    Ok(())
}

/// Seconds since 1970, for names that differ from run to run.
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Runs a pipeline until it ends by itself, the time is over, or Ctrl-C; then lets it drain.
pub fn run_for(handle: PipelineHandle, seconds: Option<u64>) -> Result<Summary, PipelineError> {
    let (control, interrupted) = (handle.control(), handle.control());
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // Where no handler can be installed, Ctrl-C ends the process, and what was in flight comes again at the next start.
    let _ = at_interrupt(move || interrupted.end());
    if let Some(deadline) = deadline {
        thread::spawn(move || {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            control.end();
        });
    }
    handle.wait()
}
