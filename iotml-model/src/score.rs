//! Kind `score`: the model's output is the score.

use crate::evaluation::Pass;

/// Takes the scores over, `output` being `[n]` or `[n, 1]`.
pub(crate) fn read(output: &[f32], pass: &mut Pass) {
    pass.scores.extend_from_slice(output);
}
