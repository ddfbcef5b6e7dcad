//! ONNX Runtime, loaded at run time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session};
use ort::value::Tensor;
use prost::bytes::Bytes;

use super::library::{Surroundings, find};
use super::{Checked, Engine};
use crate::EngineError;
use crate::precheck::Signature;

const NAME: &str = "onnxruntime";

/// ONNX Runtime allows one environment in a process, and it must outlive every session.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A session with its bound buffers.
pub(super) struct OnnxRuntime {
    bytes: Bytes,
    library: Option<PathBuf>,
    signature: Signature,
    session: Session,
    process: u32,
    bound: Option<Bound>,
}

/// Input and output memory for one batch size, bound once and reused while the size stays.
struct Bound {
    n_rows: usize,
    input: Tensor<f32>,
    output: Tensor<f32>,
    binding: IoBinding,
}

impl OnnxRuntime {
    pub(super) fn open(library: Option<&PathBuf>, checked: &Checked<'_>) -> Result<Self, EngineError> {
        Self::of_parts(checked.bytes.clone(), library.cloned(), checked.signature.clone())
    }

    fn of_parts(bytes: Bytes, library: Option<PathBuf>, signature: Signature) -> Result<Self, EngineError> {
        let session = open_session(library.as_deref(), &bytes)?;
        Ok(OnnxRuntime { bytes, library, signature, session, process: std::process::id(), bound: None })
    }

    /// Native handles do not survive a fork: the child opens its own session from the same bytes.
    fn reopen_after_fork(&mut self) -> Result<(), EngineError> {
        let process = std::process::id();
        if process != self.process {
            // The parent's handles are left alone; freeing them in the child would touch locks that nobody holds here.
            std::mem::forget(self.bound.take());
            let session = open_session(self.library.as_deref(), &self.bytes)?;
            std::mem::forget(std::mem::replace(&mut self.session, session));
            self.process = process;
        }
        Ok(())
    }

    fn bind(&self, n_rows: usize) -> Result<Bound, ort::Error> {
        let allocator = Allocator::default();
        let input = Tensor::<f32>::new(&allocator, self.signature.input_shape(n_rows))?;
        let mut output = Tensor::<f32>::new(&allocator, self.signature.output.shape(n_rows))?;
        let mut binding = self.session.create_binding()?;
        binding.bind_input(self.signature.input.as_str(), &input)?;
        binding.bind_output(self.signature.output.name.as_str(), &mut output)?;
        Ok(Bound { n_rows, input, output, binding })
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn input(&mut self, n_rows: usize) -> Result<&mut [f32], EngineError> {
        self.reopen_after_fork()?;
        if self.bound.as_ref().is_none_or(|bound| bound.n_rows != n_rows) {
            self.bound = Some(self.bind(n_rows).map_err(|error| failed(n_rows, error))?);
        }
        match &mut self.bound {
            Some(bound) => Ok(bound.input.extract_tensor_mut().1),
            None => Ok(&mut []),
        }
    }

    fn run(&mut self) -> Result<(&[f32], &[f32]), EngineError> {
        let Some(bound) = &self.bound else { return Ok((&[], &[])) };
        self.session.run_binding(&bound.binding).map_err(|error| failed(bound.n_rows, error))?;
        Ok((bound.input.extract_tensor().1, bound.output.extract_tensor().1))
    }

    fn another(&self) -> Result<Box<dyn Engine>, EngineError> {
        let (bytes, library, signature) = (self.bytes.clone(), self.library.clone(), self.signature.clone());
        Ok(Box::new(Self::of_parts(bytes, library, signature)?))
    }
}

fn open_session(library: Option<&Path>, bytes: &Bytes) -> Result<Session, EngineError> {
    let environment = environment(library)?;
    let load = |error: ort::Error| EngineError::Load { engine: NAME, source: Box::new(error) };
    let options = || -> Result<_, ort::Error> {
        let builder = Session::builder(&environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // A pattern is kept for every batch size ever seen, and under light load every size is seen.
            .with_memory_pattern(false)?;
        Ok(builder)
    };
    options().map_err(load)?.commit_from_memory(bytes).map_err(load)
}

/// The process's environment, made from the first library that loads.
fn environment(library: Option<&Path>) -> Result<Environment, EngineError> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    let found = find(library, &Surroundings::of_process());
    let mut failures = Vec::new();
    for file in &found.files {
        match ort::init_from(file) {
            Ok(builder) => {
                let environment = builder
                    .with_name("iotml")
                    .with_telemetry(false)
                    .build()
                    .map_err(|error| EngineError::Load { engine: NAME, source: Box::new(error) })?;
                tracing::info!(library = %file.display(), "onnxruntime loaded");
                *slot = Some(environment.clone());
                return Ok(environment);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(EngineError::NoLibrary { oldest: ort::MINOR_VERSION, tried: tried(&found, &failures) })
}

fn tried(found: &super::library::Found, failures: &[String]) -> String {
    let list = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    match (failures, found.is_named) {
        ([], true) => format!("{} does not exist", list(&found.searched)),
        ([], false) => format!("looked for a Python wheel and in {}", list(&found.searched)),
        (failures, _) => format!("found but not usable: {}", failures.join("; ")),
    }
}

fn failed(n_rows: usize, error: ort::Error) -> EngineError {
    EngineError::Run { engine: NAME, n_rows, source: Box::new(error) }
}
