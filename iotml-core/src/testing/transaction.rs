//! A fake of a transaction: what is committed is stored together with how far a log was read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::MemoryLog;
use super::memory::{append, lock};
use crate::batch::Messages;
use crate::sink::{SinkError, Transaction};
use crate::source::SourceOffsets;

/// The transactions of the sinks made for it and of the source of one [`MemoryLog`]; they fail as scripted.
#[derive(Debug)]
pub struct MemoryTransaction {
    log: MemoryLog,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    is_open: bool,
    has_begun: bool,
    staged: Vec<(Arc<Mutex<Messages>>, Messages)>,
    script: VecDeque<CommitFault>,
    n_commits: usize,
    n_aborts: usize,
    is_away: bool,
}

/// How a commit fails.
#[derive(Debug)]
pub enum CommitFault {
    /// With this error, and without effect.
    Refused(SinkError),
    /// With this error, although it was carried out: the answer got lost.
    InDoubt(SinkError),
}

impl MemoryTransaction {
    /// Transactions that commit how far `log` was read.
    pub fn new(log: &MemoryLog) -> Arc<Self> {
        Arc::new(Self { log: log.clone(), inner: Mutex::default(), changed: Notify::new() })
    }

    /// Makes the next commit that has no fault yet fail.
    pub fn script(&self, fault: CommitFault) {
        lock(&self.inner).script.push_back(fault);
    }

    /// Whether the far side is away: then an abort waits until it is back.
    pub fn set_away(&self, is_away: bool) {
        lock(&self.inner).is_away = is_away;
        self.changed.notify_waiters();
    }

    /// Whether one has begun and not ended.
    pub fn has_begun(&self) -> bool {
        lock(&self.inner).has_begun
    }

    /// How many were committed.
    pub fn n_commits(&self) -> usize {
        lock(&self.inner).n_commits
    }

    /// How many were aborted.
    pub fn n_aborts(&self) -> usize {
        lock(&self.inner).n_aborts
    }

    /// Takes rows that are stored in `stored` when the transaction is committed.
    pub(super) fn stage(&self, stored: &Arc<Mutex<Messages>>, rows: Messages) -> Result<(), SinkError> {
        let mut inner = lock(&self.inner);
        if !inner.has_begun {
            return Err(SinkError::fatal("a write outside of a transaction"));
        }
        inner.staged.push((stored.clone(), rows));
        Ok(())
    }
}

#[async_trait]
impl Transaction for MemoryTransaction {
    async fn open(&self) -> Result<(), SinkError> {
        let mut inner = lock(&self.inner);
        if std::mem::replace(&mut inner.is_open, true) {
            return Err(SinkError::fatal("opened twice"));
        }
        Ok(())
    }

    async fn begin(&self) -> Result<(), SinkError> {
        let mut inner = lock(&self.inner);
        if !inner.is_open || std::mem::replace(&mut inner.has_begun, true) {
            return Err(SinkError::fatal("begun before it was open, or twice"));
        }
        Ok(())
    }

    async fn commit(&self, offsets: SourceOffsets) -> Result<(), SinkError> {
        let mut inner = lock(&self.inner);
        if !inner.has_begun {
            return Err(SinkError::fatal("a commit outside of a transaction"));
        }
        let fault = inner.script.pop_front();
        if let Some(CommitFault::Refused(error)) = fault {
            return Err(error);
        }
        for (stored, rows) in inner.staged.drain(..) {
            append(&stored, &rows);
        }
        for next in offsets.next {
            self.log.commit(next.offset as u64);
        }
        inner.n_commits += 1;
        if let Some(CommitFault::InDoubt(error)) = fault {
            return Err(error);
        }
        inner.has_begun = false;
        Ok(())
    }

    async fn abort(&self) -> Result<(), SinkError> {
        loop {
            let changed = self.changed.notified();
            if !lock(&self.inner).is_away {
                break;
            }
            changed.await;
        }
        let mut inner = lock(&self.inner);
        if !std::mem::replace(&mut inner.has_begun, false) {
            return Err(SinkError::fatal("an abort outside of a transaction"));
        }
        inner.staged.clear();
        inner.n_aborts += 1;
        Ok(())
    }
}
