use proptest::prelude::*;

use super::proto::{Node, OperatorSet, StringEntry, Tensor};
use super::*;
use crate::manifest::{Kind, Manifest, Role};
use crate::testing::{OnnxBuilder, scaled_copy};

fn manifest(kind: Kind, n_features: usize) -> Manifest {
    let builder = Manifest::builder(kind, "m");
    (0..n_features).fold(builder, |builder, at| builder.feature(format!("f{at}"), None)).build().unwrap()
}

fn check(bytes: Vec<u8>, limits: &Limits) -> Result<Signature, Refusal> {
    let model = parse(&Bytes::from(bytes), limits)?;
    Signature::of(&model, &manifest(Kind::Reconstruction, 2))
}

fn refusal(builder: &OnnxBuilder) -> String {
    check(builder.build(), &Limits::default()).unwrap_err().to_string()
}

#[track_caller]
fn assert_refused(builder: &OnnxBuilder, because: &str) {
    let text = refusal(builder);
    assert!(text.contains(because), "{text:?} does not say {because:?}");
}

#[test]
fn a_sound_model_passes() {
    let signature = check(scaled_copy(2, 1.0).build(), &Limits::default()).unwrap();
    assert_eq!((signature.input.as_str(), signature.n_features, signature.look_back), ("x", 2, None));
    assert_eq!((signature.output.name.as_str(), signature.output.axes), ("y", vec![2]));
}

#[test]
fn size_and_count_limits_hold() {
    let bytes = scaled_copy(2, 1.0).build();
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        check(bytes.clone(), &limits).unwrap_err()
    };
    assert!(matches!(limits(|limits| limits.max_bytes = 10), Refusal::TooLarge { limit: 10, .. }));
    assert!(matches!(limits(|limits| limits.max_nodes = 0), Refusal::TooManyNodes { nodes: 1, limit: 0 }));
    assert!(matches!(limits(|limits| limits.max_elements = 3), Refusal::TooManyElements { limit: 3 }));
    assert!(matches!(limits(|limits| limits.min_opset = 16), Refusal::Opset { found: 15, min: 16, .. }));
    assert!(matches!(limits(|limits| limits.max_tensor_elements = Some(0)), Refusal::TensorShape { .. }));
}

#[test]
fn a_larger_file_may_hold_and_make_larger_tensors() {
    const N: i64 = (16 << 20) + 1;
    // A byte for each number.
    let mut stored = scaled_copy(2, 1.0);
    let bytes = Bytes::from(vec![1; N as usize]);
    let weights = Tensor { dims: vec![N], data_type: 3, name: "w".into(), raw_data: Some(bytes), ..Tensor::default() };
    stored.graph().initializer.push(weights);
    let made = scaled_copy(2, 1.0).integers("shape", &[N]).node("Expand", &["factor", "shape"], &["made"]);
    let of_size = |max_bytes| Limits { max_bytes, ..Limits::default() };
    assert!(check(stored.build(), &Limits::default()).is_ok(), "what is in the file takes no more room than the file");
    assert_refused(&made, "Expand makes a result of the size [16777217]");
    assert!(check(made.build(), &of_size(4 * N as u64)).is_ok());
    let small = check(
        scaled_copy(2, 1.0).integers("shape", &[16 << 20]).node("Expand", &["factor", "shape"], &["made"]).build(),
        &of_size(1000),
    );
    assert!(small.is_ok(), "a limit on the file alone makes no other stricter: {small:?}");
    for model in [&stored, &made] {
        let told = Limits { max_tensor_elements: Some(N as u64 - 1), ..of_size(1 << 30) };
        assert!(matches!(check(model.build(), &told), Err(Refusal::TensorShape { .. })), "what is told counts");
    }
}

