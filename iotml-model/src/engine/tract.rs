//! tract: pure Rust, for machines without ONNX Runtime.
//!
//! tract 0.23 fails on the symbolic batch of exported models and plans for fixed shapes, so a batch is cut into blocks of
//! three sizes, each with a plan of its own, and the last block is padded. It ignores the `activations` of recurrent
//! operators, which would be silently wrong, so such models are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use prost::bytes::Buf as _;
use tract_onnx::prelude::*;

use super::{Checked, Engine};
use crate::EngineError;
use crate::precheck::Signature;
use crate::precheck::proto::{Model, Node};

const NAME: &str = "tract";

/// Block sizes with a plan each, largest first.
const BLOCKS: [usize; 3] = [256, 32, 1];

type Plan = Arc<TypedSimplePlan>;

/// A model planned for each block size.
pub(super) struct Tract {
    signature: Signature,
    plans: [Plan; BLOCKS.len()],
    input: Vec<f32>,
    output: Vec<f32>,
    block: Vec<f32>,
}

impl Tract {
    pub(super) fn open(checked: &Checked<'_>) -> Result<Self, EngineError> {
        if let Some(reason) = unsupported(checked.model) {
            return Err(EngineError::Unsupported { engine: NAME, reason });
        }
        // tract indexes and unwraps while it parses; a panic there must not take the worker with it.
        let plans = catch_unwind(AssertUnwindSafe(|| plan_all(checked)))
            .unwrap_or_else(|panic| Err(TractError::msg(message(panic.as_ref()))))
            .map_err(|error| EngineError::Load { engine: NAME, source: error.into() })?;
        Ok(Self::of_parts(checked.signature.clone(), plans))
    }

    fn of_parts(signature: Signature, plans: [Plan; BLOCKS.len()]) -> Self {
        Tract { signature, plans, input: Vec::new(), output: Vec::new(), block: Vec::new() }
    }
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn input(&mut self, n_rows: usize) -> Result<&mut [f32], EngineError> {
        self.input.resize(n_rows * self.signature.input_width(), 0.0);
        Ok(&mut self.input)
    }

    fn run(&mut self) -> Result<(&[f32], &[f32]), EngineError> {
        let width = self.signature.input_width();
        let n_rows = self.input.len() / width;
        self.output.clear();
        let mut rest = self.input.as_slice();
        while !rest.is_empty() {
            let (size, plan) = choose(&self.plans, rest.len() / width);
            let n_taken = size.min(rest.len() / width);
            let (taken, after) = rest.split_at(n_taken * width);
            self.block.clear();
            self.block.extend_from_slice(taken);
            self.block.resize(size * width, 0.0);
            rest = after;
            let n = n_taken * self.signature.output.width();
            run_block(plan, &self.signature, size, &self.block, &mut self.output, n)
                .map_err(|error| EngineError::Run { engine: NAME, n_rows, source: error.into() })?;
        }
        Ok((&self.input, &self.output))
    }

    fn another(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Self::of_parts(self.signature.clone(), self.plans.clone())))
    }
}

/// The block for `n_left` rows: the smallest that takes them all, or the largest there is.
fn choose(plans: &[Plan; BLOCKS.len()], n_left: usize) -> (usize, &Plan) {
    let at = (0..BLOCKS.len()).rev().find(|at| BLOCKS[*at] >= n_left).unwrap_or(0);
    (BLOCKS[at], &plans[at])
}

fn run_block(
    plan: &Plan,
    signature: &Signature,
    size: usize,
    rows: &[f32],
    out: &mut Vec<f32>,
    n: usize,
) -> TractResult<()> {
    let input = Tensor::from_shape(&signature.input_shape(size), rows)?;
    let outputs = plan.run(tvec!(input.into()))?;
    let output = outputs.first().ok_or_else(|| TractError::msg("no output"))?.to_plain_array_view::<f32>()?;
    if output.shape() != signature.output.shape(size) {
        return Err(TractError::msg(format!("output has the shape {:?}", output.shape())));
    }
    out.extend(output.iter().take(n));
    Ok(())
}

fn plan_all(checked: &Checked<'_>) -> TractResult<[Plan; BLOCKS.len()]> {
    Ok([plan(checked, BLOCKS[0])?, plan(checked, BLOCKS[1])?, plan(checked, BLOCKS[2])?])
}

fn plan(checked: &Checked<'_>, n_rows: usize) -> TractResult<Plan> {
    let signature = checked.signature;
    let fact = InferenceFact::dt_shape(f32::datum_type(), signature.input_shape(n_rows));
    let model = tract_onnx::onnx()
        // The declared shapes name a symbolic batch that the concrete one would contradict.
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_read(&mut checked.bytes.clone().reader())?
        .with_input_fact(0, fact)?;
    let outputs = checked.model.graph.iter().flat_map(|graph| &graph.output);
    let at = outputs.map(|output| &output.name).position(|name| *name == signature.output.name);
    let outlet = at.and_then(|at| model.outputs.get(at).copied()).ok_or_else(|| TractError::msg("no such output"))?;
    model.with_output_outlets(&[outlet])?.into_optimized()?.into_runnable()
}

fn unsupported(model: &Model) -> Option<String> {
    model.graph.iter().flat_map(|graph| &graph.node).find_map(unsupported_recurrence)
}

fn unsupported_recurrence(node: &Node) -> Option<String> {
    let default: &[&str] = match node.op_type.as_str() {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        "RNN" => &["tanh"],
        _ => return None,
    };
    let because =
        |what: String| Some(format!("operator {} of node `{}` {what}, which tract ignores", node.op_type, node.name));
    for attribute in &node.attribute {
        match attribute.name.as_str() {
            "activations" => {
                let found: Vec<_> =
                    attribute.strings.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
                // A bidirectional operator repeats the list for its second direction.
                if !found.chunks(default.len()).all(|chunk| chunk == default) {
                    return because(format!("has the activations {found:?} in the place of {default:?}"));
                }
            }
            "activation_alpha" | "activation_beta" | "clip" => return because(format!("sets `{}`", attribute.name)),
            "input_forget" if attribute.i == Some(1) => {
                return because("couples its input and forget gates".to_owned());
            }
            _ => {}
        }
    }
    None
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
