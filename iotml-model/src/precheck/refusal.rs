//! Why a model is refused.

/// Why an ONNX file is refused before any engine sees it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file is larger than the limit.
    #[error("file of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// The file's size.
        bytes: u64,
        /// [`Limits::max_bytes`](super::Limits::max_bytes).
        limit: u64,
    },
    /// The bytes are no protobuf message.
    #[error("file is not ONNX: {source}")]
    NotOnnx {
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
    /// A field is longer than what is left of the file.
    #[error("file ends in the middle of a field")]
    Truncated,
    /// The parsed form would be too large.
    #[error("file has more than {limit} parts (nodes, names, tensors, dimensions)")]
    TooManyElements {
        /// [`Limits::max_elements`](super::Limits::max_elements).
        limit: usize,
    },
    /// There is no graph, or an empty one.
    #[error("file holds no graph")]
    NoGraph,
    /// The graph has too many nodes.
    #[error("graph of {nodes} nodes is above the limit of {limit}")]
    TooManyNodes {
        /// How many there are.
        nodes: usize,
        /// [`Limits::max_nodes`](super::Limits::max_nodes).
        limit: usize,
    },
    /// The file's IR version is not known.
    #[error("ir version {found} is not between {min} and {max}")]
    IrVersion {
        /// The file's.
        found: i64,
        /// The oldest accepted.
        min: i64,
        /// The newest accepted.
        max: i64,
    },
    /// An operator set is too old or too new.
    #[error("opset {found} of domain `{domain}` is not between {min} and {max}")]
    Opset {
        /// The operator set's domain.
        domain: String,
        /// The file's version.
        found: i64,
        /// The oldest accepted.
        min: i64,
        /// The newest accepted.
        max: i64,
    },
    /// The standard operator set is not imported at all, so no operator has a meaning.
    #[error("file imports no version of the domain `ai.onnx`")]
    NoOpset,
    /// An operator is not on the list.
    #[error("operator `{domain}:{operator}` of node `{node}` is not on the list of allowed operators")]
    Operator {
        /// The operator's domain.
        domain: String,
        /// The operator's name.
        operator: String,
        /// The node's name.
        node: String,
    },
    /// A node holds a graph of its own.
    #[error("node `{node}` holds a graph of its own, as control flow does")]
    Subgraph {
        /// The node's name.
        node: String,
    },
    /// A name is read that nothing before it makes.
    #[error("{reader} reads `{name}`, which nothing before it makes")]
    Name {
        /// The name.
        name: String,
        /// Who reads it.
        reader: String,
    },
    /// The file holds something that no scorer needs.
    #[error("file holds {what}, which is not accepted")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// A tensor lives in another file.
    #[error("tensor `{tensor}` lies in another file; save the model with its weights inside")]
    ExternalData {
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor's shape is absurd or does not match its data.
    #[error("tensor `{tensor}`: {reason}")]
    TensorShape {
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// The input that the manifest names is not there, or none was named and there are several.
    #[error("{reason}; the model has inputs {available:?}")]
    Input {
        /// What is wrong.
        reason: String,
        /// The names that exist.
        available: Vec<String>,
    },
    /// The output that the manifest names is not there, or none was named and there are several.
    #[error("{reason}; the model has outputs {available:?}")]
    Output {
        /// What is wrong.
        reason: String,
        /// The names that exist.
        available: Vec<String>,
    },
    /// An input or output has the wrong element type.
    #[error("{place} `{name}` is of type {found}, but float32 is needed")]
    ElementType {
        /// `input` or `output`.
        place: &'static str,
        /// Its name.
        name: String,
        /// The type found.
        found: &'static str,
    },
    /// An input or output has the wrong shape.
    #[error("{place} `{name}` has shape {found}, but {wanted} is needed")]
    Shape {
        /// `input` or `output`.
        place: &'static str,
        /// Its name.
        name: String,
        /// The shape found.
        found: String,
        /// The shape needed.
        wanted: String,
    },
}

/// Characters of a name, and names of a list, that a message shows: a file may hold megabytes of them.
const SHOWN: usize = 200;
const LISTED: usize = 20;

impl Refusal {
    /// The same with long names cut.
    pub(super) fn shortened(mut self) -> Self {
        match &mut self {
            Refusal::Operator { domain, operator, node } => [domain, operator, node].into_iter().for_each(cut),
            Refusal::Opset { domain: name, .. }
            | Refusal::Subgraph { node: name }
            | Refusal::ExternalData { tensor: name }
            | Refusal::ElementType { name, .. } => cut(name),
            Refusal::Name { name, reader: other } | Refusal::TensorShape { tensor: name, reason: other } => {
                cut(name);
                cut(other);
            }
            Refusal::Shape { name, found, wanted, .. } => [name, found, wanted].into_iter().for_each(cut),
            Refusal::Input { reason, available } | Refusal::Output { reason, available } => {
                cut(reason);
                available.truncate(LISTED);
                available.iter_mut().for_each(cut);
            }
            _ => {}
        }
        self
    }
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(at);
        text.push_str("...");
    }
}