#[test]
fn what_is_no_model_is_refused() {
    for bytes in [&b"not onnx at all"[..], b"\x08", b"PK\x03\x04"] {
        let error = check(bytes.to_vec(), &Limits::default()).unwrap_err();
        assert!(matches!(error, Refusal::NotOnnx { .. } | Refusal::Truncated | Refusal::IrVersion { .. }), "{error}");
    }
    assert_refused(&OnnxBuilder::new(), "holds no graph");
    let mut truncated = scaled_copy(2, 1.0).build();
    truncated.truncate(truncated.len() - 4);
    assert!(check(truncated, &Limits::default()).is_err());
}

#[test]
fn versions_outside_the_range_are_refused() {
    let mut model = scaled_copy(2, 1.0);
    model.model.ir_version = Some(2);
    assert_refused(&model, "ir version 2 is not between");
    for version in [6, 99] {
        let mut model = scaled_copy(2, 1.0);
        model.model.opset_import[0].version = version;
        assert_refused(&model, &format!("opset {version} of domain `ai.onnx`"));
    }
    let mut model = scaled_copy(2, 1.0);
    model.model.opset_import = vec![OperatorSet { domain: "ai.onnx.ml".into(), version: 2 }];
    assert_refused(&model, "imports no version");
}

#[test]
fn operators_outside_the_list_are_refused_unless_allowed() {
    let mut foreign = scaled_copy(2, 1.0);
    foreign.graph().node[0].domain = "com.evil".into();
    assert_refused(&foreign, "operator `com.evil:Mul`");
    let random = scaled_copy(2, 1.0).node("RandomNormalLike", &["x"], &["z"]);
    assert_refused(&random, "operator `ai.onnx:RandomNormalLike` of node `z`");
    let allow = |name: &str| Limits { allow_operators: vec![name.into()], ..Limits::default() };
    assert!(check(random.build(), &allow("RandomNormalLike")).is_ok());
    assert!(check(foreign.build(), &allow("com.evil:Mul")).is_ok());
    assert!(check(foreign.build(), &allow("Mul")).is_err());
}

#[test]
fn graphs_within_nodes_functions_and_training_are_refused() {
    let mut nested = scaled_copy(2, 1.0).attribute("axis", 0);
    nested.graph().node[0].attribute[0].g = Some(Bytes::from_static(&[0x0a, 0x00]));
    assert_refused(&nested, "node `y` holds a graph of its own");
    let mut functions = scaled_copy(2, 1.0);
    functions.model.functions.push(Bytes::new());
    assert_refused(&functions, "functions of its own");
    let mut training = scaled_copy(2, 1.0);
    training.model.training_info.push(Bytes::new());
    assert_refused(&training, "training information");
    let mut sparse = scaled_copy(2, 1.0);
    sparse.graph().sparse_initializer.push(Bytes::new());
    assert_refused(&sparse, "sparse tensors");
}

#[test]
fn external_data_is_refused() {
    let mut by_location = scaled_copy(2, 1.0);
    by_location.graph().initializer[0].data_location = Some(1);
    assert_refused(&by_location, "tensor `factor` lies in another file");
    let mut by_entry = scaled_copy(2, 1.0);
    let entry = StringEntry { key: "location".into(), value: "/etc/passwd".into() };
    by_entry.graph().initializer[0].external_data.push(entry);
    assert_refused(&by_entry, "lies in another file");
}

#[test]
fn absurd_tensors_are_refused() {
    let with = |dims: &[i64]| scaled_copy(2, 1.0).weights("w", dims, &[1.0]);
    assert_refused(&with(&[i64::MAX, i64::MAX]), "negative or overflows");
    assert_refused(&with(&[-1]), "negative or overflows");
    assert_refused(&with(&[1 << 40]), "above the limit");
    assert_refused(&with(&[2]), "needs 8 bytes, found 4");
    let mut unknown_type = scaled_copy(2, 1.0);
    unknown_type.graph().initializer[0].data_type = 99;
    assert_refused(&unknown_type, "element type 99");
    let mut typed = scaled_copy(2, 1.0);
    let tensor = Tensor { dims: vec![3], data_type: 1, float_data: vec![1.0], name: "t".into(), ..Tensor::default() };
    typed.graph().initializer.push(tensor);
    assert_refused(&typed, "needs 3 numbers of float32, found 1");
}

