//! What runs a model: ONNX Runtime, or tract in pure Rust.

#[cfg(feature = "onnxruntime")]
mod library;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "tract")]
mod tract;

use std::path::PathBuf;

use iotml_core::schemars::{self, JsonSchema};
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::EngineError;
use crate::precheck::{Signature, proto::Model};

/// Which engine runs the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// ONNX Runtime if this build has it and its library is found, else tract if this build has it.
    #[default]
    Auto,
    /// ONNX Runtime or an error.
    OnnxRuntime,
    /// tract or an error.
    Tract,
}

/// Looks for the library of ONNX Runtime in `dir` before all places that nobody named: a program that hosts a Python knows
/// where that one's packages lie.
pub fn prefer_library_in(dir: PathBuf) {
    #[cfg(feature = "onnxruntime")]
    library::prefer(dir);
    #[cfg(not(feature = "onnxruntime"))]
    drop(dir);
}

/// One loaded model, owned by one task.
///
/// 1. `input(n)` gives a buffer for `n` rows in the signature's row-major shape; what it holds before is unspecified.
/// 2. `run()` computes the rows last written and gives them back with the output, row-major, `n * output.width()` numbers.
/// 3. Both reuse their buffers while `n` stays the same.
pub(crate) trait Engine: Send {
    /// The engine's name in messages.
    fn name(&self) -> &'static str;

    /// The input buffer for `n_rows` rows.
    fn input(&mut self, n_rows: usize) -> Result<&mut [f32], EngineError>;

    /// Runs the rows in the input buffer; gives input and output.
    fn run(&mut self) -> Result<(&[f32], &[f32]), EngineError>;

    /// The same model once more, for another thread.
    fn another(&self) -> Result<Box<dyn Engine>, EngineError>;
}

/// A checked model, ready for any engine.
pub(crate) struct Checked<'a> {
    pub(crate) bytes: &'a Bytes,
    #[cfg_attr(not(feature = "tract"), expect(dead_code, reason = "only tract has operators that it gets wrong"))]
    pub(crate) model: &'a Model,
    pub(crate) signature: &'a Signature,
}

/// Opens `checked` on the engine of `choice`; `library` is the configured path of libonnxruntime, if any.
pub(crate) fn open(
    choice: EngineChoice,
    library: Option<&PathBuf>,
    checked: &Checked<'_>,
) -> Result<Box<dyn Engine>, EngineError> {
    match choice {
        EngineChoice::OnnxRuntime => open_onnxruntime(library, checked),
        EngineChoice::Tract => open_tract(checked),
        EngineChoice::Auto => match open_onnxruntime(library, checked) {
            // Only a missing library makes tract the better answer; a model that fails is a model that fails.
            Err(missing @ (EngineError::NoLibrary { .. } | EngineError::NotBuilt { .. })) => {
                match open_tract(checked) {
                    Err(EngineError::NotBuilt { .. }) => Err(missing),
                    Ok(engine) => {
                        tracing::info!(reason = %missing, "model runs on tract");
                        Ok(engine)
                    }
                    refused => refused,
                }
            }
            opened => opened,
        },
    }
}

#[cfg(feature = "onnxruntime")]
fn open_onnxruntime(library: Option<&PathBuf>, checked: &Checked<'_>) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(onnxruntime::OnnxRuntime::open(library, checked)?))
}

#[cfg(not(feature = "onnxruntime"))]
fn open_onnxruntime(_: Option<&PathBuf>, _: &Checked<'_>) -> Result<Box<dyn Engine>, EngineError> {
    Err(EngineError::NotBuilt { engine: "onnxruntime" })
}

#[cfg(feature = "tract")]
fn open_tract(checked: &Checked<'_>) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(tract::Tract::open(checked)?))
}

#[cfg(not(feature = "tract"))]
fn open_tract(_: &Checked<'_>) -> Result<Box<dyn Engine>, EngineError> {
    Err(EngineError::NotBuilt { engine: "tract" })
}
