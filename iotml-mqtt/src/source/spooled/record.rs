//! How a message lies in a spool file.
//!
//! A record is a header of 20 bytes and a body: length of the body (u32), time of receipt in milliseconds (i64), checksum
//! of the body (u32), checksum of the header so far (u32), all little-endian. The header has a checksum of its own so that a damaged
//! length is not taken for a record that a crash cut short.

/// Bytes of a header.
pub(super) const HEADER: usize = 20;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the body.
    pub(super) len: u32,
    /// Time of receipt in milliseconds since the Unix epoch.
    pub(super) time: i64,
    crc: u32,
}

impl Header {
    /// Reads a header; `None` if its bytes are damaged.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]].map(u32::from);
        let number = |at: usize| word(at).iter().rev().fold(0, |number, byte| number << 8 | byte);
        let time = u64::from(number(8)) << 32 | u64::from(number(4));
        let header = Self { len: number(0), time: time as i64, crc: number(12) };
        (crc32fast::hash(&bytes[..16]) == number(16)).then_some(header)
    }

    /// Whether `body` is the one this header was written for.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        body.len() == self.len as usize && crc32fast::hash(body) == self.crc
    }
}

/// Appends a record to `out`. Errs if the body is longer than a record can say.
pub(super) fn write(out: &mut Vec<u8>, time: i64, body: &[u8]) -> Result<(), std::num::TryFromIntError> {
    let start = out.len();
    out.extend_from_slice(&u32::try_from(body.len())?.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_damage_is_seen() {
        let mut bytes = Vec::new();
        write(&mut bytes, -5, b"body").unwrap();
        let (head, body) = bytes.split_at(HEADER);
        let head: [u8; HEADER] = head.try_into().unwrap();
        let header = Header::read(&head).unwrap();
        assert_eq!((header.len, header.time), (4, -5));
        assert!(header.fits(body) && !header.fits(b"bode") && !header.fits(b"bod"));
        for at in 0..HEADER {
            let mut damaged = head;
            damaged[at] ^= 1;
            assert_eq!(Header::read(&damaged), None, "byte {at}");
        }
    }
}
