//! Hands the target `avro_schema` to libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::avro_schema(data));
