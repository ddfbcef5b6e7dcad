//! The model's input and output against what the manifest says.

use std::collections::HashSet;

use super::Refusal;
use super::graph::element_name;
use super::proto::{Dimension, Graph, Model, TensorType, ValueInfo};
use crate::manifest::{Kind, Manifest};

/// How the engine feeds and reads the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The graph input's name.
    pub(crate) input: String,
    /// The row count of the middle axis of `[n, look_back, n_features]`; `None` for `[n, n_features]`.
    pub(crate) look_back: Option<usize>,
    /// The last axis of the input.
    pub(crate) n_features: usize,
    /// The output that is read.
    pub(crate) output: OutputSignature,
}

impl Signature {
    /// Numbers that one row of the input takes.
    pub(crate) fn input_width(&self) -> usize {
        self.look_back.unwrap_or(1) * self.n_features
    }

    /// The input's shape for `n` rows.
    pub(crate) fn input_shape(&self, n: usize) -> Vec<usize> {
        match self.look_back {
            Some(look_back) => vec![n, look_back, self.n_features],
            None => vec![n, self.n_features],
        }
    }
}

/// The output that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputSignature {
    /// The graph output's name.
    pub(crate) name: String,
    /// The axes behind the batch: none for `[n]`.
    pub(crate) axes: Vec<usize>,
}

impl OutputSignature {
    /// Numbers that one row of the output takes.
    pub(crate) fn width(&self) -> usize {
        self.axes.iter().product()
    }

    /// The output's shape for `n` rows.
    pub(crate) fn shape(&self, n: usize) -> Vec<usize> {
        std::iter::once(n).chain(self.axes.iter().copied()).collect()
    }
}

impl Signature {
    /// Checks the graph's input and output against the manifest.
    pub(crate) fn of(model: &Model, manifest: &Manifest) -> Result<Self, Refusal> {
        Self::find(model, manifest).map_err(Refusal::shortened)
    }

    fn find(model: &Model, manifest: &Manifest) -> Result<Self, Refusal> {
        let graph = model.graph.as_ref().ok_or(Refusal::NoGraph)?;
        let input = find_input(graph, manifest)?;
        let n_features = manifest.features.len();
        let dims = dimensions("input", input)?;
        let is_batch = |dim: &Dimension| known(dim).is_none();
        let look_back = match (dims, manifest.kind) {
            ([n, width], _) if is_batch(n) && known(width) == Some(n_features) => None,
            ([n, steps, width], Kind::NextEvent) if is_batch(n) && known(width) == Some(n_features) => {
                match known(steps) {
                    Some(steps @ 1..=4096) => Some(steps),
                    _ => return Err(input_shape(input, dims, manifest)),
                }
            }
            _ => return Err(input_shape(input, dims, manifest)),
        };
        let output = find_output(graph, manifest)?;
        let dims = dimensions("output", output)?;
        let axes =
            output_axes(manifest, look_back, dims).ok_or_else(|| output_shape(output, dims, manifest, look_back))?;
        let output = OutputSignature { name: output.name.clone(), axes };
        Ok(Signature { input: input.name.clone(), look_back, n_features, output })
    }
}

fn find_input<'a>(graph: &'a Graph, manifest: &Manifest) -> Result<&'a ValueInfo, Refusal> {
    // Up to IR version 3 the initializers are listed among the inputs.
    let initialized: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let is_fed = |input: &&ValueInfo| !initialized.contains(input.name.as_str());
    let inputs: Vec<_> = graph.input.iter().filter(is_fed).collect();
    let available = || inputs.iter().map(|input| input.name.clone()).collect();
    if let Some(wanted) = manifest.inputs.first()
        && !inputs.iter().any(|input| input.name == wanted.name)
    {
        let reason = format!("input `{}` of the manifest does not exist", wanted.name);
        return Err(Refusal::Input { reason, available: available() });
    }
    match inputs.as_slice() {
        [only] => Ok(only),
        _ => Err(Refusal::Input { reason: "exactly one input is needed".to_owned(), available: available() }),
    }
}

