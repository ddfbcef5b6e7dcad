//! What every example program does at its start and at its end.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use iotml_core::pipeline::{PipelineError, PipelineHandle, Summary};

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
    let stop = handle.stopper();
    let stop_at_interrupt = handle.stopper();
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // Ends with the process: it waits for a signal that may never come.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            stop_at_interrupt();
        }
    });
    if let Some(deadline) = deadline {
        thread::spawn(move || {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            stop();
        });
    }
    handle.wait()
}
