//! Balances of workers beside what their topics gained meanwhile.

use std::fmt;
use std::sync::Arc;

use iotml_core::pipeline::Audit;
use tokio::sync::Mutex;

use crate::proxy::Proxy;
use crate::topics::Counter;

/// The workers that write to the same topics. A shift is the time from the first that comes to the last that goes.
#[derive(Debug)]
pub struct Crew {
    /// Where what they deliver goes, and what they dead-letter.
    delivered: Counter,
    dead_lettered: Option<Counter>,
    /// Their connections, cut behind one that is dead so that nothing of it arrives late.
    proxies: Vec<Arc<Proxy>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    n_present: usize,
    began: Option<Rows>,
    ended: Vec<Audit>,
    is_spoilt: bool,
    shifts: Vec<Shift>,
}

/// Rows in the topics of a crew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub delivered: u64,
    pub dead_lettered: u64,
}

/// A shift whose workers all ended in good order, and whose topics were counted before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The sum of the balances that the workers ended with.
    pub audit: Audit,
    /// What the topics gained.
    pub gained: Rows,
}

impl Shift {
    /// Whether the balance is what the topics say.
    pub fn is_true(&self) -> bool {
        let Audit { delivered, dead_lettered, in_flight, .. } = self.audit;
        self.audit.balances() && in_flight == 0 && Rows { delivered, dead_lettered } == self.gained
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rows { delivered, dead_lettered } = self.gained;
        write!(f, "{}; the topics gained {delivered} and {dead_lettered}", self.audit)
    }
}

impl Crew {
    /// A crew without workers.
    pub fn new(delivered: Counter, dead_lettered: Option<Counter>, proxies: Vec<Arc<Proxy>>) -> Arc<Self> {
        Arc::new(Self { delivered, dead_lettered, proxies, state: Mutex::default() })
    }

    /// A worker is about to start.
    pub async fn joins(&self) {
        let mut state = self.state.lock().await;
        if state.n_present == 0 {
            state.ended.clear();
            state.is_spoilt = false;
            state.began = self.rows().await;
        }
        state.n_present += 1;
    }

    /// A worker is gone: in good order with its balance, or without.
    pub async fn leaves(&self, ended: Option<Audit>) {
        let mut state = self.state.lock().await;
        state.n_present -= 1;
        match ended {
            Some(audit) => state.ended.push(audit),
            None => state.is_spoilt = true,
        }
        if state.n_present > 0 {
            return;
        }
        if state.is_spoilt {
            return self.proxies.iter().for_each(|proxy| proxy.cut());
        }
        if let (Some(before), Some(after)) = (state.began, self.rows().await) {
            let gained = Rows {
                delivered: after.delivered - before.delivered,
                dead_lettered: after.dead_lettered - before.dead_lettered,
            };
            let audit = state.ended.iter().fold(Audit::default(), |sum, audit| sum + *audit);
            state.shifts.push(Shift { audit, gained });
        }
    }

    /// The shifts that can be compared.
    pub async fn shifts(&self) -> Vec<Shift> {
        self.state.lock().await.shifts.clone()
    }

    /// `None` where Kafka does not answer. Asked until the answer stays the same: what a dead worker left in Kafka's sockets
    /// may still be arriving.
    async fn rows(&self) -> Option<Rows> {
        let mut last = self.ask().await?;
        loop {
            let rows = self.ask().await?;
            if rows == last {
                return Some(rows);
            }
            last = rows;
        }
    }

    async fn ask(&self) -> Option<Rows> {
        let dead_lettered = match &self.dead_lettered {
            Some(counter) => counter.n_rows().await?,
            None => 0,
        };
        Some(Rows { delivered: self.delivered.n_rows().await?, dead_lettered })
    }
}
