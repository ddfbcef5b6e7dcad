//! The synchronous stages in order: decode, preprocess, score.

use std::sync::Arc;

use super::PipelineError;
use super::dead_letter::{self, DeadLetter};
use super::limit::limit_headers;
use super::retry::Failure;
use crate::batch::{Batch, RawBatch, StageOutput};
use crate::decode::Decoder;
use crate::error::{Class, Stage};
use crate::preprocess::Preprocessor;
use crate::score::Scorer;
use crate::state::Stateful;

/// Decoder, preprocessors and scorer of one task.
pub(super) struct Chain {
    pub decoder: Box<dyn Decoder>,
    /// Headers that a message may have.
    pub max_headers: usize,
    pub preprocessors: Vec<(Arc<str>, Box<dyn Preprocessor>)>,
    pub scorer: Option<Box<dyn Scorer>>,
}

/// What came out of the chain.
pub(super) struct Chained {
    /// The rows that go on to the routes.
    pub batch: Batch,
    /// The rows that do not.
    pub letters: Vec<DeadLetter>,
}

impl Chain {
    /// Runs all stages over one batch of messages. The decoder has been prepared for it.
    ///
    /// `shown` is `raw` as the decoder may see it.
    pub fn run(&mut self, raw: &RawBatch, shown: &Arc<RawBatch>) -> Result<Chained, Failure> {
        let mut letters = Vec::new();
        let input = Batch::undecoded(shown.clone());
        let decoded = self.decoder.decode(shown);
        let decoded = decoded.map_err(|error| Failure::of(error.class(), Stage::Decode, "decode", error))?;
        let mut batch = settle(&input, decoded, Stage::Decode, &"decode".into(), &mut letters)?;
        if !raw.rejected().is_empty() {
            batch = without_rejected(raw, batch, &mut letters)?;
        }
        // Behind the decoder, which does not look at headers, so that it keeps its whole batch of raw messages.
        let input = batch.clone();
        let limited = limit_headers(raw, batch, self.max_headers);
        let limited = limited.map_err(|error| Failure::of(Class::Fatal, Stage::Source, "headers", error))?;
        batch = settle(&input, limited, Stage::Source, &"headers".into(), &mut letters)?;
        for (name, preprocessor) in &mut self.preprocessors {
            // Without a row there may be no columns either, which a stage would take for a mistake of the configuration.
            if batch.is_empty() {
                break;
            }
            let input = batch.clone();
            let output = preprocessor.apply(batch);
            let output = output.map_err(|error| Failure::of(error.class(), Stage::Preprocess, name, error))?;
            batch = settle(&input, output, Stage::Preprocess, name, &mut letters)?;
        }
        if let Some(scorer) = self.scorer.as_mut().filter(|_| !batch.is_empty()) {
            let input = batch.clone();
            let output = scorer.score(batch);
            let output = output.map_err(|error| Failure::of(error.class(), Stage::Score, "score", error))?;
            batch = settle(&input, output, Stage::Score, &"score".into(), &mut letters)?;
        }
        Ok(Chained { batch, letters })
    }

    /// The stages that keep state, each with the name its snapshots go by.
    pub fn stateful(&mut self) -> Vec<(String, &mut dyn Stateful)> {
        let mut stateful: Vec<(String, &mut dyn Stateful)> = Vec::new();
        for (name, preprocessor) in &mut self.preprocessors {
            if let Some(state) = preprocessor.state() {
                stateful.push((format!("preprocess-{name}"), state));
            }
        }
        if let Some(state) = self.scorer.as_mut().and_then(|scorer| scorer.state()) {
            stateful.push(("score".to_owned(), state));
        }
        stateful
    }
}

/// Puts the source's own dead letters in the place of whatever the decoder made of those messages.
fn without_rejected(raw: &RawBatch, batch: Batch, letters: &mut Vec<DeadLetter>) -> Result<Batch, Failure> {
    let mut is_row = vec![true; raw.len()];
    raw.rejected().iter().for_each(|rejected| is_row[rejected.row as usize] = false);
    letters.retain(|letter| is_row[letter.origin as usize]);
    letters.extend(dead_letter::of_source(raw));
    let keep: Vec<bool> = (0..batch.len()).map(|row| is_row[batch.origin(row)]).collect();
    let kept = batch.filter(&keep).map_err(|error| Failure::of(Class::Fatal, Stage::Source, "source", error))?;
    Ok(kept.0)
}

/// Checks that the stage said what became of every row, and turns its rejections into dead letters.
fn settle(
    input: &Batch,
    output: StageOutput,
    stage: Stage,
    name: &Arc<str>,
    letters: &mut Vec<DeadLetter>,
) -> Result<Batch, Failure> {
    let StageOutput { batch, rejected, filtered } = output;
    let untouched = rejected.is_empty() && filtered.is_empty() && batch.len() == input.len();
    if !(untouched && input.is_dense() && batch.is_dense()) {
        let named = rejected.iter().map(|rejected| rejected.row).chain(filtered.iter().copied());
        check_fates(input, &batch, named).map_err(|what| {
            let message = format!("the stage broke its contract: {what}");
            Failure::Task(PipelineError::stage(stage, name, message.into()))
        })?;
    }
    letters.extend(rejected.into_iter().map(|rejected| DeadLetter {
        origin: input.origin(rejected.row as usize) as u32,
        stage,
        name: name.clone(),
        cause: rejected.cause,
    }));
    Ok(batch)
}

/// Every input row must go on, or be rejected or filtered, and only one of these (invariant 4).
fn check_fates(input: &Batch, output: &Batch, named: impl Iterator<Item = u32>) -> Result<(), String> {
    let mut in_origin = vec![0u32; input.raw().len()];
    for row in 0..input.len() {
        in_origin[input.origin(row)] += 1;
    }
    let mut goes_on = vec![false; in_origin.len()];
    for row in 0..output.len() {
        goes_on[output.origin(row)] = true;
    }
    let mut left = in_origin.clone();
    for row in named {
        if row as usize >= input.len() {
            return Err(format!("it named row {row} of a batch of {} rows", input.len()));
        }
        let origin = input.origin(row as usize);
        if left[origin] == 0 {
            return Err(format!("it named row {row} twice"));
        }
        left[origin] -= 1;
    }
    for (origin, left) in left.into_iter().enumerate() {
        match (left > 0, goes_on[origin]) {
            (true, false) => return Err(format!("it dropped the row of message {origin} without a word")),
            (false, true) if in_origin[origin] == 0 => {
                return Err(format!("it made a row of message {origin}, which was not in its input"));
            }
            (false, true) => return Err(format!("it both dropped and passed on the row of message {origin}")),
            _ => {}
        }
    }
    Ok(())
}

impl Failure {
    /// The failure of a whole call of a stage.
    pub fn of(class: Class, stage: Stage, name: &str, error: impl Into<crate::error::BoxError>) -> Self {
        let error = PipelineError::stage(stage, name, error.into());
        if class == Class::Retryable { Failure::Retryable(error) } else { Failure::Task(error) }
    }
}
