//! Avro's bytes: integers, lengths, branches.

use crate::decode::columns::Fault;
use crate::error::Reason;

/// A variable-length zig-zag integer. Most in telemetry take one or two bytes.
#[inline(always)]
pub(super) fn long(rest: &mut &[u8]) -> Result<i64, Fault> {
    match **rest {
        [a, ref tail @ ..] if a < 0x80 => {
            *rest = tail;
            Ok(zag(u64::from(a)))
        }
        [a, b, ref tail @ ..] if b < 0x80 => {
            *rest = tail;
            Ok(zag(u64::from(a & 0x7f) | u64::from(b) << 7))
        }
        _ => long_varint(rest),
    }
}

#[inline(never)]
fn long_varint(rest: &mut &[u8]) -> Result<i64, Fault> {
    let mut value = 0u64;
    for (n, &byte) in rest.iter().enumerate().take(10) {
        if n == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte < 0x80 {
            *rest = &rest[n + 1..];
            return Ok(zag(value));
        }
    }
    Err(if rest.len() < 10 { truncated() } else { malformed("an integer of more than 64 bits") })
}

#[inline(always)]
fn zag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline(always)]
pub(super) fn narrow(value: i64) -> Result<i32, Fault> {
    i32::try_from(value).map_err(|_| malformed("an int of more than 32 bits"))
}

pub(super) fn branch(rest: &mut &[u8]) -> Result<usize, Fault> {
    usize::try_from(long(rest)?).map_err(|_| no_branch())
}

#[inline]
pub(super) fn blob<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let length = usize::try_from(long(rest)?).map_err(|_| malformed("a negative length"))?;
    take(rest, length)
}

#[inline]
pub(super) fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], Fault> {
    let (taken, tail) = rest.split_at_checked(n).ok_or_else(truncated)?;
    *rest = tail;
    Ok(taken)
}

#[inline(always)]
pub(super) fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, tail) = rest.split_first_chunk::<N>().ok_or_else(truncated)?;
    *rest = tail;
    Ok(*taken)
}

#[cold]
pub(super) fn truncated() -> Fault {
    Fault::new(Reason::Truncated, "the bytes end inside the record")
}

#[cold]
pub(super) fn malformed(detail: &'static str) -> Fault {
    Fault::new(Reason::Malformed, detail)
}

#[cold]
pub(super) fn no_branch() -> Fault {
    malformed("a union branch that the schema does not have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_come_back() {
        let values = [0, -1, 1, 63, 64, -65, 8_191, 8_192, i64::from(i32::MIN), i64::MAX, i64::MIN];
        for value in values {
            let mut bytes = Vec::new();
            let mut zig = ((value << 1) ^ (value >> 63)) as u64;
            while zig >= 0x80 {
                bytes.push(zig as u8 | 0x80);
                zig >>= 7;
            }
            bytes.push(zig as u8);
            for cut in 0..bytes.len() {
                assert_eq!(long(&mut &bytes[..cut]).unwrap_err().reason, Reason::Truncated, "{value} cut at {cut}");
            }
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!(long(&mut rest), Ok(value));
            assert_eq!(rest, [7]);
        }
        assert_eq!(long(&mut &[0xff; 12][..]).unwrap_err().reason, Reason::Malformed);
    }
}
