//! Hands the target `confluent_frame` to libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::confluent_frame(data));
