//! Which operators a model may use.
//!
//! Left out on purpose: control flow (`If`, `Loop`, `Scan`), which can run for ever; random numbers, which score the same
//! row differently; sequences, strings, images and training. A configuration may allow more by name.

/// Operators of the domain `ai.onnx` (also written as the empty string).
const ONNX: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Compress",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QLinearMatMul",
    "QuantizeLinear",
    "RNN",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "ReverseSequence",
    "Round",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// Operators of the domain `ai.onnx.ml`, as scikit-learn models use them. `ZipMap` is left out: it turns probabilities
/// into a sequence of maps, which no scorer reads.
const ML: &[&str] = &[
    "ArrayFeatureExtractor",
    "Binarizer",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// Whether `operator` of `domain` is on the list.
pub(super) fn is_known(domain: &str, operator: &str) -> bool {
    let list = match domain {
        "" | "ai.onnx" => ONNX,
        "ai.onnx.ml" => ML,
        _ => return false,
    };
    list.binary_search(&operator).is_ok()
}

/// The input of `operator` that says how large its result is, if one does.
pub(super) fn size_operand(operator: &str) -> Option<usize> {
    match operator {
        "ConstantOfShape" => Some(0),
        "Expand" | "OneHot" | "Tile" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_for_the_binary_search() {
        assert!(ONNX.is_sorted() && ML.is_sorted());
        assert!(ONNX.iter().all(|name| is_known("", name) && is_known("ai.onnx", name)));
        assert!(ML.iter().all(|name| is_known("ai.onnx.ml", name)));
    }

    #[test]
    fn what_can_run_for_ever_or_at_random_is_unknown() {
        for operator in ["Loop", "If", "Scan", "RandomNormal", "Bernoulli", "SequenceMap"] {
            assert!(!is_known("", operator), "{operator}");
        }
        assert!(!is_known("com.microsoft", "MatMul"));
        assert!(!is_known("ai.onnx.ml", "ZipMap"));
    }
}
