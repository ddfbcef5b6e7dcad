//! The default network of the demo, trained on simulated cars and kept in `testdata/cars`.

use std::path::{Path, PathBuf};

use iotml_model::{Kind, Manifest, Model, OpenOptions};

use crate::setup::engines;

fn models() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cars");
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect()
}

#[test]
fn trained_models_open_on_every_engine_and_compute_their_golden_rows() {
    assert!(!models().is_empty());
    for path in models() {
        for engine in engines() {
            let model = Model::open(&path, &OpenOptions { engine, ..OpenOptions::default() }).unwrap();
            let manifest = model.manifest();
            assert_eq!(manifest.kind, Kind::Reconstruction);
            assert_eq!(manifest.features.len(), 18);
            assert!(manifest.golden.as_ref().unwrap().input.len() >= 2);
            assert!(manifest.threshold.as_ref().unwrap().value.unwrap() > 0.0);
        }
    }
}

#[test]
fn manifest_beside_a_trained_model_is_the_one_inside() {
    for path in models() {
        let beside = Manifest::from_json(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        for engine in engines() {
            let model = Model::open(&path, &OpenOptions { engine, ..OpenOptions::default() }).unwrap();
            assert_eq!(*model.manifest(), beside);
        }
    }
}