#[test]
fn results_of_an_absurd_size_are_refused() {
    let huge =
        scaled_copy(2, 1.0).integers("shape", &[1 << 30, 1 << 30]).node("Expand", &["factor", "shape"], &["big"]);
    assert_refused(&huge, "tensor `big`: Expand makes a result of the size");
    let fine = scaled_copy(2, 1.0).integers("shape", &[4, 4]).node("Expand", &["factor", "shape"], &["small"]);
    assert!(check(fine.build(), &Limits::default()).is_ok());
}

#[test]
fn ranges_of_an_absurd_size_are_refused() {
    let range = |start: i64, limit: i64, delta: i64| {
        let mut model = scaled_copy(2, 1.0);
        for (name, value) in [("start", start), ("limit", limit), ("delta", delta)] {
            model = model.integers(name, &[value]);
        }
        model.node("Range", &["start", "limit", "delta"], &["range"])
    };
    for absurd in [range(0, 1 << 40, 1), range(-(1 << 40), 4, 1), range(4, -(1 << 40), -1), range(0, 0, 0)] {
        assert_refused(&absurd, "tensor `range`: Range makes");
    }
    for fine in [range(0, 10, 3), range(10, 0, -1), range(10, 0, 1)] {
        assert!(check(fine.build(), &Limits::default()).is_ok());
    }
}

#[test]
fn a_refusal_is_short_whatever_the_file_holds() {
    let long = "n".repeat(1 << 20);
    let tensors = (0..1_000).map(|n| format!("{long}{n}")).take(3);
    let mut operator = scaled_copy(2, 1.0);
    operator.graph().node[0].op_type = long.clone();
    let many_axes = scaled_copy(2, 1.0).weights(&long, &[1; 100_000], &[1.0]);
    let inputs = tensors.fold(scaled_copy(2, 1.0), |model, name| model.input(&name, &[None, Some(2)]));
    let unmade = scaled_copy(2, 1.0).node("Relu", &[&long], &["z"]);
    for model in [operator, many_axes, inputs, unmade] {
        let text = refusal(&model);
        assert!(text.len() < 10_000, "{} bytes", text.len());
    }
}

