//! The reference models against what TensorFlow computed with them.

use std::fs::File;
use std::path::Path;

use iotml_core::arrow::array::{Array, AsArray, RecordBatch};
use iotml_core::arrow::datatypes::Float32Type;
use iotml_core::batch::Batch;
use iotml_core::ndarray::{Array2, ArrayD};
use iotml_core::score::Scorer;
use iotml_model::manifest::{Golden, ManifestBuilder, Scale};
use iotml_model::{EngineChoice, Kind, Manifest, Model, OnnxScorer, OnnxScorerConfig};
use ndarray_npy::NpzReader;

use crate::setup::{self, assert_close, engines, options, seed_data};

const AUTOENCODERS: [(&str, usize); 3] =
    [("autoencoder-18", 18), ("seed-autoencoder-30", 30), ("seed-autoencoder-30-100-epochs", 30)];

fn array(dir: &Path, model: &str, name: &str) -> ArrayD<f32> {
    let file = File::open(dir.join(format!("{model}.golden.npz"))).unwrap();
    NpzReader::new(file).unwrap().by_name(&format!("{name}.npy")).unwrap()
}

/// Unscaled features: the golden inputs are already what the model sees.
fn manifest(kind: Kind, name: &str, n_features: usize) -> ManifestBuilder {
    let builder = Manifest::builder(kind, name);
    (0..n_features).fold(builder, |builder, at| builder.feature(format!("f{at}"), None))
}

#[test]
fn autoencoders_match_tensorflow_on_every_engine() {
    let Some(dir) = seed_data() else { return };
    for engine in engines() {
        for (name, n_features) in AUTOENCODERS {
            let manifest = manifest(Kind::Reconstruction, name, n_features);
            let path = dir.join(format!("{name}.onnx"));
            let mut model = Model::open(&path, &options(manifest, engine)).unwrap();
            let (x, y) = (array(&dir, name, "x"), array(&dir, name, "y"));
            assert!(x.len() >= 256 * n_features);
            assert_close(model.run(x.as_slice().unwrap()).unwrap(), y.as_slice().unwrap(), 1e-4);
        }
    }
}

#[test]
fn lstm_matches_tensorflow_on_onnxruntime() {
    let Some(dir) = seed_data() else { return };
    if !setup::onnxruntime() {
        return;
    }
    let manifest = manifest(Kind::NextEvent, "lstm-18", 18);
    let options = options(manifest, EngineChoice::OnnxRuntime);
    let mut model = Model::open(&dir.join("lstm-18.onnx"), &options).unwrap();
    let (x, y) = (array(&dir, "lstm-18", "x"), array(&dir, "lstm-18", "y"));
    assert_eq!(x.shape(), [500, 1, 18]);
    assert_close(model.run(x.as_slice().unwrap()).unwrap(), y.as_slice().unwrap(), 1e-4);
}

