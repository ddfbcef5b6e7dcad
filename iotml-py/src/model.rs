//! Models as files and bytes: opening one with what Python gives, checking one, embedding a manifest.

use std::path::{Path, PathBuf};

use iotml_model::manifest::{self, ManifestError};
use iotml_model::{EngineChoice, GoldenRule, Manifest, ManifestSource, Model, OpenOptions, prefer_library_in};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error::{self, ConfigError, ModelError};

/// Gives an ONNX file a manifest, in the place of one that it has; all else in it stays as it is.
///
/// ``onnx`` is the file's bytes and ``manifest_json`` the manifest as JSON text. Gives the new file's bytes.
///
/// Raises `ModelError` if the manifest is not valid or the bytes are no ONNX file.
#[pyfunction]
pub fn embed_manifest<'py>(py: Python<'py>, onnx: &[u8], manifest_json: &str) -> PyResult<Bound<'py, PyBytes>> {
    let manifest = parse(py, manifest_json)?;
    let bytes = manifest::embed(onnx, &manifest).map_err(|error| error::raise(py, ModelError::new_err, &error))?;
    Ok(PyBytes::new(py, &bytes))
}

/// Opens a model as a scorer would, without keeping it: the checks of the file, the engine, the golden rows.
///
/// ``onnx`` is the ONNX file's bytes and ``manifest_json`` the manifest as JSON text, which takes the place of one in the
/// file. ``engine`` and ``library`` are as for `Scorer`.
///
/// Gives what was found: ``engine``, ``kind``, ``input``, ``output`` (names in the graph), ``input_width``,
/// ``output_width`` (numbers a row), ``look_back`` (rows, or None) and ``golden_rows`` (how many came out).
///
/// Raises `ModelError` saying what is wrong.
#[pyfunction]
#[pyo3(signature = (onnx, manifest_json, *, engine=None, library=None) -> "dict[str, Any]")]
pub fn check_model<'py>(
    py: Python<'py>,
    onnx: &[u8],
    manifest_json: &str,
    engine: Option<&str>,
    library: Option<PathBuf>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = OpenOptions {
        manifest: ManifestSource::Given(Box::new(parse(py, manifest_json)?)),
        engine: engine_of(engine)?,
        library,
        golden: GoldenRule::None,
        ..OpenOptions::default()
    };
    let bytes = onnx.to_vec();
    let model = py
        .detach(|| Model::from_bytes(bytes, "given as bytes", &options))
        .map_err(|error| error::raise(py, ModelError::new_err, &error))?;
    let found = PyDict::new(py);
    found.set_item("engine", model.engine())?;
    found.set_item("kind", model.manifest().kind.as_str())?;
    found.set_item("input", model.input_name())?;
    found.set_item("output", model.output_name())?;
    found.set_item("input_width", model.input_width())?;
    found.set_item("output_width", model.output_width())?;
    found.set_item("look_back", model.look_back())?;
    found.set_item("golden_rows", model.manifest().golden.as_ref().map_or(0, |golden| golden.input.len()))?;
    Ok(found)
}

/// How a file is to be opened, in the words of Python.
#[derive(Clone)]
pub struct Opening {
    /// The file, or a `file:` URI of it.
    pub path: PathBuf,
    pub engine: Option<String>,
    pub library: Option<PathBuf>,
    pub golden: String,
    pub manifest: Option<String>,
}

impl Opening {
    /// Opens the model, which also runs its golden rows.
    pub fn open(&self, py: Python<'_>) -> PyResult<Model> {
        let path = local(py, &self.path)?;
        let manifest = match &self.manifest {
            Some(json) => ManifestSource::Given(Box::new(parse(py, json)?)),
            None => ManifestSource::Model,
        };
        let golden = match self.golden.as_str() {
            "required" => GoldenRule::Required,
            "none" => GoldenRule::None,
            other => return Err(unknown("golden", other, "\"required\" or \"none\"")),
        };
        let options = OpenOptions {
            manifest,
            engine: engine_of(self.engine.as_deref())?,
            library: self.library.clone(),
            golden,
            ..OpenOptions::default()
        };
        py.detach(|| Model::open(&path, &options)).map_err(|error| error::raise(py, ModelError::new_err, &error))
    }
}

/// Has ONNX Runtime looked for in the package of the Python that runs, which is found but not imported.
pub fn prefer_installed_onnxruntime(py: Python<'_>) -> PyResult<()> {
    let spec = py.import("importlib.util")?.call_method1("find_spec", ("onnxruntime",))?;
    if spec.is_none() {
        return Ok(());
    }
    for folder in spec.getattr("submodule_search_locations")?.try_iter()? {
        prefer_library_in(folder?.extract::<PathBuf>()?.join("capi"));
    }
    Ok(())
}

/// The exception for a word that an argument may not be.
pub fn unknown(argument: &str, found: &str, known: &str) -> PyErr {
    ConfigError::new_err(format!("{argument} is {found:?}, but it must be {known}"))
}

fn parse(py: Python<'_>, json: &str) -> PyResult<Manifest> {
    let refused = |error: ManifestError| error::raise(py, ModelError::new_err, &error);
    Manifest::from_json(json.as_bytes()).map_err(refused)
}

fn engine_of(name: Option<&str>) -> PyResult<EngineChoice> {
    match name {
        None => Ok(EngineChoice::Auto),
        Some("onnxruntime") => Ok(EngineChoice::OnnxRuntime),
        Some("tract") => Ok(EngineChoice::Tract),
        Some(other) => {
            Err(unknown("engine", other, "\"onnxruntime\", \"tract\" or None for the first of them that is there"))
        }
    }
}

/// The path of a file that may be given as a URI.
fn local(py: Python<'_>, path: &Path) -> PyResult<PathBuf> {
    let Some((uri, scheme)) = path.to_str().and_then(|text| Some((text, text.split_once("://")?.0))) else {
        return Ok(path.to_owned());
    };
    if scheme != "file" {
        let what =
            format!("{} is not a local file: {scheme} is not a scheme that models are read from", path.display());
        return Err(ConfigError::new_err(what));
    }
    let parsed = py.import("urllib.parse")?.call_method1("urlparse", (uri,))?;
    py.import("urllib.request")?.call_method1("url2pathname", (parsed.getattr("path")?,))?.extract()
}
