//! The feature matrix: columns of a batch to the rows a model sees.

mod column;
mod matrix;

use iotml_core::arrow::array::{Array, RecordBatch};
use iotml_core::error::{Cause, Reason};
use iotml_core::ndarray::Array2;
use iotml_core::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::manifest::{Feature, Scale};
use crate::row_scorer::Rows;
pub(crate) use column::Column;
use matrix::Factors;

/// Rows per tile: the tile's part of the matrix stays in the first-level cache while its columns are written into it.
const TILE: usize = 64;

/// What becomes of a row in which a feature is null, NaN, infinite or too large after scaling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// The row is rejected with its cause.
    #[default]
    Reject,
    /// The value becomes the feature's `impute` value, or the centre of its scale.
    Impute,
}

/// Why a batch cannot become a feature matrix at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// A column is not there.
    #[error("the model needs the column `{feature}`, but the batch has only {available:?}")]
    MissingColumn {
        /// The feature's name.
        feature: String,
        /// The columns that exist.
        available: Vec<String>,
    },
    /// A column holds no numbers.
    #[error("column `{feature}` is of type {found}, but the model needs a number or a boolean")]
    NotANumber {
        /// The feature's name.
        feature: String,
        /// The column's Arrow type.
        found: String,
    },
    /// A matrix has not one column a feature.
    #[error("the model needs {} columns, {features:?}, but the rows have {found}", features.len())]
    Width {
        /// The columns that came.
        found: usize,
        /// The features' names, in the model's order.
        features: Vec<String>,
    },
}

/// A row that the model cannot see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The row's index in the batch.
    pub row: usize,
    /// What is wrong with it.
    pub cause: Cause,
}

/// Columns to rows, by a model's features: names, order and scaling, and reused buffers.
#[derive(Debug, Clone)]
pub struct FeatureSpec {
    features: Vec<Prepared>,
    /// Where each feature's column was in the last batch; the next one nearly always looks the same.
    columns: Vec<usize>,
    missing: Missing,
    tile: Vec<f32>,
    /// Made when the first matrix comes.
    factors: Option<Box<Factors>>,
}

#[derive(Debug, Clone)]
struct Prepared {
    name: String,
    affine: Affine,
    constant: Option<f32>,
    /// What an imputed value looks like to the model.
    impute: f32,
}

/// `(v - subtract) * multiply + add`: the order of operations that loses least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    subtract: f64,
    multiply: f64,
    add: f64,
}

impl Affine {
    /// Leaves a value as it is, in single precision. Adding -0.0 changes no number, where 0.0 would take the sign off a -0.0.
    pub(crate) const NONE: Affine = Affine { subtract: 0.0, multiply: 1.0, add: -0.0 };

    fn of(scale: Option<Scale>) -> Self {
        match scale {
            None => Affine::NONE,
            Some(Scale::Range { min, max }) => Affine { subtract: min, multiply: 2.0 / (max - min), add: -1.0 },
            Some(Scale::Standard { mean, std }) => Affine { subtract: mean, multiply: 1.0 / std, add: 0.0 },
        }
    }

    fn apply(self, value: f64) -> f32 {
        ((value - self.subtract) * self.multiply + self.add) as f32
    }
}

impl FeatureSpec {
    /// The spec of a manifest's `features`.
    pub fn new(features: &[Feature], missing: Missing) -> Self {
        let prepare = |feature: &Feature| {
            let affine = Affine::of(feature.scale);
            Prepared {
                name: feature.name.clone(),
                affine,
                constant: feature.constant.map(|constant| constant as f32),
                impute: feature.impute.map_or(0.0, |raw| affine.apply(raw)),
            }
        };
        let features: Vec<_> = features.iter().map(prepare).collect();
        FeatureSpec { columns: vec![usize::MAX; features.len()], features, missing, tile: Vec::new(), factors: None }
    }

    /// Numbers of one row.
    pub fn n_features(&self) -> usize {
        self.features.len()
    }

    /// Fills `matrix`, made `[n, n_features]` if it is not, from the columns of `batch`, and gives the bad rows in order.
    ///
    /// In a bad row the values at fault are 0, so that an engine can run over them.
    ///
    /// # Errors
    /// [`FeatureError`] if a column is missing or holds no numbers.
    pub fn fill(&mut self, batch: &RecordBatch, matrix: &mut Array2<f32>) -> Result<Vec<BadRow>, FeatureError> {
        let shape = (batch.num_rows(), self.n_features());
        if matrix.dim() != shape || !matrix.is_standard_layout() {
            *matrix = Array2::zeros(shape);
        }
        match matrix.as_slice_mut() {
            Some(rows) => self.fill_rows(batch, rows),
            None => Ok(Vec::new()),
        }
    }

