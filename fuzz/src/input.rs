//! How bytes of the fuzzer are cut into what a target needs.

/// At most this many messages, so that one input stays quick.
const MAX_MESSAGES: usize = 16;

/// Messages, each behind its length of two bytes; the last may be cut short.
pub fn messages(mut data: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let ([a, b, rest @ ..], true) = (data, messages.len() < MAX_MESSAGES) {
        let (message, behind) = rest.split_at(usize::from(u16::from_le_bytes([*a, *b])).min(rest.len()));
        messages.push(message);
        data = behind;
    }
    messages
}

/// The same, written.
pub fn with_lengths<M: AsRef<[u8]>>(messages: impl IntoIterator<Item = M>) -> Vec<u8> {
    let mut data = Vec::new();
    for message in messages {
        let message = message.as_ref();
        data.extend_from_slice(&u16::try_from(message.len()).expect("a short seed").to_le_bytes());
        data.extend_from_slice(message);
    }
    data
}

/// Bytes one by one; zero when there are none left.
pub struct Dice<'a>(pub &'a [u8]);

impl Dice<'_> {
    pub fn next(&mut self) -> u8 {
        match self.0 {
            [byte, rest @ ..] => {
                self.0 = rest;
                *byte
            }
            [] => 0,
        }
    }
}
