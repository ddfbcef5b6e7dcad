//! What several tests need: batches, scorers, engines, and the reference data.

use std::path::PathBuf;
use std::sync::{Arc, Once};

use iotml_core::arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch};
use iotml_core::arrow::datatypes::Float32Type;
use iotml_core::batch::{Batch, Coordinate, Lane, Message, Position, RawBatch, RawMessage, StageOutput};
use iotml_core::decode::{DecodeError, Decoder};
use iotml_core::score::Scorer;
use iotml_model::manifest::ManifestBuilder;
use iotml_model::testing::OnnxBuilder;
use iotml_model::{
    EngineChoice, EngineError, GoldenRule, ManifestSource, Model, ModelError, OnnxScorer, OnnxScorerConfig, OpenOptions,
};

/// The engines of this build that can run here.
pub fn engines() -> Vec<EngineChoice> {
    let mut engines = Vec::new();
    if onnxruntime() {
        engines.push(EngineChoice::OnnxRuntime);
    }
    if cfg!(feature = "tract") {
        engines.push(EngineChoice::Tract);
    }
    engines
}

/// Whether ONNX Runtime is here; without it a test skips, or fails where servers and data are required.
pub fn onnxruntime() -> bool {
    static SAID: Once = Once::new();
    let model = iotml_model::testing::scaled_copy(1, 1.0).build();
    let manifest = iotml_model::Manifest::builder(iotml_model::Kind::Reconstruction, "probe").feature("x", None);
    match Model::from_bytes(model, "probe", &options(manifest, EngineChoice::OnnxRuntime)) {
        Ok(_) => true,
        Err(ModelError::Engine(error @ (EngineError::NoLibrary { .. } | EngineError::NotBuilt { .. }))) => {
            let is_built = cfg!(feature = "onnxruntime");
            assert!(!(is_built && required("IOTML_REQUIRE_SERVERS")), "{error}");
            SAID.call_once(|| println!("skipped: onnxruntime: {error}"));
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn required(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// The folder of the reference data; a test that gets `None` skips.
pub fn seed_data() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/seed");
    let dir = std::env::var_os("IOTML_SEED_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(!required("IOTML_REQUIRE_SEED_DATA"), "no reference data in {}", dir.display());
    println!("skipped: no reference data in {}", dir.display());
    None
}

/// Options for a model without golden rows.
pub fn options(manifest: ManifestBuilder, engine: EngineChoice) -> OpenOptions {
    OpenOptions {
        manifest: ManifestSource::Given(Box::new(manifest.build().unwrap())),
        engine,
        golden: GoldenRule::None,
        ..OpenOptions::default()
    }
}

/// An open model made in code.
pub fn open(model: &OnnxBuilder, manifest: ManifestBuilder, engine: EngineChoice) -> Model {
    Model::from_bytes(model.build(), "test.onnx", &options(manifest, engine)).unwrap()
}

/// An open scorer around a model made in code, with the configuration changed by `change`.
pub fn scorer(
    model: &OnnxBuilder,
    manifest: ManifestBuilder,
    engine: EngineChoice,
    change: impl FnOnce(&mut OnnxScorerConfig),
) -> OnnxScorer {
    let mut config = OnnxScorerConfig::new("test.onnx");
    change(&mut config);
    OnnxScorer::with_model(open(model, manifest, engine), config).unwrap()
}

/// A batch with one float32 column a name; row `i` has `keys[i]`, and all rows are of `lane`.
pub fn keyed_batch(lane: u32, keys: &[Option<&str>], columns: &[(&str, &[f32])]) -> Batch {
    let mut raw = RawBatch::with_capacity(keys.len(), 0);
    for (seq, key) in keys.iter().enumerate() {
        raw.push(RawMessage {
            message: Message { key: key.map(str::as_bytes), ..Message::default() },
            position: Position { lane: Lane(lane), seq: seq as u64 },
            coordinate: Coordinate::NONE,
        });
    }
    let arrays = columns.iter().map(|(name, values)| {
        assert_eq!(values.len(), keys.len(), "{name}");
        (*name, Arc::new(Float32Array::from(values.to_vec())) as ArrayRef)
    });
    let columns = RecordBatch::try_from_iter(arrays).unwrap();
    Batch::decoded(Arc::new(raw), (0..keys.len() as u32).collect(), columns)
}

/// Waits for a future that does no I/O.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A batch without keys.
pub fn batch(columns: &[(&str, &[f32])]) -> Batch {
    keyed_batch(0, &vec![None; columns[0].1.len()], columns)
}

/// Scores a batch that must not fail as a whole.
pub fn score(scorer: &mut OnnxScorer, batch: Batch) -> StageOutput {
    scorer.score(batch).unwrap()
}

/// A float32 column of scored rows.
pub fn floats(output: &StageOutput, name: &str) -> Vec<Option<f32>> {
    let column = output.batch.column(name).unwrap_or_else(|| panic!("no column {name}"));
    column.as_primitive::<Float32Type>().iter().collect()
}

/// The verdicts of scored rows.
pub fn verdicts(output: &StageOutput) -> Vec<Option<bool>> {
    output.batch.column("anomaly").unwrap().as_boolean().iter().collect()
}

/// A text column of scored rows.
pub fn texts(output: &StageOutput, name: &str) -> Vec<String> {
    let column = output.batch.column(name).unwrap();
    column.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
}

/// Asserts that two lists of numbers agree.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance, "number {at} is {found}, not {expected}");
    }
}

/// One number per message as text, into the column `a`.
pub struct Numbers;

impl Decoder for Numbers {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        let text = |row| String::from_utf8_lossy(raw.messages().payload(row).unwrap_or_default()).into_owned();
        let values: Float32Array = (0..raw.len()).map(|row| text(row).parse::<f32>().ok()).collect();
        let columns = RecordBatch::try_from_iter([("a", Arc::new(values) as ArrayRef)]).unwrap();
        Ok(StageOutput::all(Batch::decoded(raw.clone(), (0..raw.len() as u32).collect(), columns)))
    }
}

/// Restores `whole`, the snapshot of a scorer's partition `cars-0`, cut, lengthened, and with every byte changed: each is an error
/// or a snapshot of its own, which `try_out` may score with on the partition `cars-1`, and never a panic.
pub fn try_damaged_snapshots<S: Scorer>(scorer: &mut S, whole: &[u8], mut try_out: impl FnMut(&mut S)) {
    for end in 0..whole.len() {
        assert!(scorer.state().unwrap().restore("cars-0", &whole[..end]).is_err(), "cut at {end}");
    }
    let longer = [whole, &[0]].concat();
    assert!(scorer.state().unwrap().restore("cars-0", &longer).is_err());
    for at in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 0xff;
        if scorer.state().unwrap().restore("cars-1", &flipped).is_ok() {
            try_out(scorer);
        }
    }
    let mut unknown = whole.to_vec();
    unknown[4] = 99;
    let error = scorer.state().unwrap().restore("cars-0", &unknown).unwrap_err().to_string();
    assert!(error.contains("version is 99"), "{error}");
}