fn find_output<'a>(graph: &'a Graph, manifest: &Manifest) -> Result<&'a ValueInfo, Refusal> {
    let available = || graph.output.iter().map(|output| output.name.clone()).collect();
    let missing = |reason| Refusal::Output { reason, available: available() };
    let made: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    for wanted in &manifest.outputs {
        if !made.contains(wanted.name.as_str()) {
            return Err(missing(format!("output `{}` of the manifest does not exist", wanted.name)));
        }
    }
    let role = manifest.kind.role();
    let wanted = manifest.outputs.iter().find(|output| output.role == role);
    match (wanted, graph.output.as_slice()) {
        (Some(wanted), outputs) => outputs
            .iter()
            .find(|output| output.name == wanted.name)
            .ok_or_else(|| missing(format!("output `{}` of the manifest does not exist", wanted.name))),
        (None, [only]) => Ok(only),
        (None, _) => Err(missing("the manifest does not say which output to read".to_owned())),
    }
}

/// The axes behind the batch, if the output fits the kind; an unknown size is taken as the one needed, and the golden
/// rows prove it.
fn output_axes(manifest: &Manifest, look_back: Option<usize>, dims: &[Dimension]) -> Option<Vec<usize>> {
    let (batch, rest) = dims.split_first()?;
    if known(batch).is_some() {
        return None;
    }
    let n_features = manifest.features.len();
    let fits = |wanted: &[usize]| {
        rest.len() == wanted.len() && rest.iter().zip(wanted).all(|(dim, size)| known(dim).is_none_or(|d| d == *size))
    };
    let candidates = match manifest.kind {
        Kind::Reconstruction => vec![vec![n_features]],
        Kind::NextEvent => vec![vec![n_features], vec![1, n_features], vec![look_back.unwrap_or(1), n_features]],
        Kind::Score => vec![vec![], vec![1]],
        // One probability of a binary model is the positive class's.
        Kind::Classifier if manifest.classes.len() == 2 => vec![vec![2], vec![1], vec![]],
        Kind::Classifier => vec![vec![manifest.classes.len()]],
    };
    candidates.into_iter().find(|wanted| fits(wanted))
}

fn dimensions<'a>(place: &'static str, value: &'a ValueInfo) -> Result<&'a [Dimension], Refusal> {
    let tensor: Option<&TensorType> = value.value_type.as_ref().and_then(|value_type| value_type.tensor.as_ref());
    let name = || value.name.clone();
    let Some(tensor) = tensor else {
        return Err(Refusal::ElementType { place, name: name(), found: "a sequence or map" });
    };
    if tensor.elem_type != 1 {
        return Err(Refusal::ElementType { place, name: name(), found: element_name(tensor.elem_type) });
    }
    match &tensor.shape {
        Some(shape) => Ok(&shape.dim),
        None => Err(Refusal::Shape {
            place,
            name: name(),
            found: "unknown".to_owned(),
            wanted: "a shape with a batch axis".to_owned(),
        }),
    }
}

/// The size of an axis, where the file fixes one.
fn known(dim: &Dimension) -> Option<usize> {
    // A size that fits no usize matches none that is wanted.
    dim.value.filter(|value| *value > 0).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

fn show(dims: &[Dimension]) -> String {
    let axes: Vec<_> = dims
        .iter()
        .map(|dim| match (known(dim), &dim.param) {
            (Some(size), _) => size.to_string(),
            (None, Some(param)) => param.clone(),
            (None, None) => "?".to_owned(),
        })
        .collect();
    format!("[{}]", axes.join(", "))
}

fn input_shape(input: &ValueInfo, dims: &[Dimension], manifest: &Manifest) -> Refusal {
    let n_features = manifest.features.len();
    let wanted = match manifest.kind {
        Kind::NextEvent => format!("[n, {n_features}] or [n, look_back, {n_features}] with n left open"),
        _ => format!("[n, {n_features}] with n left open"),
    };
    Refusal::Shape { place: "input", name: input.name.clone(), found: show(dims), wanted }
}

fn output_shape(output: &ValueInfo, dims: &[Dimension], manifest: &Manifest, look_back: Option<usize>) -> Refusal {
    let n_features = manifest.features.len();
    let wanted = match manifest.kind {
        Kind::Reconstruction => format!("[n, {n_features}]"),
        Kind::NextEvent => format!("[n, {n_features}] or [n, {}, {n_features}]", look_back.unwrap_or(1)),
        Kind::Score => "[n] or [n, 1]".to_owned(),
        Kind::Classifier => format!("[n, {}]", manifest.classes.len()),
    };
    Refusal::Shape {
        place: "output",
        name: output.name.clone(),
        found: show(dims),
        wanted: format!("{wanted} with n left open"),
    }
}
