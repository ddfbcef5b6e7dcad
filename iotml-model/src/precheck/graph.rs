//! Checks on the graph that need no manifest.

use std::collections::{HashMap, HashSet};

use super::operators::{is_known, size_operand};
use super::proto::{Attribute, Graph, Model, Node, OperatorSet, Tensor};
use super::{Limits, Refusal};

/// IR versions whose meaning this crate's messages cover.
const IR_VERSIONS: (i64, i64) = (3, 13);

/// Versions of `ai.onnx.ml`.
const ML_VERSIONS: (i64, i64) = (1, 5);

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

pub(super) fn check(model: &Model, limits: &Limits) -> Result<(), Refusal> {
    let (min, max) = IR_VERSIONS;
    let found = model.ir_version.unwrap_or(0);
    if !(min..=max).contains(&found) {
        return Err(Refusal::IrVersion { found, min, max });
    }
    for (present, what) in [
        (!model.functions.is_empty(), "functions of its own"),
        (!model.training_info.is_empty(), "training information"),
    ] {
        if present {
            return Err(Refusal::Unsupported { what });
        }
    }
    check_opsets(&model.opset_import, limits)?;
    let graph = model.graph.as_ref().filter(|graph| !graph.node.is_empty()).ok_or(Refusal::NoGraph)?;
    if !graph.sparse_initializer.is_empty() {
        return Err(Refusal::Unsupported { what: "sparse tensors" });
    }
    if graph.node.len() > limits.max_nodes {
        return Err(Refusal::TooManyNodes { nodes: graph.node.len(), limit: limits.max_nodes });
    }
    for tensor in &graph.initializer {
        check_tensor(tensor, limits)?;
    }
    for node in &graph.node {
        check_node(node, limits)?;
    }
    check_names(graph)?;
    check_made_sizes(graph, limits)
}

/// Every name that is read must be made before; engines differ in how they take it when one is not.
fn check_names(graph: &Graph) -> Result<(), Refusal> {
    let mut made: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    for node in &graph.node {
        // An empty name stands for an optional input that is left out.
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !made.contains(name.as_str()) {
                return Err(Refusal::Name { name: name.clone(), reader: format!("node `{}`", node.name) });
            }
        }
        made.extend(node.output.iter().map(String::as_str));
    }
    match graph.output.iter().find(|output| !made.contains(output.name.as_str())) {
        Some(output) => Err(Refusal::Name { name: output.name.clone(), reader: "the graph's output".to_owned() }),
        None => Ok(()),
    }
}

fn check_opsets(opsets: &[OperatorSet], limits: &Limits) -> Result<(), Refusal> {
    let mut has_standard = false;
    for opset in opsets {
        let (min, max) = match opset.domain.as_str() {
            "" | "ai.onnx" => {
                has_standard = true;
                (limits.min_opset, limits.max_opset)
            }
            "ai.onnx.ml" => ML_VERSIONS,
            // Exporters import domains they do not use; the operators decide.
            _ => continue,
        };
        if !(min..=max).contains(&opset.version) {
            let domain = if opset.domain.is_empty() { "ai.onnx" } else { &opset.domain };
            return Err(Refusal::Opset { domain: domain.to_owned(), found: opset.version, min, max });
        }
    }
    if has_standard { Ok(()) } else { Err(Refusal::NoOpset) }
}

fn check_node(node: &Node, limits: &Limits) -> Result<(), Refusal> {
    let full_name = format!("{}:{}", node.domain, node.op_type);
    let is_allowed = is_known(&node.domain, &node.op_type)
        || limits
            .allow_operators
            .iter()
            .any(|allowed| *allowed == full_name || (node.domain.is_empty() && *allowed == node.op_type));
    if !is_allowed {
        return Err(Refusal::Operator {
            domain: if node.domain.is_empty() { "ai.onnx".to_owned() } else { node.domain.clone() },
            operator: node.op_type.clone(),
            node: node.name.clone(),
        });
    }
    for attribute in &node.attribute {
        if attribute.g.is_some() || !attribute.graphs.is_empty() {
            return Err(Refusal::Subgraph { node: node.name.clone() });
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor, limits)?;
        }
    }
    Ok(())
}

/// More axes than any engine takes.
const MAX_RANK: usize = 32;

fn check_tensor(tensor: &Tensor, limits: &Limits) -> Result<(), Refusal> {
    let wrong = |reason: String| Err(Refusal::TensorShape { tensor: tensor.name.clone(), reason });
    if tensor.dims.len() > MAX_RANK {
        return wrong(format!("{} axes are more than {MAX_RANK}", tensor.dims.len()));
    }
    if tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty() {
        return Err(Refusal::ExternalData { tensor: tensor.name.clone() });
    }
    let Some(n) = product(&tensor.dims) else {
        return wrong(format!("shape {:?} is negative or overflows", tensor.dims));
    };
    if n > limits.stored_elements() {
        return wrong(format!("{n} numbers are above the limit of {}", limits.stored_elements()));
    }
    let Some((name, bits)) = element(tensor.data_type) else {
        return wrong(format!("element type {} is not accepted", tensor.data_type));
    };
    let found = match &tensor.raw_data {
        Some(raw) => raw.len() as u64,
        None => {
            let n_stored = match tensor.data_type {
                1 => tensor.float_data.len(),
                7 => tensor.int64_data.len(),
                8 => tensor.string_data.len(),
                11 => tensor.double_data.len(),
                12 | 13 => tensor.uint64_data.len(),
                _ => tensor.int32_data.len(),
            } as u64;
            if n_stored != n {
                return wrong(format!("shape {:?} needs {n} numbers of {name}, found {n_stored}", tensor.dims));
            }
            return Ok(());
        }
    };
    let wanted = n.saturating_mul(bits).div_ceil(8);
    if found != wanted || tensor.data_type == 8 {
        return wrong(format!("shape {:?} of {name} needs {wanted} bytes, found {found}", tensor.dims));
    }
    Ok(())
}

