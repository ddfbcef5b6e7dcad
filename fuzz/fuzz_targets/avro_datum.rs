//! Hands the target `avro_datum` to libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::avro_datum(data));
