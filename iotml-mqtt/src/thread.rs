//! A thread with a runtime of its own, so that keep-alives do not depend on the pipeline.

use std::io;

/// Runs `work` to its end on a new thread called `mqtt <name>`.
pub(crate) fn spawn(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("mqtt {name}")).spawn(move || runtime.block_on(work))?;
    Ok(())
}
