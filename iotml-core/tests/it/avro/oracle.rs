//! Columns against what apache-avro and arrow-avro read.

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use iotml_core::decode::Decoder;
use iotml_core::error::Reason;
use iotml_core::testing::rows::raw_batch;
use proptest::prelude::*;

use super::cells::{cell, decoded, decoder, expected};
use super::framed;
use super::types::{Dice, any_flat_record, any_record, json, value};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn columns_equal_what_apache_avro_reads(t in any_record(), seed: u64) {
        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let mut dice = Dice(seed);
        let values: Vec<Value> = (0..5).map(|_| value(&t, &mut dice)).collect();
        let data: Vec<Vec<u8>> = values.iter().map(|v| to_avro_datum(&schema, v.clone()).unwrap()).collect();
        // A datum may be empty when the schema has nothing but nulls; an empty payload is rejected by contract.
        prop_assume!(data.iter().all(|datum| !datum.is_empty()));
        let output = decoder(&schema_json).decode(&raw_batch(data.iter().map(Some))).unwrap();
        prop_assert!(output.rejected.is_empty(), "{:?}", output.rejected);
        for (row, datum) in data.iter().enumerate() {
            let oracle = from_avro_datum(&schema, &mut &datum[..], None).unwrap();
            prop_assert_eq!(decoded(&output.batch, row), expected(&t, &oracle));
        }
    }

    #[test]
    fn inv_7_a_datum_cut_anywhere_is_rejected_and_its_neighbours_are_intact(t in any_record(), seed: u64) {
        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let mut dice = Dice(seed);
        let values: Vec<Value> = (0..2).map(|_| value(&t, &mut dice)).collect();
        let data: Vec<Vec<u8>> = values.iter().map(|v| to_avro_datum(&schema, v.clone()).unwrap()).collect();
        prop_assume!(data.iter().all(|datum| !datum.is_empty()));
        let cuts: Vec<Vec<u8>> = (0..data[1].len()).map(|at| data[1][..at].to_vec()).collect();
        let mixed = cuts.iter().flat_map(|cut| [&data[0], cut]).chain([&data[1]]);
        let output = decoder(&schema_json).decode(&raw_batch(mixed.map(Some))).unwrap();
        prop_assert_eq!(output.rejected.len(), cuts.len());
        for (n, rejected) in output.rejected.iter().enumerate() {
            prop_assert_eq!(rejected.row as usize, 2 * n + 1);
            let reason = if n == 0 { Reason::Empty } else { Reason::Truncated };
            prop_assert_eq!(rejected.cause.reason, reason, "cut at {}: {}", n, rejected.cause);
        }
        for row in 0..cuts.len() {
            prop_assert_eq!(decoded(&output.batch, row), expected(&t, &values[0]));
        }
        prop_assert_eq!(decoded(&output.batch, cuts.len()), expected(&t, &values[1]));
    }

    #[test]
    fn inv_7_mutated_bytes_never_reach_the_neighbours(
        t in any_record(),
        seed: u64,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let sound = value(&t, &mut Dice(seed));
        let datum = to_avro_datum(&schema, sound.clone()).unwrap();
        prop_assume!(!datum.is_empty());
        let mut mutated = datum.clone();
        for (at, byte) in changes {
            let at = at.index(mutated.len());
            mutated[at] = byte;
        }
        let raw = raw_batch([&datum, &mutated, &datum].map(Some));
        let output = decoder(&schema_json).decode(&raw).unwrap();
        let last = output.batch.len() - 1;
        prop_assert_eq!(output.batch.len() + output.rejected.len(), 3);
        prop_assert_eq!(decoded(&output.batch, 0), expected(&t, &sound));
        prop_assert_eq!(decoded(&output.batch, last), expected(&t, &sound));
    }

    #[test]
    fn random_bytes_never_panic(t in any_record(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let output = decoder(&json(&t, &mut 0)).decode(&raw_batch([Some(bytes)])).unwrap();
        prop_assert_eq!(output.batch.len() + output.rejected.len(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn columns_equal_those_of_arrow_avro(t in any_flat_record(), seed: u64) {
        use arrow_avro::reader::ReaderBuilder;
        use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};

        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let mut dice = Dice(seed);
        let data: Vec<Vec<u8>> =
            (0..20).map(|_| to_avro_datum(&schema, value(&t, &mut dice)).unwrap()).collect();
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        store.set(Fingerprint::Id(5), AvroSchema::new(schema_json.clone())).unwrap();
        let mut oracle = ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(20).build_decoder().unwrap();
        for datum in &data {
            let framed = framed(5, datum);
            prop_assert_eq!(oracle.decode(&framed).unwrap(), framed.len());
        }
        let oracle = oracle.flush().unwrap().unwrap();
        let output = decoder(&schema_json).decode(&raw_batch(data.iter().map(Some))).unwrap();
        prop_assert!(output.rejected.is_empty(), "{:?}", output.rejected);
        for (field, array) in oracle.schema().fields().iter().zip(oracle.columns()) {
            let ours = output.batch.column(field.name()).unwrap();
            for row in 0..20 {
                prop_assert_eq!(cell(ours, row), cell(array, row), "field {} of {}", field.name(), &schema_json);
            }
        }
    }
}
