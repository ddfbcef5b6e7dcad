//! SIGINT and SIGTERM: the first asks for a graceful stop, the second ends the process.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Calls `stop` at the first SIGINT or SIGTERM from now on; the result becomes true just before. The second signal ends the
/// process.
pub fn watch(stop: impl Fn() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
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
            signals.next().await;
            coming.store(true, Ordering::SeqCst);
            stop();
            tracing::warn!("stopping: draining what is in flight; a second signal ends the process at once");
            signals.next().await;
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
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
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

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
