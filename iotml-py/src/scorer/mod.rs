//! `Scorer`: a model on rows that Python has.

mod call;
mod keys;
mod prediction;
mod workers;

use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use iotml_model::feature::Missing;
use iotml_model::{Kind, Manifest, RowScorer, Wants};
use pyo3::inspect::PyStaticExpr;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple};
use pyo3::{type_hint_identifier, type_hint_subscript, type_hint_union};

use crate::array::{Array1, Array2, Matrix, contiguous};
use crate::capsule::{ARROW_DATA, batches_of};
use crate::error::{self, ConfigError, ModelError};
use crate::model::{Opening, unknown};
use crate::process::ForkGuard;
use call::{Failure, Found, Pause, Source, score};
use keys::Keys;
use prediction::Parts;
pub use prediction::Prediction;
use workers::Workers;

/// Scores rows with an ONNX model: raw rows in, scores out, by the code that also serves in a pipeline.
///
/// Scaling, threshold and the kind of the score come from the model's manifest: the one in the ONNX file, or the JSON file
/// beside it, or ``manifest`` (JSON text), which wins over both. The model's golden rows are run when it is opened.
///
/// - ``path``: the ONNX file, or a ``file:`` URI of it; or the URI of a version in a model store, such as
///   ``"s3://models/cars/4"``, ``gs:``, ``az:`` or ``"file:///srv/models/cars/4"``, which is fetched and verified, and whose
///   manifest is the store's.
/// - ``store``: the `ModelStore` that the version is in, where it is to be asked with other options than the defaults, such as
///   ``trusted_keys`` or ``cache``. Without it credentials come from the environment.
/// - ``engine``: ``"onnxruntime"``, ``"tract"``, or None for the first of them that is there. ONNX Runtime is found in the
///   package ``onnxruntime`` of this Python, which is not imported; tract is always there.
/// - ``library``: the libonnxruntime to load, if none is to be looked for.
/// - ``golden``: ``"required"`` refuses a model without golden rows, ``"none"`` does not.
/// - ``missing``: what becomes of a value that is NaN, infinite or null: ``"error"`` raises `ScoreError`, ``"impute"`` takes
///   the manifest's value for it.
///
/// A scorer may be used by many threads at once, which score in parallel; it holds no GIL while it does. It remembers nothing
/// from call to call. It can be pickled, which opens the file again where it arrives. A process that was forked off must open
/// its own.
///
/// Raises `ModelError` if the model is refused, `StoreError` if the store cannot be asked or has no such version.
///
/// >>> import numpy as np
/// >>> import iotml
/// >>> scorer = iotml.Scorer("testdata/cars/cars-autoencoder.onnx")
/// >>> scorer.name, scorer.n_features, scorer.features[:2]
/// ('cars', 18, ['coolant_temp', 'intake_air_temp'])
/// >>> scorer.score(np.zeros((3, 18), np.float32)).shape
/// (3,)
#[pyclass(frozen, module = "iotml", weakref)]
pub struct Scorer {
    opening: Opening,
    missing: String,
    manifest: Manifest,
    engine: &'static str,
    input_width: usize,
    output_width: usize,
    look_back: Option<usize>,
    limit: Option<f32>,
    guard: ForkGuard,
    workers: ManuallyDrop<Workers>,
}

