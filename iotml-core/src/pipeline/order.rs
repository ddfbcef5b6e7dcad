//! What a task is told from outside while it runs.

/// What a task is to do. It stands in a watch channel, of which the task sees the newest only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// What it is to do until told otherwise.
    pub target: Target,
    /// Grows by one each time the task is to begin anew.
    pub n_restarts: u64,
    /// For good: drain, close and end.
    pub ends: bool,
    /// With `ends`: also take leave of the far side, which is to keep nothing for this task.
    pub leaves: bool,
}

/// What a task is to do until told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Target {
    /// Receive.
    #[default]
    Running,
    /// Keep its connections, receive nothing.
    Paused,
    /// Close its stages, and wait.
    Stopped,
}

impl Order {
    /// Whether stages that were opened under this order are to be closed under a newer one.
    pub fn is_over(self, newer: Order) -> bool {
        newer.ends || newer.target == Target::Stopped || newer.n_restarts != self.n_restarts
    }
}
