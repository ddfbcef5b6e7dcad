//! A preprocessor written in Python.

use std::sync::Arc;

use iotml_core::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use iotml_core::arrow::compute::{cast, concat_batches};
use iotml_core::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use iotml_core::async_trait;
use iotml_core::batch::{Batch, StageOutput};
use iotml_core::error::ConfigError;
use iotml_core::pipeline::{TaskContext, Tolerance};
use iotml_core::preprocess::{PreprocessError, Preprocessor};
use iotml_core::state::Stateful;
use pyo3::prelude::*;
use serde_json::Value;

use super::answer::Answer;
use super::batch::PyBatch;
use super::exception::{Failed, Raised};
use super::parts::{Parts, in_parts};
use super::stage::{Definition, ENDING, Instance, attached};

/// Calls `apply(batch)` once a batch, with the GIL, in the task's thread.
#[derive(Debug)]
pub struct PythonPreprocessor {
    instance: Instance,
    tolerance: Tolerance,
}

impl PythonPreprocessor {
    /// Errs with what the factory raised.
    pub fn new(definition: &Arc<Definition>, config: &Value) -> Result<Self, ConfigError> {
        Ok(Self { instance: Instance::new(definition, config)?, tolerance: Tolerance::default() })
    }

    fn call(&self, py: Python<'_>, batch: &Batch) -> Result<Answer, Failed> {
        let raised = |exception| Failed::raised(py, exception, false);
        let given = Bound::new(py, PyBatch::new(batch.clone(), self.instance.partitions())).map_err(raised)?.into_any();
        let answer = self.instance.call(py, given.clone()).map_err(raised)?;
        let answer = Answer::read(&answer, &given, batch).map_err(Failed::broke)?;
        match answer.retryable.is_empty() {
            true => Ok(answer),
            false => Err(Failed::broke("Result.retry is for sinks; raise iotml.RetryableError instead".to_owned())),
        }
    }

    fn apply_parts(&self, py: Python<'_>, batch: &Batch) -> Result<Parts<Answer>, Failed> {
        in_parts(batch.len(), self.tolerance, self.instance.keeps_state(), |part| {
            if part.len() == batch.len() {
                return self.call(py, batch);
            }
            let rows: Vec<u32> = (part.start as u32..part.end as u32).collect();
            self.call(py, &batch.take(&rows).map_err(|error| Failed::Fatal(error.into()))?)
        })
    }
}

#[async_trait]
impl Preprocessor for PythonPreprocessor {
    async fn open(&mut self, task: &TaskContext) -> Result<(), PreprocessError> {
        self.tolerance = task.tolerance;
        let opened = attached(|py| self.instance.open(py, task).map_err(|exception| Raised::new(py, exception)));
        match opened {
            Some(opened) => opened.map_err(|raised| PreprocessError::fatal_from("open(task) failed", raised)),
            None => Err(PreprocessError::fatal(ENDING)),
        }
    }

    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        // There is nothing to be done with no rows, and they may have no columns either.
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let applied = attached(|py| self.apply_parts(py, &batch));
        let parts = applied.ok_or_else(|| PreprocessError::fatal(ENDING))?.map_err(|failed| self.error(failed))?;
        settle(batch, parts).map_err(|what| self.error(Failed::broke(what)))
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        self.instance.state()
    }
}

impl PythonPreprocessor {
    fn error(&self, failed: Failed) -> PreprocessError {
        match failed {
            Failed::Rows(raised) => PreprocessError::Record(raised.into_cause()),
            Failed::Later(raised) => PreprocessError::retryable_from("apply(batch) asks to be tried again", raised),
            Failed::Fatal(error) => PreprocessError::fatal_from("apply(batch) failed", error),
        }
    }
}

/// Puts the answers of all parts together.
fn settle(batch: Batch, parts: Parts<Answer>) -> Result<StageOutput, String> {
    let Parts { good, rejected } = parts;
    let mut answers: Vec<_> = good;
    if rejected.is_empty() && answers.len() == 1 {
        return answers.remove(0).1.settle(batch);
    }
    let rows: Vec<u32> = answers.iter().flat_map(|(part, _)| part.start as u32..part.end as u32).collect();
    let survivors = batch.take(&rows).map_err(|error| error.to_string())?;
    let mut whole = Answer::default();
    if answers.iter().any(|(_, answer)| answer.columns.is_some()) {
        let columns = answers.iter().map(|(part, answer)| match &answer.columns {
            Some(columns) => columns.clone(),
            None => batch.columns().slice(part.start, part.len()),
        });
        whole.columns = Some(joined(&columns.collect::<Vec<_>>())?);
    }
    if answers.iter().any(|(_, answer)| answer.keep.is_some()) {
        let kept = answers.iter().flat_map(|(part, answer)| answer.keep.clone().unwrap_or(vec![true; part.len()]));
        whole.keep = Some(kept.collect());
    }
    let mut begin = 0;
    for (part, answer) in answers {
        for mut row in answer.rejected {
            row.row += begin;
            whole.rejected.push(row);
        }
        begin += part.len() as u32;
    }
    let mut output = whole.settle(survivors)?;
    // The numbers of rows so far are those among the survivors.
    output.filtered.iter_mut().for_each(|row| *row = rows[*row as usize]);
    output.rejected.iter_mut().for_each(|rejected| rejected.row = rows[rejected.row as usize]);
    output.rejected.extend(rejected);
    output.rejected.sort_by_key(|rejected| rejected.row);
    Ok(output)
}

/// The columns of all parts, which must have the same names and types; where one part has nothing but `None`s, the others
/// say the type.
fn joined(parts: &[RecordBatch]) -> Result<RecordBatch, String> {
    let mut fields: Vec<Field> = Vec::new();
    for (at, field) in parts[0].schema().fields().iter().enumerate() {
        let types = parts.iter().filter_map(|part| part.columns().get(at)).map(|column| column.data_type());
        let kind = types.into_iter().find(|kind| **kind != DataType::Null).unwrap_or(&DataType::Null);
        fields.push(Field::new(field.name(), kind.clone(), true));
    }
    let schema = Arc::new(Schema::new(fields));
    let mut same = Vec::with_capacity(parts.len());
    for part in parts {
        let fits = |(field, column): (&FieldRef, (&FieldRef, &ArrayRef))| {
            let (own, column) = column;
            let is_known = [field.data_type(), &DataType::Null].contains(&column.data_type());
            (own.name() == field.name() && is_known).then(|| cast(column, field.data_type()).ok()).flatten()
        };
        let own = part.schema();
        let columns = schema.fields().iter().zip(own.fields().iter().zip(part.columns())).map(fits);
        let columns: Option<Vec<ArrayRef>> = columns.collect();
        let columns =
            columns.filter(|columns| columns.len() == part.num_columns() && columns.len() == parts[0].num_columns());
        let Some(columns) = columns else {
            let (one, other) = (names(&parts[0]), names(part));
            return Err(format!("some rows of a batch came back with the columns {one}, and others with {other}"));
        };
        let options = RecordBatchOptions::new().with_row_count(Some(part.num_rows()));
        let part = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
        same.push(part.map_err(|error| error.to_string())?);
    }
    concat_batches(&schema, &same).map_err(|error| error.to_string())
}

fn names(columns: &RecordBatch) -> String {
    let schema = columns.schema();
    let names = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    names.collect::<Vec<_>>().join(", ")
}