#[test]
fn a_hundred_thousand_inputs_and_weights_are_read_in_time() {
    let mut model = scaled_copy(2, 1.0);
    let input = model.graph().input[0].clone();
    model
        .graph()
        .input
        .extend(std::iter::repeat_n(super::proto::ValueInfo { name: "absent".into(), value_type: None }, 40_000));
    model.graph().input.push(input);
    let weight = model.graph().initializer[0].clone();
    model.graph().initializer.extend(std::iter::repeat_n(weight, 40_000));
    let begun = std::time::Instant::now();
    assert_refused(&model, "exactly one input is needed");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn names_that_nothing_makes_are_refused() {
    assert_refused(&scaled_copy(2, 1.0).node("Relu", &["nothing"], &["z"]), "`nothing`");
    let no_source =
        OnnxBuilder::new().input("x", &[None, Some(2)]).output("other", &[None, Some(2)]).node("Relu", &["x"], &["y"]);
    assert_refused(&no_source, "`other`");
}

#[test]
fn inputs_and_outputs_must_be_those_of_the_manifest() {
    let with = |change: fn(&mut OnnxBuilder)| {
        let mut model = scaled_copy(2, 1.0);
        change(&mut model);
        model
    };
    let two_inputs = scaled_copy(2, 1.0).input("second", &[None, Some(2)]);
    assert_refused(&two_inputs, r#"exactly one input is needed; the model has inputs ["x", "second"]"#);
    let two_outputs = scaled_copy(2, 1.0).output("x", &[None, Some(2)]);
    assert_refused(&two_outputs, "does not say which output to read");
    let double = with(|model| tensor_type(&mut model.graph().input[0]).elem_type = 11);
    assert_refused(&double, "input `x` is of type float64");
    let map = with(|model| model.graph().output[0].value_type = None);
    assert_refused(&map, "output `y` is of type a sequence or map");
    let shapeless = with(|model| tensor_type(&mut model.graph().input[0]).shape = None);
    assert_refused(&shapeless, "shape unknown");

    let model = parse(&Bytes::from(scaled_copy(2, 1.0).build()), &Limits::default()).unwrap();
    let mut named = manifest(Kind::Reconstruction, 2);
    named.inputs.push(crate::manifest::InputSpec { name: "nope".into() });
    let error = Signature::of(&model, &named).unwrap_err().to_string();
    assert!(error.contains("input `nope` of the manifest does not exist"), "{error}");
    let mut named = manifest(Kind::Reconstruction, 2);
    named.outputs.push(crate::manifest::OutputSpec { name: "nope".into(), role: Role::Reconstruction });
    let error = Signature::of(&model, &named).unwrap_err().to_string();
    assert!(error.contains("output `nope` of the manifest does not exist"), "{error}");
}

fn tensor_type(value: &mut super::proto::ValueInfo) -> &mut super::proto::TensorType {
    value.value_type.as_mut().unwrap().tensor.as_mut().unwrap()
}

#[test]
fn shapes_must_fit_the_kind() {
    let shaped = |input: &[Option<i64>], output: &[Option<i64>]| {
        let model = OnnxBuilder::new().input("x", input).output("y", output).node("Relu", &["x"], &["y"]);
        parse(&Bytes::from(model.build()), &Limits::default()).unwrap()
    };
    let of = |kind, input: &[Option<i64>], output: &[Option<i64>]| {
        Signature::of(&shaped(input, output), &manifest(kind, 2)).map_err(|error| error.to_string())
    };
    let flat = [None, Some(2)];
    assert!(of(Kind::Reconstruction, &flat, &flat).is_ok());
    assert!(of(Kind::Reconstruction, &flat, &[None, None]).is_ok());
    for input in [&[Some(1), Some(2)][..], &[None, Some(3)], &[None, None], &[None], &[None, Some(1), Some(2)]] {
        let error = of(Kind::Reconstruction, input, &flat).unwrap_err();
        assert!(error.contains("[n, 2] with n left open is needed"), "{error}");
    }
    for output in [&[None, Some(3)][..], &[Some(4), Some(2)], &[None], &[None, Some(1), Some(2)], &[]] {
        assert!(of(Kind::Reconstruction, &flat, output).is_err(), "{output:?}");
    }
    let sequence = [None, Some(5), Some(2)];
    let signature = of(Kind::NextEvent, &sequence, &flat).unwrap();
    assert_eq!((signature.look_back, signature.input_width(), signature.output.width()), (Some(5), 10, 2));
    assert_eq!(of(Kind::NextEvent, &sequence, &sequence).unwrap().output.width(), 10);
    assert!(of(Kind::NextEvent, &sequence, &[None, Some(4), Some(2)]).is_err());
    assert!(of(Kind::NextEvent, &[None, None, Some(2)], &flat).is_err());
    assert!(of(Kind::Score, &flat, &[None]).is_ok());
    assert!(of(Kind::Score, &flat, &[None, Some(1)]).is_ok());
    assert!(of(Kind::Score, &flat, &flat).is_err());
}

#[test]
fn many_tiny_nodes_do_not_exhaust_memory() {
    let mut model = scaled_copy(2, 1.0);
    model.graph().node.extend(std::iter::repeat_n(Node::default(), 300_000));
    assert_refused(&model, "more than 200000 parts");
}

proptest! {
    #[test]
    fn damaged_files_are_refused_or_read_but_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let whole = scaled_copy(2, 1.0).integers("shape", &[4, 4]).node("Expand", &["factor", "shape"], &["z"]).build();
        let mut bytes = whole.clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        _ = check(bytes, &Limits::default());
        let end = end.index(whole.len());
        _ = check(whole[..end].to_vec(), &Limits::default());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        _ = check(bytes, &Limits::default());
    }
}
