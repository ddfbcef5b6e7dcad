//! iotml's stages as the pipeline calls them.

use std::path::Path;
use std::sync::Arc;

use apache_avro::types::Value;
use iotml_core::arrow::array::{AsArray, RecordBatch};
use iotml_core::arrow::datatypes::{DataType, Float32Type, Int32Type};
use iotml_core::batch::{Batch, RawBatch, StageOutput};
use iotml_core::decode::{
    AvroDecoder, AvroDecoderConfig, ColumnConfig, ColumnType, ConfluentAvroDecoder, ConfluentAvroDecoderConfig,
    CsvDecoder, CsvDecoderConfig, Decoder, JsonDecoder, JsonDecoderConfig, SchemaResolver,
};
use iotml_core::encode::{AvroEncoder, AvroEncoderConfig, Encoded, Encoder, JsonEncoder, JsonEncoderConfig};
use iotml_core::error::SchemaRegistryError;
use iotml_core::ndarray::Array2;
use iotml_core::pipeline::TaskContext;
use iotml_core::score::Scorer;
use iotml_model::feature::{FeatureSpec, Missing};
use iotml_model::manifest::{Distribution, Feature, FeatureDistribution, Scale};
use iotml_model::{Manifest, ManifestSource, Model, OnnxScorer, OnnxScorerConfig, OpenOptions, WatchConfig};

use crate::data::{self, MANIFEST, N_ROWS, SCHEMA, SCHEMA_ID};
use crate::peers::{ApacheAvro, ArrowAvro};

struct OneSchema(String);

#[iotml_core::async_trait]
impl SchemaResolver for OneSchema {
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        if id == SCHEMA_ID { Ok(self.0.as_str().into()) } else { Err(SchemaRegistryError::Unknown { id }) }
    }
}

pub struct Stages {
    runtime: tokio::runtime::Runtime,
    framed: Arc<RawBatch>,
    nullable: Arc<RawBatch>,
    plain: Arc<RawBatch>,
    pub json: Arc<RawBatch>,
    csv: Arc<RawBatch>,
    confluent_decoder: ConfluentAvroDecoder,
    nullable_decoder: ConfluentAvroDecoder,
    plain_decoder: AvroDecoder,
    json_decoder: JsonDecoder,
    csv_decoder: CsvDecoder,
    spec: FeatureSpec,
    matrix: Array2<f32>,
    decoded: Batch,
    scorer: Option<OnnxScorer>,
    /// The same, which also compares all rows with those of training.
    watched: Option<OnnxScorer>,
    json_encoder: JsonEncoder,
    avro_encoder: AvroEncoder,
}

