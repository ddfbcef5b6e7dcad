use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};

/// Whether apache-avro would write what it has read just so.
///
/// It reads more than that: a text or a union that is cut off as null, and a number of more than 64 bits as one of the lower 64.
pub(crate) fn is_written_so(schema: &Schema, value: &Value, datum: &[u8]) -> bool {
    to_avro_datum(schema, value.clone()).is_ok_and(|written| written == datum)
}
