//! Points in time on the command line.

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

/// Reads a time as milliseconds since the Unix epoch: `2026-01-31T12:00:00Z`, or such milliseconds themselves; for `value_parser` of clap.
///
/// # Errors
/// How to write it.
pub fn time(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let nanos = string_to_timestamp_nanos(text);
    nanos
        .map(|nanos| nanos.div_euclid(1_000_000))
        .map_err(|_| "write it like 2026-01-31T12:00:00Z, or as milliseconds since the Unix epoch".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_refused() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(time("1500"), Ok(1_500));
        assert!(time("yesterday").is_err());
    }
}