#[pymethods]
impl Scorer {
    #[new]
    #[pyo3(signature = (path, *, store=None, engine=None, library=None, golden="required", manifest=None, missing="error"))]
    #[expect(clippy::too_many_arguments, reason = "they are those of a call in Python")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        store: Option<StoreArgument<'_>>,
        engine: Option<String>,
        library: Option<PathBuf>,
        golden: &str,
        manifest: Option<String>,
        missing: &str,
    ) -> PyResult<Self> {
        let rule = match missing {
            "error" => Missing::Reject,
            "impute" => Missing::Impute,
            other => return Err(unknown("missing", other, "\"error\" or \"impute\"")),
        };
        let store = store.map(|store| store.0.unbind());
        let opening = Opening { path, store, engine, library, golden: golden.to_owned(), manifest };
        let model = opening.open(py)?;
        let (engine, look_back) = (model.engine(), model.look_back());
        let (input_width, output_width) = (model.input_width(), model.output_width());
        let first = RowScorer::new(model, rule).map_err(|error| error::raise(py, ModelError::new_err, &error))?;
        Ok(Scorer {
            opening,
            missing: missing.to_owned(),
            manifest: first.model().manifest().clone(),
            engine,
            input_width,
            output_width,
            look_back,
            limit: first.limit(),
            guard: ForkGuard::new(),
            workers: ManuallyDrop::new(Workers::new(first)),
        })
    }

    /// The score of every row: the higher, the more anomalous.
    ///
    /// ``x`` holds raw, unscaled rows:
    ///
    /// - a NumPy array ``(n, n_features)`` of float32 or float64, its columns in the order of `features`. One that is float32
    ///   and C-contiguous is read where it lies; do not write to it meanwhile in another thread;
    /// - one row, ``(n_features,)``, whose score is given as a float;
    /// - a table of any library that speaks Arrow's PyCapsule interface (pyarrow, polars, pandas, DuckDB), whose columns are
    ///   found by the names in `features`.
    ///
    /// A ``next_event`` model scores a row by the rows of the same device before it, so it also wants ``keys``: a sequence
    /// with the key of each row, or the name of a column of the table. The rows of one key must be in the order of time. The
    /// first `look_back` rows of each key have the score NaN: for a score of the newest row alone, pass the rows before it too.
    /// Other kinds take no notice of ``keys``.
    ///
    /// Gives a NumPy array ``(n,)`` of float32, or a float for one row.
    ///
    /// Raises `ConfigError` if ``x`` is of another shape or type, `ScoreError` if values are missing (its ``rows`` lists the
    /// rows) or the engine fails.
    #[pyo3(signature = (x, *, keys=None))]
    fn score<'py>(&self, x: RowsArgument<'py>, keys: Option<KeysArgument<'py>>) -> PyResult<Scores<'py>> {
        let py = x.0.py();
        let (found, is_row) = self.pass(&x.0, keys, Wants::default())?;
        Ok(match (is_row, found.scores.as_slice()) {
            (true, [score]) => Scores(PyFloat::new(py, f64::from(*score)).into_any()),
            _ => Scores(Array1::of_vec(py, found.scores).0.into_any()),
        })
    }

    /// Scores with what they come from: verdicts, reconstructions, the error of every feature. Takes what `score` takes; one
    /// row counts as ``n = 1``.
    #[pyo3(signature = (x, *, keys=None))]
    fn predict<'py>(&self, x: RowsArgument<'py>, keys: Option<KeysArgument<'py>>) -> PyResult<Prediction> {
        let (found, _) = self.pass(&x.0, keys, Wants { errors: true, output: true })?;
        let errors = self.manifest.kind.has_feature_errors();
        let parts = Parts {
            threshold: self.manifest.threshold.is_some(),
            errors,
            classes: &self.manifest.classes,
            width: if errors { self.manifest.features.len() } else { self.output_width },
        };
        Prediction::new(x.0.py(), found, &parts)
    }

    /// The bare network: ``x`` ``(n, input_width)``, or with more axes behind the first that hold as many numbers, as the
    /// network sees it, that is scaled. Float32 or float64. Gives ``(n, output_width)`` float32.
    ///
    /// Raises `ConfigError` if ``x`` is of another shape or type, `ScoreError` if the engine fails.
    fn run<'py>(&self, x: ScaledArgument<'py>) -> PyResult<Array2<'py, f32>> {
        let py = x.0.py();
        let (width, output_width) = (self.input_width, self.output_width);
        let rows = contiguous(&x.0, width)?;
        let numbers = rows.as_slice()?;
        self.guard.check("Scorer")?;
        let all = |worker: &mut RowScorer| {
            let mut output = Vec::with_capacity(numbers.len() / width * output_width);
            let mut pause = Pause::new();
            for block in numbers.chunks(call::block_rows(width) * width) {
                output.extend_from_slice(worker.model_mut().run(block).map_err(Failure::Model)?);
                pause.after(numbers.len() > block.len())?;
            }
            Ok(output)
        };
        let output: Result<Vec<f32>, Failure> = py.detach(|| self.workers.with(all).map_err(Failure::Model).flatten());
        let output = output.map_err(|failure| failure.raise(py))?;
        Array2::of_rows(py, output, numbers.len() / width, output_width)
    }

    /// The manifest, as JSON text.
    #[getter]
    fn manifest(&self) -> String {
        self.manifest.to_json()
    }

    /// The engine that runs the model: ``"onnxruntime"`` or ``"tract"``.
    #[getter]
    fn engine(&self) -> &str {
        self.engine
    }

    /// The model's name.
    #[getter]
    fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The model's version.
    #[getter]
    fn version(&self) -> &str {
        &self.manifest.version
    }

    /// What the model computes: ``"reconstruction"``, ``"next_event"``, ``"score"`` or ``"classifier"``.
    #[getter]
    fn kind(&self) -> &str {
        self.manifest.kind.as_str()
    }

    /// Numbers of one raw row.
    #[getter]
    fn n_features(&self) -> usize {
        self.manifest.features.len()
    }

    /// The names of the columns, in the model's order. What stands in the column of a constant feature is not read.
    #[getter]
    fn features(&self) -> Vec<&str> {
        self.manifest.features.iter().map(|feature| feature.name.as_str()).collect()
    }

    /// The score from which on a row is an anomaly; None if the manifest has no such limit.
    #[getter]
    fn threshold(&self) -> Option<f32> {
        self.limit
    }

    /// How many rows of a key a ``next_event`` model sees to expect the next one, else None.
    #[getter]
    fn look_back(&self) -> Option<usize> {
        self.look_back
    }

    /// Numbers of one row that the network sees: `n_features`, times `look_back` where it sees several rows.
    #[getter]
    fn input_width(&self) -> usize {
        self.input_width
    }

    /// Numbers of one row that the network gives.
    #[getter]
    fn output_width(&self) -> usize {
        self.output_width
    }

    #[pyo3(signature = () -> "tuple[tuple[str], dict[str, Any]]")]
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let Opening { path, store, engine, library, golden, manifest } = &self.opening;
        let keywords = PyDict::new(py);
        keywords.set_item("store", store)?;
        keywords.set_item("engine", engine)?;
        keywords.set_item("library", library)?;
        keywords.set_item("golden", golden)?;
        keywords.set_item("manifest", manifest)?;
        keywords.set_item("missing", &self.missing)?;
        // As text: in a path of Python's, `//` would become `/`.
        Ok((PyTuple::new(py, [path.as_os_str()])?, keywords))
    }

    fn __repr__(&self) -> String {
        let Manifest { name, version, kind, features, .. } = &self.manifest;
        let (path, kind, n_features) = (self.opening.path.display(), kind.as_str(), features.len());
        let engine = self.engine;
        format!("<Scorer {name} {version} ({kind}, {n_features} features) of {path} on {engine}>")
    }
}