#[cfg(feature = "tract")]
#[test]
fn lstm_with_relu_is_refused_on_tract_with_the_reason() {
    use iotml_model::{EngineError, ModelError};

    let Some(dir) = seed_data() else { return };
    let options = options(manifest(Kind::NextEvent, "lstm-18", 18), EngineChoice::Tract);
    let error = Model::open(&dir.join("lstm-18.onnx"), &options).unwrap_err();
    assert!(matches!(error, ModelError::Engine(EngineError::Unsupported { engine: "tract", .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("LSTM") && text.contains("relu") && text.contains("which tract ignores"), "{text}");
}

/// The reference features and their scaling, where a null range is the constant 0.
fn reference_features(dir: &Path, builder: ManifestBuilder) -> (ManifestBuilder, Vec<String>) {
    let text = std::fs::read_to_string(dir.join("normalization.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names: Vec<String> = serde_json::from_value(document["features"].clone()).unwrap();
    let feature = |builder: ManifestBuilder, name: &String| match &document["ranges"][name] {
        serde_json::Value::Null => builder.constant(name, 0.0),
        range => {
            let (min, max) = (range[0].as_f64().unwrap(), range[1].as_f64().unwrap());
            builder.feature(name, Some(Scale::Range { min, max }))
        }
    };
    (names.iter().fold(builder, feature), names)
}

/// The first `n` rows of the reference CSV, with the columns named.
fn csv_rows(dir: &Path, names: &[String], n: usize) -> Vec<Vec<f32>> {
    let text = std::fs::read_to_string(dir.join("car-sensor-data.csv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let at: Vec<_> = names.iter().map(|name| header.iter().position(|column| column == name).unwrap()).collect();
    let row = |line: &str| {
        let cells: Vec<_> = line.split(',').collect();
        at.iter().map(|at| cells[*at].parse().unwrap()).collect()
    };
    lines.take(n).map(row).collect()
}

fn raw_batch(names: &[String], rows: &[Vec<f32>]) -> Batch {
    let columns: Vec<Vec<f32>> = (0..names.len()).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
    let named: Vec<_> = names.iter().map(String::as_str).zip(columns.iter().map(Vec::as_slice)).collect();
    setup::batch(&named)
}

#[test]
fn raw_csv_rows_scaled_by_the_manifest_give_tensorflows_scores() {
    let Some(dir) = seed_data() else { return };
    let (x, y) = (array(&dir, "autoencoder-18", "x"), array(&dir, "autoencoder-18", "y"));
    let mse = array(&dir, "autoencoder-18", "mse");
    let (builder, names) = reference_features(&dir, Manifest::builder(Kind::Reconstruction, "autoencoder-18"));
    let raw = csv_rows(&dir, &names, 1_000);
    // The golden inputs are CSV rows, so unscaling is not needed to have raw ones; which rows they are is checked here.
    let manifest = builder.clone().build().unwrap();
    let mut spec = iotml_model::feature::FeatureSpec::new(&manifest.features, Default::default());
    let mut scaled = Array2::zeros((0, 0));
    let bad = spec.fill(raw_batch(&names, &raw).columns(), &mut scaled).unwrap();
    assert!(bad.is_empty());
    assert_close(scaled.as_slice().unwrap(), x.as_slice().unwrap(), 1e-5);

    let golden = Golden {
        input: raw.iter().take(20).map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect(),
        score: Some(mse.iter().take(20).map(|mse| Some(f64::from(*mse))).collect()),
        output: Some(y.rows().into_iter().take(20).map(|y| Some(y.iter().map(|v| f64::from(*v)).collect())).collect()),
        tolerance: 1e-4,
    };
    for engine in engines() {
        let options = options(builder.clone().golden(golden.clone()).fixed_threshold(0.5), engine);
        let model = Model::open(&dir.join("autoencoder-18.onnx"), &options).unwrap();
        let config = OnnxScorerConfig { feature_errors: true, ..OnnxScorerConfig::new("") };
        let mut scorer = OnnxScorer::with_model(model, config).unwrap();
        let output = scorer.score(raw_batch(&names, &raw)).unwrap();
        let scores: Vec<f32> = setup::floats(&output, "score").into_iter().map(Option::unwrap).collect();
        assert_close(&scores, mse.as_slice().unwrap(), 1e-5);
        let expected: Vec<_> = mse.iter().map(|mse| Some(*mse >= 0.5)).collect();
        assert_eq!(setup::verdicts(&output), expected);
        assert_errors_average_to_the_score(output.batch.columns(), &scores);
    }
}

fn assert_errors_average_to_the_score(columns: &RecordBatch, scores: &[f32]) {
    let errors = columns.column_by_name("feature_errors").unwrap().as_fixed_size_list();
    for (row, score) in scores.iter().enumerate() {
        let errors = errors.value(row);
        let sum: f32 = errors.as_primitive::<Float32Type>().values().iter().sum();
        assert!((sum / errors.len() as f32 - score).abs() < 1e-5);
    }
}
