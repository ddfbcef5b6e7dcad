//! Small ONNX models made in code, for tests of this crate and of what uses it.

use prost::Message as _;
use prost::bytes::Bytes;

use crate::precheck::proto::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Shape, StringEntry, Tensor, TensorType, ValueInfo, ValueType,
};

/// Builds an ONNX file node by node; nothing is checked.
#[derive(Debug, Clone)]
#[must_use]
pub struct OnnxBuilder {
    pub(crate) model: Model,
}

impl Default for OnnxBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl OnnxBuilder {
    /// A file of IR version 8 and opset 15 with an empty graph.
    pub fn new() -> Self {
        let opset = OperatorSet { domain: String::new(), version: 15 };
        let graph = Some(Graph::default());
        OnnxBuilder { model: Model { ir_version: Some(8), graph, opset_import: vec![opset], ..Model::default() } }
    }

    /// A float32 input; `None` leaves an axis open.
    pub fn input(mut self, name: &str, axes: &[Option<i64>]) -> Self {
        self.graph().input.push(value(name, 1, axes));
        self
    }

    /// A float32 output; `None` leaves an axis open.
    pub fn output(mut self, name: &str, axes: &[Option<i64>]) -> Self {
        self.graph().output.push(value(name, 1, axes));
        self
    }

    /// A constant float32 tensor.
    pub fn weights(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph().initializer.push(Tensor {
            dims: dims.to_vec(),
            data_type: 1,
            name: name.to_owned(),
            raw_data: Some(Bytes::from(raw)),
            ..Tensor::default()
        });
        self
    }

    /// A constant int64 tensor of one axis.
    pub fn integers(mut self, name: &str, values: &[i64]) -> Self {
        self.graph().initializer.push(Tensor {
            dims: vec![values.len() as i64],
            data_type: 7,
            name: name.to_owned(),
            int64_data: values.to_vec(),
            ..Tensor::default()
        });
        self
    }

    /// A float32 tensor that is said to lie in another file.
    pub fn external(mut self, name: &str, dims: &[i64], location: &str) -> Self {
        let entry = StringEntry { key: "location".to_owned(), value: location.to_owned() };
        let tensor = Tensor { dims: dims.to_vec(), data_type: 1, name: name.to_owned(), ..Tensor::default() };
        self.graph().initializer.push(Tensor { external_data: vec![entry], ..tensor });
        self
    }

    /// A node; its name is that of its first output.
    pub fn node(mut self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.graph().node.push(Node {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: outputs.iter().map(|name| (*name).to_owned()).collect(),
            name: outputs.first().copied().unwrap_or_default().to_owned(),
            op_type: operator.to_owned(),
            ..Node::default()
        });
        self
    }

    /// An integer attribute of the last node.
    pub fn attribute(mut self, name: &str, value: i64) -> Self {
        let attribute = Attribute { name: name.to_owned(), i: Some(value), kind: Some(2), ..Attribute::default() };
        if let Some(node) = self.graph().node.last_mut() {
            node.attribute.push(attribute);
        }
        self
    }

    /// The attribute `axes` of the last node.
    pub fn axes(mut self, axes: &[i64]) -> Self {
        let attribute =
            Attribute { name: "axes".to_owned(), ints: axes.to_vec(), kind: Some(7), ..Attribute::default() };
        if let Some(node) = self.graph().node.last_mut() {
            node.attribute.push(attribute);
        }
        self
    }

    /// An entry of the metadata.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.model.metadata_props.push(StringEntry { key: key.to_owned(), value: value.to_owned() });
        self
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }

    pub(crate) fn graph(&mut self) -> &mut Graph {
        self.model.graph.get_or_insert_default()
    }
}

/// A model that gives `x * factor` back: input `x` and output `y`, both `[n, n_features]`.
pub fn scaled_copy(n_features: i64, factor: f32) -> OnnxBuilder {
    let axes = [None, Some(n_features)];
    OnnxBuilder::new().input("x", &axes).output("y", &axes).weights("factor", &[1], &[factor]).node(
        "Mul",
        &["x", "factor"],
        &["y"],
    )
}

fn value(name: &str, elem_type: i32, axes: &[Option<i64>]) -> ValueInfo {
    let dim = |(at, axis): (usize, &Option<i64>)| match axis {
        Some(size) => Dimension { value: Some(*size), param: None },
        None => Dimension { value: None, param: Some(format!("n{at}")) },
    };
    let shape = Shape { dim: axes.iter().enumerate().map(dim).collect() };
    let tensor = TensorType { elem_type, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), value_type: Some(ValueType { tensor: Some(tensor) }) }
}