impl Scorer {
    /// Scores all rows of `x`; also says whether it is one row without an axis of rows.
    fn pass(&self, x: &Bound<'_, PyAny>, keys: Option<KeysArgument<'_>>, wants: Wants) -> PyResult<(Found, bool)> {
        let py = x.py();
        self.guard.check("Scorer")?;
        if let Some(matrix) = Matrix::of(x)? {
            if matrix.is_row() && self.look_back.is_some() {
                let what =
                    "one row has no rows before it, by which a next_event model scores: give them too, with keys";
                return Err(ConfigError::new_err(what));
            }
            let found = self.pass_over(py, Source::Matrix(matrix.view()), None, keys, wants)?;
            return Ok((found, matrix.is_row()));
        }
        if let Some(batches) = batches_of(x)? {
            let found = self.pass_over(py, Source::Batches(&batches), Some(&batches), keys, wants)?;
            return Ok((found, false));
        }
        let what = format!(
            "rows come as a NumPy array of float32 or float64, or as an Arrow table, not as {}",
            x.get_type().fully_qualified_name()?
        );
        Err(ConfigError::new_err(what))
    }

    fn pass_over(
        &self,
        py: Python<'_>,
        source: Source<'_>,
        batches: Option<&[RecordBatch]>,
        keys: Option<KeysArgument<'_>>,
        wants: Wants,
    ) -> PyResult<Found> {
        let keys = match (self.manifest.kind, keys) {
            (Kind::NextEvent, Some(keys)) => Some(Keys::of(&keys.0, source.n_rows(), batches)?),
            (Kind::NextEvent, None) => {
                let what =
                    "a next_event model scores a row by the rows of its key before it: give keys, one for each row";
                return Err(ConfigError::new_err(what));
            }
            _ => None,
        };
        let all = |worker: &mut RowScorer| score(worker, source, keys.as_ref(), wants);
        let found = py.detach(|| self.workers.with(all).map_err(Failure::Model).flatten());
        found.map_err(|failure| failure.raise(py))?.check(py)
    }
}

