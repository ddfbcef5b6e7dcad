//! One task over all its restarts: opens stages, lets them run, and decides what comes when they are closed again.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use backon::ExponentialBackoff;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::board::{Board, SupervisorMetrics};
use super::control::Steering;
use super::order::{Order, Target};
use super::retry::growing;
use super::task::{Lived, Task};
use super::{BuildTask, PipelineError, PipelineOptions, TaskContext, TaskStages};
use crate::plugin::BuildContext;
use crate::state::StateStore;

/// The first pause before a restart.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a task's thread needs.
pub(super) struct Supervisor {
    pub context: TaskContext,
    pub options: PipelineOptions,
    pub state: Option<Arc<dyn StateStore>>,
    pub build: Arc<BuildTask>,
    pub steering: Arc<Steering>,
    pub orders: watch::Receiver<Order>,
    pub metrics: SupervisorMetrics,
    /// For waiting without stages, which have a runtime of their own each time.
    pub idle: Runtime,
    /// The stages of the life that was begun last have been opened.
    pub is_open: bool,
}

/// A task that ended in failure, and when.
#[derive(Debug)]
pub(super) struct Failed {
    pub error: Box<PipelineError>,
    pub at: Instant,
}

impl Failed {
    fn now(error: PipelineError) -> Self {
        Self { error: Box::new(error), at: Instant::now() }
    }
}

impl Supervisor {
    /// Runs to the end of the task. `opened` is told when its first stages are open; a failure before that is final.
    ///
    /// Returns whether everything in flight was drained.
    pub fn run(mut self, stages: TaskStages, opened: mpsc::Sender<()>) -> Result<bool, Failed> {
        let ended = self.live_on(stages, opened);
        self.board().ended();
        self.steering.settle();
        ended
    }

    /// One life after the other.
    fn live_on(&mut self, stages: TaskStages, opened: mpsc::Sender<()>) -> Result<bool, Failed> {
        let (mut stages, mut opened) = (Some(stages), Some(opened));
        let mut budget = Budget::new(&self.options);
        loop {
            let began = Instant::now();
            let under = *self.orders.borrow_and_update();
            let lived = self.live(under, stages.take(), &mut opened);
            let now = *self.orders.borrow_and_update();
            match lived {
                Err(error) if opened.is_some() => return Err(self.fail(error)),
                // What was not done in time is shown as in flight: that is how the pipeline ends.
                Err(error) if now.ends => return Err(self.fail(error)),
                // An order to leave may have come when it was closed already for another reason.
                Ok(lived) if (now.ends || lived.has_ended) && (lived.has_left || !now.leaves) => {
                    return Ok(lived.is_drained);
                }
                Err(error) if now.target != Target::Stopped => {
                    self.give_back();
                    // A far side that was there before and is away costs no restart: to begin anew helps as soon as it is back.
                    let pause = match !self.is_open && error.is_retryable() {
                        true => Some(budget.next_pause()),
                        false => budget.pause(began.elapsed()).filter(|_| may_pass(&error)),
                    };
                    match pause {
                        Some(pause) => self.pause_after(error, pause, now)?,
                        None => {
                            self.wait_failed(error, now)?;
                            budget = Budget::new(&self.options);
                        }
                    }
                }
                stopped => {
                    self.give_back();
                    if let Err(error) = stopped {
                        tracing::warn!(error = error.report(), "the task failed while it was being stopped");
                    }
                    budget = Budget::new(&self.options);
                }
            }
            if self.orders.borrow().target == Target::Stopped && !self.wait_stopped() {
                return Ok(true);
            }
            self.board().begins_anew();
            self.metrics.begins_anew();
        }
    }

