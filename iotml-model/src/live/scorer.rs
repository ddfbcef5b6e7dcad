//! The scorer whose models change.

use std::sync::Arc;

use iotml_core::async_trait;
use iotml_core::batch::{Batch, StageOutput};
use iotml_core::pipeline::TaskContext;
use iotml_core::score::{ScoreError, Scorer};
use iotml_core::state::Stateful;

use super::follower::Follower;
use super::lineup::Lineup;
use super::seat::Seat;

/// Scores rows with the models that a [`Follower`] hands it, and appends what an [`OnnxScorer`](crate::OnnxScorer) does.
///
/// It opens once it has a first model, after everything announced before has been read. Each batch is scored by the versions
/// that are in force when it comes, each row by one of them, which it names (invariant 8).
pub struct LiveScorer {
    follower: Follower,
    seat: Option<Arc<Seat>>,
    lineup: Lineup,
}

impl LiveScorer {
    pub(super) fn new(follower: Follower) -> Self {
        LiveScorer { follower, seat: None, lineup: Lineup::default() }
    }
}

impl Drop for LiveScorer {
    fn drop(&mut self) {
        self.lineup.leave();
    }
}

#[async_trait]
impl Scorer for LiveScorer {
    async fn open(&mut self, task: &TaskContext) -> Result<(), ScoreError> {
        let seat = self.follower.sit(task)?;
        let help = "Batches that a shadow model failed to score.";
        self.lineup.shadow_failures = task.metrics.counter("iotml_score_shadow_failures", help, &[]);
        seat.attend(&mut self.lineup, None);
        while self.lineup.is_empty() {
            seat.changed().await;
            seat.attend(&mut self.lineup, None);
        }
        self.seat = Some(seat);
        Ok(())
    }

    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        let Some(seat) = &self.seat else { return Err(ScoreError::fatal("the scorer is not open")) };
        seat.attend(&mut self.lineup, Some(&batch));
        let (config, limit) = self.follower.limits();
        // A batch that a model does not bear comes again until the loader has found another, or somebody has announced one.
        self.lineup.prove(&batch, config, limit, |id, refused| seat.refuse(id, refused))?;
        self.lineup.score(batch)
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        let remembers = if self.lineup.is_empty() { self.follower.remembers() } else { self.lineup.remembers() };
        remembers.then_some(&mut self.lineup as &mut dyn Stateful)
    }
}