impl Drop for Scorer {
    fn drop(&mut self) {
        // In a forked child the engine's threads and locks are not there to be ended.
        if self.guard.is_here() {
            // SAFETY: dropped here only, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.workers) };
        }
    }
}

const F32_ARRAY: PyStaticExpr =
    type_hint_subscript!(type_hint_identifier!("numpy.typing", "NDArray"), type_hint_identifier!("numpy", "float32"));
const F64_ARRAY: PyStaticExpr =
    type_hint_subscript!(type_hint_identifier!("numpy.typing", "NDArray"), type_hint_identifier!("numpy", "float64"));

/// Declares an argument that is looked at by hand, with its type in the stubs.
macro_rules! argument {
    ($(#[$doc:meta])* $name:ident: $hint:expr) => {
        $(#[$doc])*
        struct $name<'py>(Bound<'py, PyAny>);

        impl<'py> FromPyObject<'_, 'py> for $name<'py> {
            type Error = Infallible;

            const INPUT_TYPE: PyStaticExpr = $hint;

            fn extract(value: Borrowed<'_, 'py, PyAny>) -> Result<Self, Self::Error> {
                Ok($name(value.to_owned()))
            }
        }
    };
}

argument!(
    /// Raw rows.
    RowsArgument: type_hint_union!(F32_ARRAY, F64_ARRAY, ARROW_DATA)
);
argument!(
    /// A store of models.
    StoreArgument: type_hint_identifier!("iotml.store", "ModelStore")
);
argument!(
    /// Scaled rows.
    ScaledArgument: type_hint_union!(F32_ARRAY, F64_ARRAY)
);
argument!(
    /// A key for each row, or the name of a column.
    KeysArgument: type_hint_union!(
        type_hint_subscript!(
            type_hint_identifier!("collections.abc", "Iterable"),
            type_hint_identifier!("collections.abc", "Hashable")
        ),
        type_hint_identifier!("builtins", "str")
    )
);

/// An array, or a float for one row.
struct Scores<'py>(Bound<'py, PyAny>);

impl<'py> IntoPyObject<'py> for Scores<'py> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = Infallible;

    // A union with float would have every caller of the common form say which of them it is.
    const OUTPUT_TYPE: PyStaticExpr = type_hint_union!(F32_ARRAY, type_hint_identifier!("typing", "Any"));

    fn into_pyobject(self, _: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(self.0)
    }
}
