//! Writing a manifest into an ONNX file without touching anything else in it.

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};

use super::{METADATA_KEY, Manifest};
use crate::ModelError;
use crate::precheck::proto::StringEntry;

const METADATA_PROPS: u32 = 14;

/// Gives the ONNX file `model` with `manifest` in its metadata, in the place of one that is already there.
///
/// Every other byte is copied as it is, so fields that this crate does not know survive.
///
/// # Errors
/// [`ModelError::NotOnnx`] if `model` is not a protobuf message.
pub fn embed(model: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ModelError> {
    let not_onnx = |source| ModelError::NotOnnx { source };
    let entry = StringEntry { key: METADATA_KEY.to_owned(), value: manifest.to_json() };
    let mut out = Vec::with_capacity(model.len() + entry.encoded_len() + 16);
    let mut rest = model;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = decode_key(&mut rest).map_err(not_onnx)?;
        let mut body = rest;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(not_onnx)?;
        let is_manifest = tag == METADATA_PROPS
            && wire_type == WireType::LengthDelimited
            && StringEntry::decode_length_delimited(&mut body).is_ok_and(|entry| entry.key == METADATA_KEY);
        if !is_manifest {
            out.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    encode_key(METADATA_PROPS, WireType::LengthDelimited, &mut out);
    encode_varint(entry.encoded_len() as u64, &mut out);
    out.extend_from_slice(&entry.encode_to_vec());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::precheck::proto::Model;

    #[test]
    fn embedding_twice_keeps_one_manifest_and_the_rest() {
        let mut model = Model { ir_version: Some(8), ..Model::default() };
        model.metadata_props.push(StringEntry { key: "other".into(), value: "kept".into() });
        let manifest =
            |version: &str| Manifest::builder(Kind::Score, "m").version(version).feature("x", None).build().unwrap();
        let once = embed(&model.encode_to_vec(), &manifest("1")).unwrap();
        let twice = embed(&once, &manifest("2")).unwrap();
        let read = Model::decode(twice.as_slice()).unwrap();
        assert_eq!(read.ir_version, Some(8));
        let keys: Vec<_> = read.metadata_props.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["other", METADATA_KEY]);
        let manifest = Manifest::from_json(read.metadata_props[1].value.as_bytes()).unwrap();
        assert_eq!(manifest.version, "2");
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let manifest = Manifest::builder(Kind::Score, "m").feature("x", None).build().unwrap();
        assert!(matches!(embed(&[0x0b, 0xff, 0xff], &manifest), Err(ModelError::NotOnnx { .. })));
    }
}
