//! The libraries one would use instead.

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum};
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use iotml_core::arrow::array::RecordBatch;
use iotml_core::batch::RawBatch;

use crate::data::{N_ROWS, SCHEMA, SCHEMA_ID, framed, values};

pub struct ApacheAvro {
    schema: Schema,
    framed: Vec<Vec<u8>>,
}

impl ApacheAvro {
    pub fn new() -> Self {
        let framed = values().iter().map(|row| framed(row, false)).collect();
        Self { schema: Schema::parse_str(SCHEMA).unwrap(), framed }
    }

    pub fn decode(&self) -> Vec<Value> {
        let decode = |framed: &Vec<u8>| from_avro_datum(&self.schema, &mut &framed[5..], None).unwrap();
        self.framed.iter().map(decode).collect()
    }
}

pub struct ArrowAvro {
    decoder: Decoder,
    framed: Vec<Vec<u8>>,
}

impl ArrowAvro {
    pub fn new() -> Self {
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        store.set(Fingerprint::Id(SCHEMA_ID), AvroSchema::new(SCHEMA.to_owned())).unwrap();
        let decoder =
            ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(N_ROWS).build_decoder().unwrap();
        Self { decoder, framed: values().iter().map(|row| framed(row, false)).collect() }
    }

    pub fn decode(&mut self) -> RecordBatch {
        for framed in &self.framed {
            assert_eq!(self.decoder.decode(framed).unwrap(), framed.len());
        }
        self.decoder.flush().unwrap().unwrap()
    }
}

pub fn serde_json(raw: &RawBatch) -> Vec<serde_json::Value> {
    (0..raw.len()).map(|row| ::serde_json::from_slice(raw.messages().payload(row).unwrap()).unwrap()).collect()
}
