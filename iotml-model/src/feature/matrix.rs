//! A matrix of raw numbers, its columns in the order of the manifest's features.

use std::ops::{Add, Mul, Sub};

use iotml_core::ndarray::{ArrayView2, Axis, Slice};

use super::{BadRow, FeatureError, FeatureSpec, Missing, Prepared, cause};

/// Rows per tile, so that reading, scaling and checking it stay in the first-level cache.
const TILE: usize = 64;

/// Rows whose factors are laid out one behind the other, so that one flat loop scales whole vectors at any width.
const PERIOD: usize = 16;

/// A number that a matrix may hold.
pub(crate) trait Number:
    Copy + Into<f64> + Sub<Output = Self> + Mul<Output = Self> + Add<Output = Self>
{
    /// In single precision.
    fn narrow(self) -> f32;
    /// From double precision.
    fn of(value: f64) -> Self;
    /// The factors for numbers of this type.
    fn factors(factors: &Factors) -> &FactorsOf<Self>;
}

impl Number for f32 {
    fn narrow(self) -> f32 {
        self
    }

    fn of(value: f64) -> Self {
        value as f32
    }

    fn factors(factors: &Factors) -> &FactorsOf<Self> {
        &factors.single
    }
}

impl Number for f64 {
    fn narrow(self) -> f32 {
        self as f32
    }

    fn of(value: f64) -> Self {
        value
    }

    fn factors(factors: &Factors) -> &FactorsOf<Self> {
        &factors.double
    }
}

/// How each column is scaled, in the precision of the numbers that come: the same arithmetic as for a column of that type.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    single: FactorsOf<f32>,
    double: FactorsOf<f64>,
    /// The columns that are not read, and what stands in their place.
    constants: Vec<(usize, f32)>,
}

/// [`PERIOD`] rows of factors.
#[derive(Debug, Clone)]
pub(crate) struct FactorsOf<T> {
    subtract: Vec<T>,
    multiply: Vec<T>,
    add: Vec<T>,
}

impl Factors {
    pub(super) fn new(features: &[Prepared]) -> Self {
        let constant = |(at, feature): (usize, &Prepared)| Some((at, feature.constant?));
        Factors {
            single: FactorsOf::new(features),
            double: FactorsOf::new(features),
            constants: features.iter().enumerate().filter_map(constant).collect(),
        }
    }
}

impl<T: Number> FactorsOf<T> {
    fn new(features: &[Prepared]) -> Self {
        let column = |of: fn(&Prepared) -> f64| {
            let row: Vec<T> = features.iter().map(|feature| T::of(of(feature))).collect();
            row.repeat(PERIOD)
        };
        FactorsOf {
            subtract: column(|feature| feature.affine.subtract),
            multiply: column(|feature| feature.affine.multiply),
            add: column(|feature| feature.affine.add),
        }
    }

    /// Scales rows that lie one behind the other.
    fn scale(&self, raw: &[T], out: &mut [f32]) {
        for (raw, out) in raw.chunks(self.add.len()).zip(out.chunks_mut(self.add.len())) {
            let factors = self.subtract.iter().zip(&self.multiply).zip(&self.add);
            for ((out, raw), ((subtract, multiply), add)) in out.iter_mut().zip(raw).zip(factors) {
                *out = ((*raw - *subtract) * *multiply + *add).narrow();
            }
        }
    }
}

impl FeatureSpec {
    /// Fills `rows`, `n * n_features` numbers, from `matrix`, `[n, n_features]`, and gives the bad rows in order.
    pub(crate) fn fill_matrix<T: Number>(
        &mut self,
        matrix: ArrayView2<'_, T>,
        rows: &mut [f32],
    ) -> Result<Vec<BadRow>, FeatureError> {
        let n_features = self.n_features();
        if matrix.ncols() != n_features {
            let names = self.features.iter().map(|feature| feature.name.clone()).collect();
            return Err(FeatureError::Width { found: matrix.ncols(), features: names });
        }
        let factors = self.factors.get_or_insert_with(|| Box::new(Factors::new(&self.features)));
        let mut bad = Vec::new();
        let mut gathered = Vec::new();
        for (tile, out) in rows.chunks_mut(TILE * n_features).enumerate() {
            let start = tile * TILE;
            let raw = matrix.slice_axis(Axis(0), Slice::from(start..start + out.len() / n_features));
            let raw = match raw.to_slice() {
                Some(contiguous) => contiguous,
                None => {
                    gathered.clear();
                    gathered.extend(raw.iter().copied());
                    gathered.as_slice()
                }
            };
            T::factors(factors).scale(raw, out);
            for (at, value) in &factors.constants {
                out.iter_mut().skip(*at).step_by(n_features).for_each(|slot| *slot = *value);
            }
            if !all_finite(out) {
                repair(&self.features, self.missing, raw, start, out, &mut bad);
            }
        }
        Ok(bad)
    }
}

/// One pass without a branch on the value, so that the compiler makes it a vector loop.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// Goes over a tile in which something is missing, one value at a time.
fn repair<T: Number>(
    features: &[Prepared],
    missing: Missing,
    raw: &[T],
    start: usize,
    out: &mut [f32],
    bad: &mut Vec<BadRow>,
) {
    let rows = out.chunks_mut(features.len()).zip(raw.chunks(features.len()));
    for (row, (out, raw)) in rows.enumerate() {
        let mut first = None;
        for ((feature, out), raw) in features.iter().zip(out).zip(raw) {
            if out.is_finite() {
                continue;
            }
            if missing == Missing::Impute {
                *out = feature.impute;
                continue;
            }
            *out = 0.0;
            first.get_or_insert_with(|| cause(&feature.name, Some((*raw).into())));
        }
        bad.extend(first.map(|cause| BadRow { row: start + row, cause }));
    }
}
