//! A walk over the wire format that counts before anything is allocated.
//!
//! Two bytes on the wire can become a structure of two hundred in memory, so a small file could ask for gigabytes; and
//! messages nested deep enough overflow the stack of a recursive parser. This walk keeps neither.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{Limits, Refusal};

/// The messages that are parsed later, by the field numbers of `onnx.proto`; all others are skipped or kept as bytes.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Leaf,
}

impl Message {
    fn child(self, tag: u32) -> Option<Message> {
        use Message::*;
        Some(match (self, tag) {
            (Model, 7) => Graph,
            (Model, 8 | 14) => Leaf,
            (Graph, 1) => Node,
            (Graph, 5) => Tensor,
            (Graph, 11 | 12) => ValueInfo,
            (Node, 5) => Attribute,
            (Attribute, 5 | 10) => Tensor,
            (Tensor, 13) => Leaf,
            (ValueInfo, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            (Shape, 1) => Leaf,
            _ => return None,
        })
    }

    /// Repeated fields that are no messages but still become an element each.
    fn is_repeated_value(self, tag: u32) -> bool {
        use Message::*;
        match self {
            Model => matches!(tag, 20 | 25),
            Graph => tag == 15,
            Node => matches!(tag, 1 | 2),
            Attribute => matches!(tag, 9 | 11),
            Tensor => tag == 6,
            _ => false,
        }
    }
}

/// Refuses a file whose parsed form would have more elements than `limits.max_elements`, or that is no protobuf.
pub(super) fn scan(bytes: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let mut budget = Budget { left: limits.max_elements, limit: limits.max_elements };
    budget.message(Message::Model, bytes)
}

struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    // Recursion is bounded by the kinds of message: no kind in `Message` contains itself.
    fn message(&mut self, kind: Message, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let (tag, wire_type) = decode_key(&mut bytes)?;
            let child = kind.child(tag);
            if child.is_some() || kind.is_repeated_value(tag) {
                self.take()?;
            }
            match child {
                Some(child) if wire_type == WireType::LengthDelimited => {
                    let length = decode_varint(&mut bytes)?;
                    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
                    let Some(length) = length else { return Err(Refusal::Truncated) };
                    let (body, rest) = bytes.split_at(length);
                    self.message(child, body)?;
                    bytes = rest;
                }
                _ => skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), Refusal> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Refusal::TooManyElements { limit: self.limit }),
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(source: DecodeError) -> Self {
        Refusal::NotOnnx { source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_byte_nodes_are_counted_before_they_are_allocated() {
        let graph = [0x0a, 0x00].repeat(1_000);
        let mut model = vec![0x3a, 0xd0, 0x0f];
        model.extend_from_slice(&graph);
        let limits = |max_elements| Limits { max_elements, ..Limits::default() };
        assert!(matches!(scan(&model, &limits(1_000)), Err(Refusal::TooManyElements { limit: 1_000 })));
        assert!(scan(&model, &limits(1_001)).is_ok());
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert!(matches!(scan(&[0x3a, 0x7f, 0x0a], &Limits::default()), Err(Refusal::Truncated)));
        let huge = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(scan(&huge, &Limits::default()), Err(Refusal::Truncated)));
    }

    #[test]
    fn deep_groups_do_not_overflow_the_stack() {
        let groups = [0x0b].repeat(100_000);
        assert!(matches!(scan(&groups, &Limits::default()), Err(Refusal::NotOnnx { .. })));
    }
}
