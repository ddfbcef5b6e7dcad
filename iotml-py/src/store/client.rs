//! A store and the thread that talks to it.

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::SystemTime;

use iotml_model::ManifestSource;
use iotml_model::precheck::Limits;
use iotml_model::store::{Draft, Fetched, Listed, Store, StoreOptions};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use tokio::runtime::Runtime;

use super::Failure;
use crate::error::{ConfigError, IotmlError, parse};
use crate::model::{digest_of, source_of};
use crate::pipeline::followed;
use crate::process::{ForkGuard, apart, receive};

/// A model store at a URL, with options in JSON: those of `[score.follow.store_options]`.
#[pyclass(frozen, module = "iotml._iotml")]
pub struct StoreClient {
    store: Store,
    guard: ForkGuard,
    /// There until the end.
    runtime: Option<Runtime>,
}

/// Name, version, address, digest, and whether it is new.
type Stored = (String, String, String, String, bool);

/// Name, version, address, milliseconds since 1970, bytes, and whether it is signed.
type Shown = (String, String, String, i64, Option<u64>, bool);

#[pymethods]
impl StoreClient {
    /// Opens the store, and asks nothing of it. Raises `ConfigError` if there can be none.
    #[new]
    fn new(py: Python<'_>, url: &str, options: &str) -> PyResult<Self> {
        let options: StoreOptions = parse(options)?;
        let store = Store::open(url, &options).map_err(|error| Failure::from(error).raise(py))?;
        Self::of(store)
    }

    /// The store that the scorer of a pipeline takes models from.
    #[staticmethod]
    #[pyo3(signature = (text, file, plugins=None))]
    fn of_pipeline(py: Python<'_>, text: &str, file: &str, plugins: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let (follow, _) = followed(py, text, file, plugins)?;
        let none = || ConfigError::new_err(format!("the scorer of {file} names no store: set score.follow.store"));
        let url = follow.store.ok_or_else(none)?;
        let store = Store::open(&url, &follow.store_options).map_err(|error| Failure::from(error).raise(py))?;
        Self::of(store)
    }

    /// Where it is, without a slash at the end.
    #[getter]
    fn url(&self) -> &str {
        self.store.url()
    }

    /// The address of a version, whether it exists or not.
    fn uri(&self, py: Python<'_>, name: &str, version: &str) -> PyResult<String> {
        self.store.uri(name, version).map_err(|error| Failure::from(error).raise(py))
    }

    /// Puts a model into the store; gives its name, version, address and digest, and whether it is new.
    #[pyo3(signature = (onnx, *, name=None, version=None, manifest=None, check=true))]
    fn publish(
        &self,
        py: Python<'_>,
        onnx: Onnx,
        name: Option<String>,
        version: Option<String>,
        manifest: Option<String>,
        check: bool,
    ) -> PyResult<Stored> {
        self.guard.check("model store")?;
        let source = source_of(py, manifest.as_deref())?;
        let (store, limits) = (self.store.clone(), self.store.limits().clone());
        let prepare = move || draft(&onnx, &source, &limits, (name.as_deref(), version.as_deref()), check);
        let draft = apart(py, "reads a model", prepare)?.map_err(|failure| failure.raise(py))?;
        self.ask(py, async move {
            let (model, manifest) = draft.into_parts();
            let (name, version) = (manifest.name.clone(), manifest.version.clone());
            let stored = store.put(model, manifest).await?;
            Ok((name, version, stored.uri, stored.sha256.to_string(), stored.is_new))
        })
    }

    /// The versions that are there, or those of one model: name, version, address, when they were published in milliseconds
    /// since 1970, bytes (None if the file is missing), and whether they are signed.
    #[pyo3(signature = (name=None))]
    fn list(&self, py: Python<'_>, name: Option<String>) -> PyResult<Vec<Shown>> {
        let store = self.store.clone();
        let listed = self.ask(py, async move { Ok(store.list(name.as_deref()).await?) })?;
        Ok(listed.into_iter().map(|listed| self.shown(listed)).collect())
    }

    /// The manifest of a version as JSON, verified.
    fn manifest(&self, py: Python<'_>, name: String, version: String) -> PyResult<String> {
        let store = self.store.clone();
        let manifest = async move { Ok(store.manifest(&name, &version).await?) };
        Ok(self.ask(py, manifest)?.to_json())
    }

    /// A version, verified: the ONNX file, its digest, and its manifest as JSON.
    #[pyo3(signature = (name, version, sha256=None))]
    fn fetch<'py>(
        &self,
        py: Python<'py>,
        name: String,
        version: String,
        sha256: Option<&str>,
    ) -> PyResult<(Bound<'py, PyBytes>, String, String)> {
        let fetched = self.fetched(py, name, version, sha256)?;
        Ok((PyBytes::new(py, &fetched.model), fetched.sha256.to_string(), fetched.manifest.to_json()))
    }
}

impl StoreClient {
    /// A client of `store`.
    pub fn of(store: Store) -> PyResult<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("iotml-store").enable_all().build();
        let failed = |error| IotmlError::new_err(format!("no thread can be started to talk to a model store: {error}"));
        Ok(Self { store, guard: ForkGuard::new(), runtime: Some(runtime.map_err(failed)?) })
    }

    /// The store itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A version as it was published.
    pub fn fetched(&self, py: Python<'_>, name: String, version: String, sha256: Option<&str>) -> PyResult<Fetched> {
        let expected = sha256.map(digest_of).transpose()?;
        let store = self.store.clone();
        self.ask(py, async move { Ok(store.fetch(&name, &version, expected).await?) })
    }

    /// Waits for `work` without the GIL; Ctrl-C breaks it off.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> PyResult<T> {
        self.guard.check("model store")?;
        let Some(runtime) = &self.runtime else { return Err(IotmlError::new_err("the store is closed")) };
        let (sender, receiver) = channel();
        // Without an answer the sender is dropped, which tells as much.
        let task = runtime.spawn(async move { _ = sender.send(work.await) });
        let told = receive(py, receiver, "talks to a model store");
        // After Ctrl-C nobody wants the answer any more.
        task.abort();
        told?.map_err(|failure| failure.raise(py))
    }

    fn shown(&self, listed: Listed) -> Shown {
        let Listed { name, version, published, model_bytes, is_signed } = listed;
        let uri = format!("{}/{name}/{version}", self.store.url());
        let millis = published.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        (name, version, uri, millis, model_bytes, is_signed)
    }
}

impl Drop for StoreClient {
    fn drop(&mut self) {
        match self.runtime.take() {
            Some(runtime) if self.guard.is_here() => runtime.shutdown_background(),
            // Its thread did not survive the fork, and would be waited for in vain.
            runtime => std::mem::forget(runtime),
        }
    }
}

/// An ONNX file, or its content.
#[derive(FromPyObject)]
pub enum Onnx {
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

/// Reads a model that is to be published, under the name and version given; with `check` an engine opens it.
pub fn draft(
    onnx: &Onnx,
    manifest: &ManifestSource,
    limits: &Limits,
    (name, version): (Option<&str>, Option<&str>),
    check: bool,
) -> Result<Draft, Failure> {
    let draft = match onnx {
        Onnx::Bytes(bytes) => Draft::from_bytes(bytes.to_vec(), manifest, limits)?,
        Onnx::Path(path) => Draft::read(path, manifest, limits)?,
    };
    let draft = draft.named(name, version);
    if check {
        draft.open()?;
    }
    Ok(draft)
}
