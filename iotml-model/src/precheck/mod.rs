//! Checks on an ONNX file before native code sees it.
//!
//! An engine is a large C++ program that trusts its input more than a file from a topic or a store deserves. So the file is
//! first read here, in safe Rust: its size, the number of its parts, its operator sets and operators, its tensors' shapes
//! against their data, and its inputs and outputs against the manifest. Each refusal says what is wrong.

mod graph;
mod operators;
pub(crate) mod proto;
mod refusal;
mod scan;
mod signature;

pub use refusal::Refusal;
pub(crate) use signature::Signature;

use iotml_core::schemars::{self, JsonSchema};
use prost::Message as _;
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Manifest;

/// What an ONNX file may be at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Nodes of the graph.
    pub max_nodes: usize,
    /// Nodes, names, attributes, tensors, dimensions and metadata entries together.
    pub max_elements: usize,
    /// Numbers in one tensor, stored or made by an operator from a constant shape. Without it, the file bounds what is stored in it,
    /// and what is made may have as many numbers as `max_bytes` could hold in single precision, and 16 Mi at least.
    pub max_tensor_elements: Option<u64>,
    /// The oldest operator set of `ai.onnx`.
    pub min_opset: i64,
    /// The newest operator set of `ai.onnx`.
    pub max_opset: i64,
    /// Operators allowed beside the built-in list, as `Name` or `domain:Name`.
    pub allow_operators: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 64 << 20,
            max_nodes: 10_000,
            max_elements: 200_000,
            max_tensor_elements: None,
            min_opset: 7,
            max_opset: 25,
            allow_operators: Vec::new(),
        }
    }
}

/// Numbers of a tensor that an operator makes, which are allowed even where no file may be so large.
const MADE_ELEMENTS: u64 = 16 << 20;

impl Limits {
    /// Numbers in a tensor that the file holds, each in a byte at least.
    fn stored_elements(&self) -> u64 {
        self.max_tensor_elements.unwrap_or(self.max_bytes)
    }

    /// Numbers in a tensor that an operator makes.
    fn made_elements(&self) -> u64 {
        self.max_tensor_elements.unwrap_or_else(|| MADE_ELEMENTS.max(self.max_bytes / 4))
    }
}

/// Checks `bytes` as opening the model would before an engine sees it: by themselves, and against a manifest where there is one.
///
/// # Errors
/// [`Refusal`], which says what is wrong.
pub fn check(bytes: Vec<u8>, manifest: Option<&Manifest>, limits: &Limits) -> Result<(), Refusal> {
    let model = parse(&Bytes::from(bytes), limits)?;
    match manifest {
        Some(manifest) => Signature::of(&model, manifest).map(drop),
        None => Ok(()),
    }
}

/// Parses `bytes` and checks all that needs no manifest.
pub(crate) fn parse(bytes: &Bytes, limits: &Limits) -> Result<proto::Model, Refusal> {
    let size = bytes.len() as u64;
    if size > limits.max_bytes {
        return Err(Refusal::TooLarge { bytes: size, limit: limits.max_bytes });
    }
    scan::scan(bytes, limits)?;
    let model = proto::Model::decode(bytes.clone())?;
    graph::check(&model, limits).map_err(Refusal::shortened)?;
    Ok(model)
}

#[cfg(test)]
mod tests;
