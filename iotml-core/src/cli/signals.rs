//! SIGINT and SIGTERM: the first asks for a graceful stop, the second ends the process. SIGUSR1 asks the instance to leave for
//! good; a stop is still possible then.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What a signal wishes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Drain and stop; the sessions wait for the next start.
    Stop,
    /// Take leave of the far side, then stop: this instance does not come back.
    Leave,
}

/// Calls `stop` at the first signal from now on; the result becomes true just before. A second SIGINT or SIGTERM ends the process.
pub fn on_signal(stop: impl Fn() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    watch(move |_| stop())
}

/// Calls `obey` at each signal from now on; the result becomes true just before the first.
pub(super) fn watch(obey: impl Fn(Wish) + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        // Handlers are installed here, before anything is started, and not in the thread some time later.
        let _guard = runtime.enter();
        Signals::new()?
    };
    let came = Arc::new(AtomicBool::new(false));
    let coming = came.clone();
    let waiting = move || {
        runtime.block_on(async {
            loop {
                let wish = signals.next().await;
                coming.store(true, Ordering::SeqCst);
                obey(wish);
                match wish {
                    Wish::Leave => {
                        tracing::warn!("leaving: receiving what is still meant for this instance, and draining")
                    }
                    Wish::Stop => break,
                }
            }
            tracing::warn!("stopping: draining what is in flight; a second signal ends the process at once");
            while signals.next().await != Wish::Stop {}
            tracing::warn!("ended by a second signal; what was in flight is redelivered at the next start");
            process::exit(1);
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(waiting)?;
    Ok(came)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    leave: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            leave: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.leave.recv() => Wish::Leave,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Wish {
        let _ = tokio::signal::ctrl_c().await;
        Wish::Stop
    }
}
