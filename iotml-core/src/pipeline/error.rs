//! Why a pipeline could not start, or stopped.

use crate::decode::DecodeError;
use crate::encode::EncodeError;
use crate::error::{BoxError, Class, ConfigError, Stage};
use crate::preprocess::PreprocessError;
use crate::score::ScoreError;
use crate::sink::SinkError;
use crate::source::SourceError;

/// Why a pipeline could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A stage failed for good, or a batch failed for longer than `errors.retry.timeout`.
    #[error("{stage} {name:?} failed")]
    Stage {
        /// The stage.
        stage: Stage,
        /// Its name.
        name: String,
        /// The stage's own error.
        #[source]
        source: BoxError,
    },
    /// A row was rejected while `errors.tolerance` is `none`.
    #[error(
        "{stage} {name:?} rejected a row of topic {topic:?}, partition {partition}, offset {offset}, and \
         errors.tolerance is \"none\""
    )]
    Rejected {
        /// The stage.
        stage: Stage,
        /// Its name.
        name: String,
        /// Where the row came from.
        topic: String,
        /// Kafka partition or MQTT connection.
        partition: i32,
        /// Kafka offset or MQTT packet id.
        offset: i64,
        /// Why.
        #[source]
        cause: crate::error::Cause,
    },
    /// The state of a stage could not be kept or restored.
    #[error("state failed")]
    State(#[from] crate::state::StateError),
    /// The operating system refused a thread or a runtime.
    #[error("a task cannot be started")]
    Spawn(#[source] std::io::Error),
    /// The task was told to leave and could not do so in time without losing rows, so the far side still keeps its session.
    #[error(
        "the instance could not leave: {0} rows were not done or not all was received in time; its session is kept, so that \
         nothing is lost: start it and let it leave again"
    )]
    Stayed(usize),
    /// A stage panicked: a defect of the stage.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// Number of the task.
        task: usize,
        /// The panic's message.
        message: String,
    },
}

impl PipelineError {
    pub(super) fn stage(stage: Stage, name: &str, source: BoxError) -> Self {
        Self::Stage { stage, name: name.to_owned(), source }
    }

    /// Whether a stage failed in a way that may pass by itself.
    pub(super) fn is_retryable(&self) -> bool {
        let Self::Stage { source, .. } = self else { return false };
        let classes = [
            source.downcast_ref().map(SourceError::class),
            source.downcast_ref().map(DecodeError::class),
            source.downcast_ref().map(PreprocessError::class),
            source.downcast_ref().map(ScoreError::class),
            source.downcast_ref().map(EncodeError::class),
            source.downcast_ref().map(SinkError::class),
        ];
        classes.contains(&Some(Class::Retryable))
    }

    /// The error and its causes in one line, as a person wants to read it.
    pub fn report(&self) -> String {
        crate::error::report(self)
    }
}