impl Stages {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let values = data::values();
        let confluent = |schema: String| {
            ConfluentAvroDecoder::new(Arc::new(OneSchema(schema)), ConfluentAvroDecoderConfig::default()).unwrap()
        };
        let plain_datum = |row: &Vec<f32>| {
            let mut out = Vec::new();
            data::datum(row, false, &mut out);
            out
        };
        let columns: Vec<ColumnConfig> =
            data::fields().into_iter().map(|(name, _)| ColumnConfig::new(name, ColumnType::Float32)).collect();
        let json_config = JsonDecoderConfig { columns: Some(columns.clone()), ..JsonDecoderConfig::default() };
        let csv_config = CsvDecoderConfig { columns: Some(columns), ..CsvDecoderConfig::default() };
        let manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
        let framed = data::raw(values.iter().map(|row| data::framed(row, false)));
        let mut stages = Self {
            decoded: Batch::undecoded(framed.clone()),
            nullable: data::raw(values.iter().map(|row| data::framed(row, true))),
            plain: data::raw(values.iter().map(plain_datum)),
            json: data::raw(values.iter().map(|row| data::json(row))),
            csv: data::raw(values.iter().map(|row| data::csv(row))),
            confluent_decoder: confluent(SCHEMA.to_owned()),
            nullable_decoder: confluent(data::nullable_schema()),
            plain_decoder: AvroDecoder::new(AvroDecoderConfig::new(SCHEMA)).unwrap(),
            json_decoder: JsonDecoder::new(json_config).unwrap(),
            csv_decoder: CsvDecoder::new(csv_config).unwrap(),
            spec: FeatureSpec::new(&manifest.features, Missing::Reject),
            matrix: Array2::zeros((N_ROWS, manifest.features.len())),
            scorer: scorer(&runtime, None),
            watched: scorer(&runtime, Some(WatchConfig::default())),
            json_encoder: JsonEncoder::new(JsonEncoderConfig::default()),
            avro_encoder: AvroEncoder::new(AvroEncoderConfig::default()).unwrap(),
            framed,
            runtime,
        };
        stages.decoded = stages.decode_confluent().batch;
        stages
    }

    /// As the pipeline does it: `prepare`, which finds its schema in the cache, then `decode`.
    pub fn decode_confluent(&mut self) -> StageOutput {
        self.runtime.block_on(self.confluent_decoder.prepare(&self.framed)).unwrap();
        self.confluent_decoder.decode(&self.framed).unwrap()
    }

    pub fn decode_nullable(&mut self) -> StageOutput {
        self.runtime.block_on(self.nullable_decoder.prepare(&self.nullable)).unwrap();
        self.nullable_decoder.decode(&self.nullable).unwrap()
    }

    pub fn decode_plain(&mut self) -> StageOutput {
        self.plain_decoder.decode(&self.plain).unwrap()
    }

    pub fn decode_json(&mut self) -> StageOutput {
        self.json_decoder.decode(&self.json).unwrap()
    }

    pub fn decode_csv(&mut self) -> StageOutput {
        self.csv_decoder.decode(&self.csv).unwrap()
    }

    pub fn features(&mut self) {
        let bad = self.spec.fill(self.decoded.columns(), &mut self.matrix).unwrap();
        assert!(bad.is_empty());
    }

    /// The target: from the frame to the rows a model sees.
    pub fn decode_to_features(&mut self) -> StageOutput {
        let output = self.decode_confluent();
        let bad = self.spec.fill(output.batch.columns(), &mut self.matrix).unwrap();
        assert!(bad.is_empty());
        output
    }

    pub fn can_score(&self) -> bool {
        self.scorer.is_some()
    }

    pub fn score(&mut self) -> StageOutput {
        self.scorer.as_mut().unwrap().score(self.decoded.clone()).unwrap()
    }

    pub fn score_watched(&mut self) -> StageOutput {
        self.watched.as_mut().unwrap().score(self.decoded.clone()).unwrap()
    }

    pub fn encode_json(&mut self) -> Encoded {
        self.json_encoder.encode(&self.decoded).unwrap()
    }

    pub fn encode_avro(&mut self) -> Encoded {
        self.avro_encoder.encode(&self.decoded).unwrap()
    }

    /// Everything that is timed gives the numbers that went in.
    pub fn check(&mut self, apache: &ApacheAvro, arrow: &mut ArrowAvro) {
        let want = data::values();
        for (name, output) in [
            ("confluent avro", self.decode_confluent()),
            ("nullable avro", self.decode_nullable()),
            ("plain avro", self.decode_plain()),
            ("json", self.decode_json()),
            ("csv", self.decode_csv()),
        ] {
            assert!(output.rejected.is_empty(), "{name}: {:?}", output.rejected.first());
            assert_eq!(numbers(output.batch.columns()), want, "{name}");
        }
        assert_eq!(numbers(&arrow.decode()), want, "arrow-avro");
        for (value, row) in apache.decode().iter().zip(&want) {
            let Value::Record(fields) = value else { panic!("no record") };
            let number = |(_, value): &(String, Value)| match value {
                Value::Float(value) => *value,
                Value::Int(value) => *value as f32,
                other => panic!("{other:?}"),
            };
            assert_eq!(&fields.iter().map(number).collect::<Vec<_>>(), row, "apache-avro");
        }
        self.decode_to_features();
        let manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
        let names = data::fields();
        for (at, feature) in manifest.features.iter().enumerate() {
            if let Some(iotml_model::manifest::Scale::Range { min, max }) = feature.scale {
                let column = names.iter().position(|(name, _)| *name == feature.name).unwrap();
                for (row, values) in want.iter().enumerate() {
                    let scaled = (f64::from(values[column]) - min) / (max - min) * 2.0 - 1.0;
                    assert!((f64::from(self.matrix[[row, at]]) - scaled).abs() < 1e-5, "feature {}", feature.name);
                }
            }
        }
        let encoded = self.encode_json();
        for (row, values) in want.iter().enumerate() {
            let object: serde_json::Value = serde_json::from_slice(encoded.messages.payload(row).unwrap()).unwrap();
            for ((name, _), value) in names.iter().zip(values) {
                assert_eq!(object[name].as_f64().unwrap() as f32, *value, "{name}");
            }
        }
        let encoded = self.encode_avro();
        for row in 0..N_ROWS {
            assert_eq!(encoded.messages.payload(row), self.plain.messages().payload(row), "avro comes back as it was");
        }
    }
}

fn numbers(columns: &RecordBatch) -> Vec<Vec<f32>> {
    let column = |array: &iotml_core::arrow::array::ArrayRef| -> Vec<f32> {
        match array.data_type() {
            DataType::Float32 => array.as_primitive::<Float32Type>().values().to_vec(),
            _ => array.as_primitive::<Int32Type>().values().iter().map(|value| *value as f32).collect(),
        }
    };
    let columns: Vec<Vec<f32>> = columns.columns().iter().map(column).collect();
    (0..N_ROWS).map(|row| columns.iter().map(|column| column[row]).collect()).collect()
}

/// The demo's model, where an engine is there to run it.
fn scorer(runtime: &tokio::runtime::Runtime, watch: Option<WatchConfig>) -> Option<OnnxScorer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cars/cars-autoencoder.onnx");
    let mut manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
    manifest.distribution = Some(distribution(&manifest));
    let options = OpenOptions { manifest: ManifestSource::Given(Box::new(manifest)), ..OpenOptions::default() };
    let opened = Model::open(&path, &options);
    let model = opened.map_err(|error| println!("{error}")).ok()?;
    let config = OnnxScorerConfig { watch, ..OnnxScorerConfig::new("") };
    let mut scorer = OnnxScorer::with_model(model, config).unwrap();
    runtime.block_on(scorer.open(&TaskContext::single("stages"))).unwrap();
    Some(scorer)
}

/// As many edges as a training writes down: 21 for each feature.
fn distribution(manifest: &Manifest) -> Distribution {
    let feature = |feature: &Feature| {
        let (low, high) = match feature.scale {
            Some(Scale::Range { min, max }) => (min, max),
            Some(Scale::Standard { mean, std }) => (mean - 2.0 * std, mean + 2.0 * std),
            None => (0.0, 1.0),
        };
        let edges = (0..=20).map(|edge| low + (high - low) * f64::from(edge) / 20.0).collect();
        let shares = (0..22).map(|bin| if bin == 0 || bin == 21 { 0.0 } else { 0.05 }).collect();
        FeatureDistribution { name: feature.name.clone(), edges, shares, missing: 0.0 }
    };
    let read = manifest.features.iter().filter(|feature| feature.constant.is_none());
    Distribution { features: read.map(feature).collect(), ..Distribution::default() }
}
