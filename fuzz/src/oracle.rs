use apache_avro::{Schema, from_avro_datum};

/// Whether apache-avro reads more into `datum` than is there, so that we may reject what it takes.
pub(crate) fn is_overread(schema: &Schema, datum: &[u8]) -> bool {
    is_cut_off(schema, datum) || may_have_wide_number(datum)
}

/// Whether it goes on behind its end: a text or a union that is not there any more is read as null.
fn is_cut_off(schema: &Schema, datum: &[u8]) -> bool {
    let behind = [0; 16];
    let longer = [datum, &behind].concat();
    let mut rest = longer.as_slice();
    from_avro_datum(schema, &mut rest, None).is_err() || rest.len() < behind.len()
}

/// Whether a number of more than 64 bits may be in it, which is read as its lower 64.
fn may_have_wide_number(datum: &[u8]) -> bool {
    datum.windows(10).any(|bytes| bytes[..9].iter().all(|byte| *byte >= 0x80) && matches!(bytes[9], 2..0x80))
}
