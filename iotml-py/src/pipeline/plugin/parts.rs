//! A batch that failed is tried again in halves, until the bad rows are found and their neighbours are through (invariant 7).

use std::ops::Range;

use iotml_core::batch::Rejected;
use iotml_core::error::Cause;
use iotml_core::pipeline::Tolerance;

use super::exception::Failed;
use crate::pipeline::word;

/// What became of a batch that was tried in parts.
#[derive(Debug)]
pub struct Parts<T> {
    /// The parts that went well, in the order of their rows.
    pub good: Vec<(Range<usize>, T)>,
    /// The rows that failed alone, in ascending order.
    pub rejected: Vec<Rejected>,
}

/// Calls `attempt` with all of `n_rows`, and with halves of what fails. Where nothing is tolerated, the rows behind the first
/// bad one are not tried: the pipeline stops there.
///
/// A batch with `k` bad rows takes about `2 k log2(n_rows / k)` calls more. `attempt` may see a row more than once, unless the
/// stage keeps state, which must not take a row up twice: then what it raises is put down to no row.
pub fn in_parts<T>(
    n_rows: usize,
    tolerance: Tolerance,
    keeps_state: bool,
    mut attempt: impl FnMut(Range<usize>) -> Result<T, Failed>,
) -> Result<Parts<T>, Failed> {
    let mut parts = Parts { good: Vec::new(), rejected: Vec::new() };
    // The next part is at the end.
    let mut waiting = Vec::from([Range { start: 0, end: n_rows }]);
    while let Some(part) = waiting.pop() {
        match attempt(part.clone()) {
            Ok(done) => parts.good.push((part, done)),
            Err(Failed::Rows(raised)) if keeps_state => return Err(Failed::Fatal(raised.into())),
            Err(Failed::Rows(_)) if part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                waiting.extend([middle..part.end, part.start..middle]);
            }
            Err(Failed::Rows(raised)) => {
                parts.rejected.push(Rejected { row: part.start as u32, cause: raised.into_cause() });
                if tolerance == Tolerance::None {
                    let cause = Cause::new(word::reason("not_tried"), "a row before it failed");
                    let rest = (part.end..n_rows).map(|row| Rejected { row: row as u32, cause: cause.clone() });
                    parts.rejected.extend(rest);
                    break;
                }
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(parts)
}
