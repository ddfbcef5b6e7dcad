//! What turns the numbers of a model into columns: the part that goes with a model besides its engine.

use std::sync::Arc;
use std::time::Instant;

use iotml_core::arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array, StringArray};
use iotml_core::arrow::buffer::NullBuffer;
use iotml_core::arrow::datatypes::{DataType, Field};
use iotml_core::batch::{Batch, Rejected, StageOutput};
use iotml_core::error::ConfigError;
use iotml_core::metrics::Metrics;
use iotml_core::score::ScoreError;

use crate::columns::{Appender, Constant, ConstantValue, item, numbers};
use crate::evaluation::{Evaluation, EvaluationError, Input, Wants};
use crate::feature::BadRow;
use crate::manifest::{Kind, Manifest};
use crate::model::Model;
use crate::precheck::Signature;
use crate::scorer::{OnnxScorerConfig, column};
use crate::series::Series;
use crate::verdict::{Verdict, known};
use crate::watch::{Observer, Verdicts};

/// All that is needed beside the model itself.
pub(crate) struct Work {
    pub(crate) evaluation: Evaluation,
    verdict: Verdict,
    threshold: Constant,
    name: Constant,
    version: Constant,
    /// What it appends, without metadata.
    fields: Vec<Field>,
    /// The width of the output column, if it is wanted.
    output_width: Option<usize>,
    wants_errors: bool,
    series: Series,
    /// Compares the rows with those of training, where that is wanted.
    observer: Option<Observer>,
}

/// What a model made of some rows: one array for each field of its [`Work`], and the rows that it could not score.
#[derive(Debug)]
pub(crate) struct Scores {
    pub(crate) arrays: Vec<ArrayRef>,
    pub(crate) bad: Vec<BadRow>,
    /// Of the bad rows, those whose features are sound: it is the model's fault.
    pub(crate) n_not_finite: usize,
}

impl Work {
    pub(crate) fn new(
        manifest: &Manifest,
        signature: &Signature,
        config: &OnnxScorerConfig,
    ) -> Result<Self, ConfigError> {
        let has_errors = manifest.kind.has_feature_errors();
        let verdict = Verdict::new(manifest, config.threshold.as_ref())
            .map_err(|source| ConfigError::with(format!("`threshold`: {source}"), source))?;
        if (config.feature_errors || verdict.needs_errors()) && !has_errors {
            let kind = manifest.kind.as_str();
            return Err(ConfigError::new(format!("a model of kind {kind} has no feature errors to append or judge")));
        }
        let wants = Wants { errors: config.feature_errors || verdict.needs_errors(), output: config.output };
        let n_features = manifest.features.len();
        // A predicted sequence is cut to its last step, so the row's width is that of the features.
        let output_width = if has_errors { n_features } else { signature.output.width() };
        let output_width = config.output.then_some(output_width);

        let mut fields = verdict_fields();
        if manifest.kind == Kind::Classifier {
            fields.push((column::LABEL, DataType::Utf8));
        }
        if config.feature_errors {
            fields.push(errors_field(n_features));
        }
        if let Some(width) = output_width {
            fields.push((column::OUTPUT, numbers(width)));
        }
        Ok(Work {
            evaluation: Evaluation::new(manifest, signature, config.missing, wants, config.max_keys),
            fields: prefixed(&config.prefix, fields),
            threshold: Constant::new(ConstantValue::Number(verdict.limit())),
            name: Constant::new(ConstantValue::Text(manifest.name.clone())),
            version: Constant::new(ConstantValue::Text(manifest.version.clone())),
            output_width,
            wants_errors: config.feature_errors,
            series: Series::default(),
            observer: None,
            verdict,
        })
    }

    /// The fields that it appends.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Counts under the labels of `metrics` from now on.
    pub(crate) fn register(&mut self, model: &Model, metrics: &Metrics) {
        self.series = Series::new(model, self.verdict.limit(), metrics);
    }

    /// Has rows compared with those of training from now on.
    pub(crate) fn watch(&mut self, observer: Option<Observer>) {
        self.observer = observer;
    }

    /// It is in service.
    pub(crate) fn serves(&self) {
        self.series.serves(true);
    }

    /// It is in service no more, since its task has ended.
    pub(crate) fn has_served(&self) {
        self.series.serves(false);
    }

    /// Takes the series of a model that is let go away.
    pub(crate) fn unregister(model: &Model, metrics: &Metrics) {
        Series::remove(model, metrics);
    }

