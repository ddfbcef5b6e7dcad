//! Hands the target `mqtt_topic` to libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::mqtt_topic(data));
