//! Models as files and bytes: opening one with what Python gives, checking one, embedding a manifest.

use std::path::PathBuf;

use iotml_core::model::{Digest, DigestError};
use iotml_model::manifest::{self, ManifestError};
use iotml_model::precheck::Limits;
use iotml_model::store::{Fetched, Store, StoreOptions};
use iotml_model::{EngineChoice, GoldenRule, Manifest, ManifestSource, Model, OpenOptions, prefer_library_in};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error::{self, ConfigError, ModelError};
use crate::store::{Failure, StoreClient};

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

/// How a model is to be opened, in the words of Python.
pub struct Opening {
    /// The file, or a URI of it or of a version in a store.
    pub path: PathBuf,
    /// The `iotml.ModelStore` that the version is in; without one, the store that its URI names.
    pub store: Option<Py<PyAny>>,
    pub engine: Option<String>,
    pub library: Option<PathBuf>,
    pub golden: String,
    pub manifest: Option<String>,
}

impl Opening {
    /// Opens the model, which also runs its golden rows.
    pub fn open(&self, py: Python<'_>) -> PyResult<Model> {
        let golden = match self.golden.as_str() {
            "required" => GoldenRule::Required,
            "none" => GoldenRule::None,
            other => return Err(unknown("golden", other, "\"required\" or \"none\"")),
        };
        let mut options = OpenOptions {
            manifest: source_of(py, self.manifest.as_deref())?,
            engine: engine_of(self.engine.as_deref())?,
            library: self.library.clone(),
            golden,
            ..OpenOptions::default()
        };
        let opened = match self.place(py)? {
            Located::File(path) => py.detach(|| Model::open(&path, &options)),
            Located::Stored(fetched, limits) => {
                let Fetched { model, manifest, .. } = *fetched;
                if self.manifest.is_none() {
                    options.manifest = ManifestSource::Given(Box::new(manifest));
                }
                options.limits = limits;
                let uri = self.path.display().to_string();
                py.detach(|| Model::from_bytes(model.into(), &uri, &options))
            }
        };
        opened.map_err(|error| error::raise(py, ModelError::new_err, &error))
    }

    /// Finds the file, or fetches it and has the store verify it.
    fn place(&self, py: Python<'_>) -> PyResult<Located> {
        let text = self.path.to_str();
        if let Some(store) = &self.store {
            let client = store.bind(py).getattr("_client").and_then(|client| Ok(client.cast_into::<StoreClient>()?));
            let client = client.map_err(|_| ConfigError::new_err("store is no iotml.ModelStore"))?;
            let client = client.get();
            let split = client.store().name_and_version(text.unwrap_or_default());
            let (name, version) = split.map_err(|error| Failure::from(error).raise(py))?;
            return Located::of(py, client, name, version);
        }
        let Some((uri, scheme)) = text.and_then(|text| Some((text, text.split_once("://")?.0))) else {
            return Ok(Located::File(self.path.clone()));
        };
        match scheme {
            "file" => {
                let path = local(py, uri)?;
                if !path.is_dir() {
                    return Ok(Located::File(path));
                }
            }
            "s3" | "gs" | "az" | "memory" => {}
            _ => {
                let what = format!(
                    "{scheme:?} is no scheme that models are read from: give a path, file:///path, or the version of a model \
                     in a store, such as s3://models/cars/4; there are file, s3, gs, az and memory"
                );
                return Err(ConfigError::new_err(what));
            }
        }
        let opened = Store::open_uri(uri, &StoreOptions::default());
        let (store, name, version) = opened.map_err(|error| Failure::from(error).raise(py))?;
        Located::of(py, &StoreClient::of(store)?, name, version)
    }
}

/// Where a model is.
enum Located {
    File(PathBuf),
    /// As it was published, and how large it may be.
    Stored(Box<Fetched>, Limits),
}

impl Located {
    fn of(py: Python<'_>, client: &StoreClient, name: &str, version: &str) -> PyResult<Self> {
        let fetched = client.fetched(py, name.to_owned(), version.to_owned(), None)?;
        Ok(Located::Stored(Box::new(fetched), client.store().limits().clone()))
    }
}

/// The manifest that is given as JSON text, or else that of the model.
pub fn source_of(py: Python<'_>, json: Option<&str>) -> PyResult<ManifestSource> {
    Ok(match json {
        Some(json) => ManifestSource::Given(Box::new(parse(py, json)?)),
        None => ManifestSource::Model,
    })
}

/// A digest as Python writes it.
pub fn digest_of(text: &str) -> PyResult<Digest> {
    text.parse().map_err(|error: DigestError| ConfigError::new_err(error.to_string()))
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

/// The path in a `file:` URI.
fn local(py: Python<'_>, uri: &str) -> PyResult<PathBuf> {
    let parsed = py.import("urllib.parse")?.call_method1("urlparse", (uri,))?;
    py.import("urllib.request")?.call_method1("url2pathname", (parsed.getattr("path")?,))?.extract()
}