    /// The same from raw rows of any form into a row-major slice, such as an engine's own input.
    pub(crate) fn fill_from(&mut self, source: Rows<'_>, rows: &mut [f32]) -> Result<Vec<BadRow>, FeatureError> {
        match source {
            Rows::Columns(batch) => self.fill_rows(batch, rows),
            Rows::F32(matrix) => self.fill_matrix(matrix, rows),
            Rows::F64(matrix) => self.fill_matrix(matrix, rows),
        }
    }

    /// The same from columns into a row-major slice of `n * n_features` numbers, such as an engine's own input or a part of
    /// a larger matrix; panics if it is shorter.
    ///
    /// # Errors
    /// [`FeatureError`] if a column is missing or holds no numbers.
    pub fn fill_rows(&mut self, batch: &RecordBatch, rows: &mut [f32]) -> Result<Vec<BadRow>, FeatureError> {
        self.bind(batch)?;
        let n_features = self.n_features();
        let n_rows = batch.num_rows();
        let mut columns = Vec::with_capacity(n_features);
        for (feature, at) in self.features.iter().zip(&self.columns) {
            columns.push(match feature.constant {
                Some(_) => None,
                None => Some(open(&feature.name, batch.column(*at).as_ref())?),
            });
        }
        let mut bad = Vec::new();
        self.tile.resize(TILE, 0.0);
        for start in (0..n_rows).step_by(TILE) {
            let n = TILE.min(n_rows - start);
            let tile_rows = &mut rows[start * n_features..(start + n) * n_features];
            let first_bad = bad.len();
            for (at, (feature, column)) in self.features.iter().zip(&columns).enumerate() {
                let tile = &mut self.tile[..n];
                match (column, feature.constant) {
                    (Some(column), _) => {
                        let is_clean = column.convert(start, feature.affine, tile);
                        if !is_clean {
                            repair(feature, column, start, tile, self.missing, &mut bad, first_bad);
                        }
                    }
                    (None, constant) => tile.fill(constant.unwrap_or_default()),
                }
                for (row, value) in tile_rows.chunks_exact_mut(n_features).zip(tile.iter()) {
                    row[at] = *value;
                }
            }
            bad[first_bad..].sort_by_key(|bad| bad.row);
        }
        Ok(bad)
    }

    /// The raw column of a feature in the batch that was scaled last; `None` for a constant.
    pub(crate) fn column<'a>(&self, feature: usize, batch: &'a RecordBatch) -> Option<Column<'a>> {
        let is_read = self.features.get(feature).is_some_and(|feature| feature.constant.is_none());
        let at = self.columns.get(feature).copied().filter(|at| is_read && *at < batch.num_columns())?;
        Column::open(batch.column(at).as_ref())
    }

    /// Looks every column up by name, starting from where it was last.
    fn bind(&mut self, batch: &RecordBatch) -> Result<(), FeatureError> {
        let schema = batch.schema_ref();
        let fields = schema.fields();
        for (feature, at) in self.features.iter().zip(&mut self.columns) {
            if feature.constant.is_some() || fields.get(*at).is_some_and(|field| field.name() == &feature.name) {
                continue;
            }
            *at = fields.iter().position(|field| field.name() == &feature.name).ok_or_else(|| {
                FeatureError::MissingColumn {
                    feature: feature.name.clone(),
                    available: fields.iter().map(|field| field.name().clone()).collect(),
                }
            })?;
        }
        Ok(())
    }
}

fn open<'a>(name: &str, array: &'a dyn Array) -> Result<Column<'a>, FeatureError> {
    Column::open(array)
        .ok_or_else(|| FeatureError::NotANumber { feature: name.to_owned(), found: array.data_type().to_string() })
}

/// Goes over a tile in which something is missing, one value at a time.
fn repair(
    feature: &Prepared,
    column: &Column<'_>,
    start: usize,
    tile: &mut [f32],
    missing: Missing,
    bad: &mut Vec<BadRow>,
    first_bad: usize,
) {
    for (offset, value) in tile.iter_mut().enumerate() {
        let row = start + offset;
        let raw = column.get(row);
        if raw.is_some() && value.is_finite() {
            continue;
        }
        if missing == Missing::Impute {
            *value = feature.impute;
            continue;
        }
        *value = 0.0;
        if bad[first_bad..].iter().all(|bad| bad.row != row) {
            bad.push(BadRow { row, cause: cause(&feature.name, raw) });
        }
    }
}

fn cause(name: &str, raw: Option<f64>) -> Cause {
    match raw {
        None => Cause::new(Reason::Missing, format!("feature `{name}` is null")),
        Some(raw) if raw.is_finite() => {
            Cause::new(Reason::OutOfRange, format!("feature `{name}` is {raw}, too large for the model once scaled"))
        }
        Some(raw) => Cause::new(Reason::NonFinite, format!("feature `{name}` is {raw}")),
    }
}

#[cfg(test)]
mod tests;
