//! Core's suite for scorers, for every kind on every engine.

use std::sync::Arc;

use iotml_core::arrow::array::{ArrayRef, Float32Array, RecordBatch};
use iotml_core::error::Reason;
use iotml_core::score::{Scorer, Threshold};
use iotml_core::testing::score::{Samples, conforms};
use iotml_model::manifest::{ManifestBuilder, Role, Scale};
use iotml_model::testing::OnnxBuilder;
use iotml_model::{EngineChoice, Kind, Manifest};

use crate::setup::{block_on, engines, scorer};

fn rows(a: &[f32], b: Vec<Option<f32>>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("a", Arc::new(Float32Array::from(a.to_vec()))),
        ("other", Arc::new(Float32Array::from(vec![7.0; a.len()]))),
        ("b", Arc::new(Float32Array::from(b))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn samples(prefix: &str) -> Samples {
    let a: Vec<f32> = (0..300).map(|at| (at as f32 * 0.37).sin() * 3.0).collect();
    let b = (0..300).map(|at| Some((at as f32 * 0.11).cos() * 3.0)).collect();
    Samples {
        good: rows(&a, b),
        bad: vec![
            (rows(&[f32::NAN], vec![Some(1.0)]), Reason::NonFinite),
            (rows(&[1.0], vec![Some(f32::NEG_INFINITY)]), Reason::NonFinite),
            (rows(&[1.0], vec![None]), Reason::Missing),
            (rows(&[f32::MAX], vec![Some(1.0)]), Reason::OutOfRange),
        ],
        prefix: prefix.to_owned(),
        tolerance: 1e-6,
    }
}

fn manifest(kind: Kind) -> ManifestBuilder {
    let scale = Some(Scale::Range { min: -0.3, max: 0.3 });
    Manifest::builder(kind, "layers").feature("a", scale).feature("b", scale)
}

/// A hidden layer and an output of `width` numbers with the activation `last`.
fn layers(width: usize, last: &str) -> OnnxBuilder {
    let weights: Vec<f32> = (0..4 * width).map(|at| (at as f32 * 0.7).sin()).collect();
    OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("y", &[None, Some(width as i64)])
        .weights("v", &[2, 4], &[0.3, -0.7, 1.1, 0.2, -0.4, 0.9, 0.1, -0.6])
        .weights("w", &[4, width as i64], &weights)
        .node("MatMul", &["x", "v"], &["m"])
        .node("Tanh", &["m"], &["h"])
        .node("MatMul", &["h", "w"], &["o"])
        .node(last, &["o"], &["y"])
}

fn check(engine: EngineChoice, model: &OnnxBuilder, manifest: &ManifestBuilder, prefix: &str) {
    let has_errors = prefix == "errors_";
    let make = || -> Box<dyn Scorer> {
        let scorer = scorer(model, manifest.clone(), engine, |config| {
            config.prefix = prefix.to_owned();
            config.output = true;
            config.feature_errors = has_errors;
        });
        Box::new(scorer)
    };
    block_on(conforms(make, &samples(prefix)));
}

#[test]
fn inv_8_reconstruction_conforms() {
    for engine in engines() {
        let manifest = manifest(Kind::Reconstruction);
        check(engine, &layers(2, "Identity"), &manifest.clone().fixed_threshold(2.0), "");
        let per_feature = manifest.threshold(Threshold::per_feature([("b", 4.0)]));
        check(engine, &layers(2, "Tanh"), &per_feature, "errors_");
    }
}

#[test]
fn inv_8_next_event_conforms() {
    for engine in engines() {
        check(engine, &layers(2, "Identity"), &manifest(Kind::NextEvent).fixed_threshold(2.0), "errors_");
    }
}

#[test]
fn inv_8_score_and_classifier_conform() {
    for engine in engines() {
        check(engine, &layers(1, "Identity"), &manifest(Kind::Score), "");
        let classifier = manifest(Kind::Classifier).classes(["fine", "worn", "broken"], "broken");
        let classifier = classifier.output("y", Role::Probabilities).fixed_threshold(0.5);
        check(engine, &layers(3, "Softmax"), &classifier, "second_");
    }
}
