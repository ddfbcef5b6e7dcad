//! The thread that reads: fetch, decode and assemble, ahead of whoever takes the blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::assemble::Assembler;
use super::block::Block;
use super::failure::Failure;
use super::rows::{RowSource, Step};
use super::stats::Snapshot;

/// How long the thread sits on a source before it looks whether anyone still wants the rows.
const TICK: Duration = Duration::from_millis(50);

/// Blocks that wait to be taken; the thread stops reading while they do.
const AHEAD: usize = 2;

/// What the thread hands over.
pub enum Handed {
    Block(Block),
    /// Everything was read.
    End(Box<Snapshot>),
    /// Nothing more will come.
    Failed(Failure),
}

/// A read in a thread of its own, which ends when this is dropped.
pub struct Worker {
    receiver: Receiver<Handed>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the thread, which opens the source itself. With a `max_delay`, a block is handed over that long after its first
    /// row, full or not.
    pub fn start(
        open: impl FnOnce() -> Result<Box<dyn RowSource>, Failure> + Send + 'static,
        assembler: Assembler,
        max_delay: Option<Duration>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            let work = Work { assembler, max_delay, sender: &sender, stop: &stopped };
            if let Err(failure) = open().and_then(|source| work.run(source)) {
                // Without anyone who takes it, it is no matter any more.
                let _ = sender.send(Handed::Failed(failure));
            }
        };
        thread::Builder::new().name("iotml-log".to_owned()).spawn(work)?;
        Ok(Self { receiver, stop })
    }

    /// What comes next, if it comes within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Handed> {
        match self.receiver.recv_timeout(timeout) {
            Ok(handed) => Some(handed),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Handed::Failed(Failure::Died)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct Work<'a> {
    assembler: Assembler,
    max_delay: Option<Duration>,
    sender: &'a SyncSender<Handed>,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    fn run(mut self, mut source: Box<dyn RowSource>) -> Result<(), Failure> {
        while !self.stop.load(Ordering::Acquire) {
            let tick = self.left().map_or(TICK, |left| left.min(TICK));
            match source.next(self.assembler.room(), tick)? {
                Step::Rows(rows) => self.assembler.push(rows, source.as_ref())?,
                Step::Idle => {}
                Step::End => {
                    if self.assembler.since().is_some() && !self.hand_over(source.as_ref()) {
                        return Ok(());
                    }
                    let end = self.assembler.finish(source.as_ref())?;
                    let _ = self.sender.send(Handed::End(Box::new(end)));
                    return Ok(());
                }
            }
            let is_due = self.left().is_some_and(|left| left.is_zero());
            if (self.assembler.room() == 0 || is_due) && !self.hand_over(source.as_ref()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How long the block may still grow.
    fn left(&self) -> Option<Duration> {
        Some(self.max_delay?.saturating_sub(self.assembler.since()?.elapsed()))
    }

    /// Whether there is still someone who takes it.
    fn hand_over(&mut self, source: &dyn RowSource) -> bool {
        let block = self.assembler.take(source);
        self.sender.send(Handed::Block(block)).is_ok()
    }
}
