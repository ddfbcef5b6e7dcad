//! Steps over values that no column needs.

use super::bytes::{blob, branch, long, malformed, no_branch, take, truncated};
use super::compile::Op;
use crate::decode::columns::Fault;
use crate::error::Reason;

/// A type that contains itself may do so this deep.
const MAX_DEPTH: usize = 64;

/// Steps over one value that no column needs.
pub(super) fn skip(op: &Op, named: &[Box<[Op]>], rest: &mut &[u8], depth: usize) -> Result<(), Fault> {
    match op {
        Op::SkipFixed(n) => take(rest, *n).map(drop),
        Op::SkipVarints(n) => (0..*n).try_for_each(|_| long(rest).map(drop)),
        Op::SkipBlob => blob(rest).map(drop),
        Op::SkipArray(item) => skip_blocks(rest, |rest| skip_all(item, named, rest, depth), item.is_empty()),
        Op::SkipMap(value) => skip_blocks(
            rest,
            |rest| {
                blob(rest)?;
                skip_all(value, named, rest, depth)
            },
            false,
        ),
        Op::SkipUnion(branches) => {
            let branch = branches.get(branch(rest)?).ok_or_else(no_branch)?;
            skip_all(branch, named, rest, depth)
        }
        Op::SkipNamed(_) if depth == MAX_DEPTH => Err(Fault::new(Reason::TooDeep, "nested deeper than 64 records")),
        Op::SkipNamed(number) => skip_all(&named[*number], named, rest, depth + 1),
        Op::Numbers { .. } | Op::Nullables { .. } | Op::Text(_) | Op::Blob(_) | Op::Cast { .. } | Op::Union(_) => {
            Ok(())
        }
    }
}

fn skip_all(ops: &[Op], named: &[Box<[Op]>], rest: &mut &[u8], depth: usize) -> Result<(), Fault> {
    ops.iter().try_for_each(|op| skip(op, named, rest, depth))
}

/// Arrays and maps come in blocks: a count, or a negative count and the block's size in bytes; zero ends them.
fn skip_blocks(
    rest: &mut &[u8],
    mut item: impl FnMut(&mut &[u8]) -> Result<(), Fault>,
    empty_items: bool,
) -> Result<(), Fault> {
    loop {
        let count = long(rest)?;
        match count {
            0 => return Ok(()),
            1.. if empty_items => {}
            1.. => {
                // Every item takes at least a byte, so a count beyond the bytes left is wrong before it costs anything.
                if count as u64 > rest.len() as u64 {
                    return Err(truncated());
                }
                (0..count).try_for_each(|_| item(rest))?;
            }
            _ => {
                let size = usize::try_from(long(rest)?).map_err(|_| malformed("a negative block size"))?;
                take(rest, size)?;
            }
        }
    }
}