/// A constant operand that asks for a huge result is refused, since engines fold constants while they load.
fn check_made_sizes(graph: &Graph, limits: &Limits) -> Result<(), Refusal> {
    let mut constants: HashMap<&str, Vec<i64>> =
        graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_str(), integers(tensor)?))).collect();
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        if let (Some(output), Some(value)) = (node.output.first(), node.attribute.iter().find_map(constant)) {
            constants.insert(output, value);
        }
    }
    check_ranges(graph, limits)?;
    for node in &graph.node {
        let operand = size_operand(&node.op_type).and_then(|index| node.input.get(index));
        let Some(value) = operand.and_then(|name| constants.get(name.as_str())) else { continue };
        if product(value).is_none_or(|n| n > limits.made_elements()) {
            return Err(Refusal::TensorShape {
                tensor: node.output.first().cloned().unwrap_or_default(),
                reason: format!("{} makes a result of the size {value:?}", node.op_type),
            });
        }
    }
    Ok(())
}

/// The same for `Range`, which makes as many numbers as fit between two.
fn check_ranges(graph: &Graph, limits: &Limits) -> Result<(), Refusal> {
    if !graph.node.iter().any(|node| node.op_type == "Range") {
        return Ok(());
    }
    let mut constants: HashMap<&str, f64> =
        graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_str(), scalar(tensor)?))).collect();
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        let value = node.attribute.iter().find_map(|attribute| match attribute.name.as_str() {
            "value" => scalar(attribute.t.as_ref()?),
            "value_int" => Some(attribute.i? as f64),
            "value_float" => Some(f64::from(attribute.f?)),
            _ => None,
        });
        if let (Some(output), Some(value)) = (node.output.first(), value) {
            constants.insert(output, value);
        }
    }
    for node in graph.node.iter().filter(|node| node.op_type == "Range") {
        let [start, limit, delta] = node.input.as_slice() else { continue };
        let [Some(start), Some(limit), Some(delta)] = [start, limit, delta].map(|name| constants.get(name.as_str()))
        else {
            continue;
        };
        let n = ((limit - start) / delta).ceil();
        if n.is_nan() || n > limits.made_elements() as f64 {
            return Err(Refusal::TensorShape {
                tensor: node.output.first().cloned().unwrap_or_default(),
                reason: format!("Range makes {n} numbers"),
            });
        }
    }
    Ok(())
}

/// The only number of a tensor.
fn scalar(tensor: &Tensor) -> Option<f64> {
    if product(&tensor.dims) != Some(1) {
        return None;
    }
    let raw = tensor.raw_data.as_deref();
    match tensor.data_type {
        1 => raw
            .map_or_else(|| tensor.float_data.first().copied(), |raw| Some(f32::from_le_bytes(raw.try_into().ok()?)))
            .map(f64::from),
        6 => raw
            .map_or_else(|| tensor.int32_data.first().copied(), |raw| Some(i32::from_le_bytes(raw.try_into().ok()?)))
            .map(f64::from),
        7 => raw
            .map_or_else(|| tensor.int64_data.first().copied(), |raw| Some(i64::from_le_bytes(raw.try_into().ok()?)))
            .map(|value| value as f64),
        11 => raw
            .map_or_else(|| tensor.double_data.first().copied(), |raw| Some(f64::from_le_bytes(raw.try_into().ok()?))),
        _ => None,
    }
}

fn constant(attribute: &Attribute) -> Option<Vec<i64>> {
    match attribute.name.as_str() {
        "value" => integers(attribute.t.as_ref()?),
        "value_int" => Some(vec![attribute.i?]),
        "value_ints" => Some(attribute.ints.clone()),
        _ => None,
    }
}

/// The values of a small int64 tensor.
fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    if tensor.data_type != 7 || tensor.dims.len() > 1 {
        return None;
    }
    match &tensor.raw_data {
        Some(raw) => Some(raw.chunks_exact(8).filter_map(|b| b.try_into().ok().map(i64::from_le_bytes)).collect()),
        None => Some(tensor.int64_data.clone()),
    }
}

fn product(dims: &[i64]) -> Option<u64> {
    dims.iter().try_fold(1u64, |n, dim| n.checked_mul(u64::try_from(*dim).ok()?))
}

/// Name and bits of an element type that a scorer's model may use.
fn element(data_type: i32) -> Option<(&'static str, u64)> {
    Some(match data_type {
        1 => ("float32", 32),
        2 => ("uint8", 8),
        3 => ("int8", 8),
        4 => ("uint16", 16),
        5 => ("int16", 16),
        6 => ("int32", 32),
        7 => ("int64", 64),
        8 => ("string", 0),
        9 => ("bool", 8),
        10 => ("float16", 16),
        11 => ("float64", 64),
        12 => ("uint32", 32),
        13 => ("uint64", 64),
        16 => ("bfloat16", 16),
        _ => return None,
    })
}

/// The name of any ONNX element type, for messages.
pub(super) fn element_name(data_type: i32) -> &'static str {
    match data_type {
        0 => "undefined",
        other => element(other).map_or("an unusual one", |(name, _)| name),
    }
}