    /// Runs the model over `input`.
    pub(crate) fn evaluate(&mut self, model: &mut Model, input: &Input<'_, '_>) -> Result<Scores, EvaluationError> {
        let begun = Instant::now();
        let n_rows = input.rows.len();
        let pass = match self.evaluation.run(input, model.engine.as_mut()) {
            Ok(pass) => pass,
            Err(error) => {
                self.series.failed(n_rows);
                return Err(error);
            }
        };
        let validity = known(pass);
        let anomaly = self.verdict.judge(pass);
        let n_anomalies = match pass.bad.is_empty() {
            true => anomaly.true_count(),
            false => {
                (0..n_rows).filter(|row| anomaly.is_valid(*row) && anomaly.value(*row) && !pass.is_bad(*row)).count()
            }
        };
        self.series.scored(pass, n_anomalies as u64);
        let verdicts = Verdicts { judged: pass.n_scored() as u64, anomalies: n_anomalies as u64 };
        let bad = std::mem::take(&mut pass.bad);
        let n_not_finite = pass.n_not_finite;
        let scores = Float32Array::new(std::mem::take(&mut pass.scores).into(), validity.clone());
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(scores),
            self.threshold.rows(n_rows),
            Arc::new(anomaly),
            self.name.rows(n_rows),
            self.version.rows(n_rows),
        ];
        let manifest = &model.manifest;
        if manifest.kind == Kind::Classifier {
            let label = |label: &u32| manifest.classes[*label as usize].as_str();
            arrays.push(Arc::new(StringArray::from_iter_values(pass.labels.iter().map(label))));
        }
        if self.wants_errors {
            arrays.push(list(&mut pass.errors, manifest.features.len(), validity.clone()));
        }
        if let Some(width) = self.output_width {
            arrays.push(list(&mut pass.output, width, validity));
        }
        if let Some(observer) = &mut self.observer {
            observer.observe(self.evaluation.spec(), input, verdicts);
        }
        self.series.took(begun.elapsed().as_secs_f64());
        Ok(Scores { arrays, bad, n_not_finite })
    }
}

/// A column that a scorer appends: its name without the prefix, and its type.
type Column = (&'static str, DataType);

/// The columns that every model appends.
pub(crate) fn verdict_fields() -> Vec<Column> {
    vec![
        (column::SCORE, DataType::Float32),
        (column::THRESHOLD, DataType::Float32),
        (column::ANOMALY, DataType::Boolean),
        (column::MODEL, DataType::Utf8),
        (column::MODEL_VERSION, DataType::Utf8),
    ]
}

/// The squared error of each feature.
pub(crate) fn errors_field(n_features: usize) -> Column {
    (column::FEATURE_ERRORS, numbers(n_features))
}

/// Fields with the prefix that is configured.
pub(crate) fn prefixed(prefix: &str, columns: Vec<Column>) -> Vec<Field> {
    let field = |(name, data_type)| Field::new(format!("{prefix}{name}"), data_type, true);
    columns.into_iter().map(field).collect()
}

/// The batch with `arrays` appended, without the rows that could not be scored.
pub(crate) fn append(
    batch: Batch,
    appender: &mut Appender,
    arrays: Vec<ArrayRef>,
    bad: Vec<BadRow>,
) -> Result<StageOutput, ScoreError> {
    let columns = appender.append(batch.columns(), arrays);
    let columns = columns.map_err(|error| ScoreError::fatal_from(error.to_string(), error))?;
    let misfit = |source| ScoreError::fatal_from("scores do not fit the batch", source);
    let batch = batch.with_columns(columns).map_err(misfit)?;
    if bad.is_empty() {
        return Ok(StageOutput::all(batch));
    }
    let mut keep = vec![true; batch.len()];
    bad.iter().for_each(|bad| keep[bad.row] = false);
    let (batch, _) = batch.filter(&keep).map_err(misfit)?;
    let rejected = bad.into_iter().map(|bad| Rejected { row: bad.row as u32, cause: bad.cause }).collect();
    Ok(StageOutput { batch, rejected, filtered: Vec::new() })
}

/// `width` numbers a row, null where the row has no score.
pub(crate) fn list(values: &mut Vec<f32>, width: usize, validity: Option<NullBuffer>) -> ArrayRef {
    let values = Arc::new(Float32Array::from(std::mem::take(values)));
    Arc::new(FixedSizeListArray::new(item(), width as i32, values, validity))
}
