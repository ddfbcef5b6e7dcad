//! Which engine runs a model, and what one does with what it cannot run.

use iotml_model::testing::OnnxBuilder;
use iotml_model::{EngineChoice, Kind, Manifest, Model};

use crate::setup::{engines, open, options};

#[test]
fn auto_takes_the_first_engine_there_is() {
    let manifest = || Manifest::builder(Kind::Reconstruction, "m").feature("x", None);
    let model = iotml_model::testing::scaled_copy(1, 1.0);
    let names: Vec<_> = engines().into_iter().map(|engine| open(&model, manifest(), engine).engine()).collect();
    let auto = Model::from_bytes(model.build(), "m", &options(manifest(), EngineChoice::Auto));
    match names.first() {
        Some(first) => assert_eq!(auto.unwrap().engine(), *first),
        None => assert!(auto.is_err()),
    }
}

#[test]
fn a_model_that_is_inconsistent_inside_is_an_error_and_never_a_panic() {
    // Passes the checks, which do not infer shapes, and must then fail in the engine.
    let misfit = OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("y", &[None, Some(2)])
        .weights("w", &[5, 2], &[0.0; 10])
        .node("MatMul", &["x", "w"], &["y"]);
    let manifest = || Manifest::builder(Kind::Reconstruction, "m").feature("a", None).feature("b", None);
    for engine in engines() {
        let opened = Model::from_bytes(misfit.build(), "m", &options(manifest(), engine));
        assert!(opened.map(|mut model| model.run(&[0.0, 0.0]).map(<[f32]>::to_vec)).is_err(), "{engine:?}");
    }
}

#[test]
fn an_output_that_is_not_of_the_declared_shape_is_an_error() {
    let lies = OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("y", &[None, None])
        .weights("w", &[2, 3], &[0.0; 6])
        .node("MatMul", &["x", "w"], &["y"]);
    let manifest = || Manifest::builder(Kind::Reconstruction, "m").feature("a", None).feature("b", None);
    for engine in engines() {
        let opened = Model::from_bytes(lies.build(), "m", &options(manifest(), engine));
        let ran = opened.and_then(|mut model| model.run(&[0.0, 0.0]).map(<[f32]>::to_vec));
        assert!(ran.is_err(), "{engine:?} {ran:?}");
    }
}
