//! Kind `reconstruction`: how badly the model gives a row back.

use crate::evaluation::{Pass, Wants};

/// Scores every row with the mean of its squared errors, `input` and `output` both `[n, n_features]`.
pub(crate) fn read(input: &[f32], output: &[f32], n_features: usize, wants: Wants, pass: &mut Pass) {
    let rows = input.chunks_exact(n_features).zip(output.chunks_exact(n_features));
    pass.scores.extend(rows.map(|(seen, given)| mean_squared_error(seen, given)));
    if wants.errors {
        pass.errors.extend(input.iter().zip(output).map(|(seen, given)| squared_error(*seen, *given)));
    }
}

/// The mean of the squared differences of two rows of one length.
pub(crate) fn mean_squared_error(seen: &[f32], given: &[f32]) -> f32 {
    let sum: f32 = seen.iter().zip(given).map(|(seen, given)| squared_error(*seen, *given)).sum();
    sum / seen.len() as f32
}

/// The squared difference of one feature.
pub(crate) fn squared_error(seen: f32, given: f32) -> f32 {
    (seen - given) * (seen - given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_is_the_mean_squared_error_of_its_own_row() {
        let mut pass = Pass::default();
        let wants = Wants { errors: true, output: false };
        read(&[1.0, 2.0, 0.0, 0.0], &[1.0, 4.0, 3.0, 1.0], 2, wants, &mut pass);
        assert_eq!(pass.scores, [2.0, 5.0]);
        assert_eq!(pass.errors, [0.0, 4.0, 9.0, 1.0]);
    }
}