    /// Opens stages, and runs them until they are closed or fail.
    fn live(
        &mut self,
        under: Order,
        stages: Option<TaskStages>,
        opened: &mut Option<mpsc::Sender<()>>,
    ) -> Result<Lived, PipelineError> {
        let number = self.context.task;
        self.is_open = false;
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let stages = match stages {
                Some(stages) => stages,
                None => self.fresh_stages()?,
            };
            let runtime = runtime().map_err(PipelineError::Spawn)?;
            let (state, board) = (self.state.clone(), self.board().clone());
            let mut task = Task::new(self.context.clone(), self.options.clone(), stages, state, board);
            runtime.block_on(async {
                let mut orders = self.orders.clone();
                let is_open = tokio::select! {
                    biased;
                    opened = task.open() => opened.map(|()| true),
                    // A stage may wait for long for what the far side does not give.
                    () = is_over(&mut orders, under, self.options.drain_timeout) => Ok(false),
                };
                if !matches!(is_open, Ok(true)) {
                    task.give_up().await;
                }
                if !is_open? {
                    // Only stages that are open can take leave.
                    return match under.leaves {
                        true => Err(PipelineError::Stayed(0)),
                        false => Ok(Lived { is_drained: true, has_ended: false, has_left: false }),
                    };
                }
                self.is_open = true;
                self.board().opened();
                self.metrics.opened();
                if let Some(opened) = opened.take() {
                    let _ = opened.send(());
                }
                task.run(self.orders.clone(), under).await
            })
        }));
        lived.unwrap_or_else(|panic| {
            Err(PipelineError::Panicked { task: number, message: panic_message(panic.as_ref()).to_owned() })
        })
    }

    fn fresh_stages(&self) -> Result<TaskStages, PipelineError> {
        let TaskContext { pipeline, task, n_tasks, .. } = &self.context;
        let context = BuildContext { pipeline: pipeline.clone(), task: *task, n_tasks: *n_tasks };
        Ok((self.build)(&context)?)
    }

    /// Waits before the next try, unless somebody has something else in mind.
    fn pause_after(&mut self, error: PipelineError, pause: Duration, now: Order) -> Result<(), Failed> {
        let report = error.report();
        self.board().restarting(report.clone());
        let TaskContext { pipeline, task, .. } = &self.context;
        tracing::warn!(pipeline = &**pipeline, task, ?pause, error = report, "the task failed and is restarted");
        match self.wait_for_change(now, Some(pause)) {
            Order { ends: true, leaves: false, .. } => Err(self.fail(error)),
            _ => Ok(()),
        }
    }

    /// The budget is spent: waits until somebody wants a restart, a stop, or the end.
    fn wait_failed(&mut self, error: PipelineError, now: Order) -> Result<(), Failed> {
        let report = error.report();
        let failed = self.fail(error);
        let TaskContext { pipeline, task, .. } = &self.context;
        tracing::error!(pipeline = &**pipeline, task, error = report, "the task failed and is not restarted");
        match self.wait_for_change(now, None) {
            Order { ends: true, leaves: false, .. } => Err(failed),
            _ => Ok(()),
        }
    }

    /// Waits with closed stages; whether the task goes on then.
    fn wait_stopped(&mut self) -> bool {
        self.board().stopped();
        loop {
            let order = *self.orders.borrow_and_update();
            if order.ends && !order.leaves {
                return false;
            }
            if order.ends || order.target != Target::Stopped {
                return true;
            }
            self.wait_for_change(order, None);
        }
    }

    /// Waits until the order differs from `seen` in what concerns a task without stages, at most `timeout`.
    fn wait_for_change(&mut self, seen: Order, timeout: Option<Duration>) -> Order {
        let is_stopped = |order: &Order| order.target == Target::Stopped;
        let differs =
            |order: &Order| order.ends || order.n_restarts != seen.n_restarts || is_stopped(order) != is_stopped(&seen);
        let orders = &mut self.orders;
        self.idle.block_on(async {
            // `steering` holds the sender, so only a change ends this.
            let changed = orders.wait_for(differs);
            match timeout {
                Some(timeout) => drop(tokio::time::timeout(timeout, changed).await),
                None => drop(changed.await),
            }
        });
        *self.orders.borrow_and_update()
    }

    fn give_back(&self) {
        self.metrics.returned(self.board().give_back());
    }

    fn fail(&self, error: PipelineError) -> Failed {
        self.board().failed(error.report());
        self.metrics.failed();
        self.steering.settle();
        Failed::now(error)
    }

    fn board(&self) -> &Arc<Board> {
        &self.steering.tasks[self.context.task].board
    }
}

/// Waits until stages that are being opened `under` an order are not wanted any more. Those that are opened to take leave are wanted
/// for as long as any end may take.
async fn is_over(orders: &mut watch::Receiver<Order>, under: Order, patience: Duration) {
    if under.leaves {
        return tokio::time::sleep(patience.max(Duration::from_secs(1))).await;
    }
    // `steering` holds the sender, so only an order ends this.
    let _ = orders.wait_for(|order| under.is_over(*order)).await;
}

/// Whether the same may go well with fresh stages. A row that `errors.tolerance` does not tolerate comes again, and a
/// configuration stays as it is.
fn may_pass(error: &PipelineError) -> bool {
    !matches!(error, PipelineError::Rejected { .. } | PipelineError::Config(_))
}

/// The restarts that a task has left.
struct Budget {
    n_max: u32,
    n_left: u32,
    pauses: ExponentialBackoff,
    pause_max: Duration,
    window: Duration,
}

impl Budget {
    fn new(options: &PipelineOptions) -> Self {
        let PipelineOptions { restart_max, restart_backoff_max, restart_window, .. } = *options;
        Self {
            n_max: restart_max,
            n_left: restart_max,
            pauses: growing(FIRST_PAUSE, restart_backoff_max),
            pause_max: restart_backoff_max,
            window: restart_window,
        }
    }

    /// The pause before the next restart of a task that ran for this long; `None` once all are used up.
    fn pause(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= self.window {
            self.n_left = self.n_max;
            self.pauses = growing(FIRST_PAUSE, self.pause_max);
        }
        self.n_left = self.n_left.checked_sub(1)?;
        Some(self.next_pause())
    }

    /// The pause before a try that is not counted.
    fn next_pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.pause_max).min(self.pause_max)
    }
}

/// A runtime for one thread.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_ends_and_comes_back_for_a_task_that_ran_well() {
        let options = PipelineOptions {
            restart_max: 4,
            restart_backoff_max: Duration::from_secs(2),
            restart_window: Duration::from_secs(60),
            ..PipelineOptions::default()
        };
        let mut budget = Budget::new(&options);
        let briefly = Duration::from_secs(1);
        let pauses: Vec<_> = (0..4).map(|_| budget.pause(briefly).unwrap()).collect();
        assert!(pauses[0] >= FIRST_PAUSE && pauses.is_sorted() && pauses[3] <= Duration::from_secs(2), "{pauses:?}");
        assert_eq!(budget.pause(briefly), None);
        assert!(budget.pause(Duration::from_secs(60)).is_some(), "it ran well for the whole window");
        let never = PipelineOptions { restart_max: 0, ..options };
        assert_eq!(Budget::new(&never).pause(Duration::from_secs(3600)), None);
    }
}
