//! Kind `classifier`: the probability of the positive class is the score, the most likely class the label.

use crate::evaluation::Pass;
use crate::manifest::Manifest;

/// The index of the positive class: the one the manifest names, else the last.
pub(crate) fn positive(manifest: &Manifest) -> usize {
    let last = manifest.classes.len().saturating_sub(1);
    let named = manifest.positive.as_ref();
    named.and_then(|name| manifest.classes.iter().position(|class| class == name)).unwrap_or(last)
}

/// Reads probabilities, `[n, n_classes]`, or `[n]` with the probability of the second of two classes.
pub(crate) fn read(output: &[f32], n_rows: usize, positive: usize, pass: &mut Pass) {
    let n_classes = output.len() / n_rows;
    if n_classes == 1 {
        for second in output {
            pass.scores.push(if positive == 1 { *second } else { 1.0 - *second });
            pass.labels.push(u32::from(*second >= 0.5));
        }
        return;
    }
    for row in output.chunks_exact(n_classes) {
        pass.scores.push(row[positive]);
        pass.labels.push(most_likely(row));
    }
}

/// The first of the largest probabilities.
fn most_likely(row: &[f32]) -> u32 {
    let mut best = 0;
    for (class, probability) in row.iter().enumerate() {
        if *probability > row[best] {
            best = class;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Kind;

    #[test]
    fn positive_class_gives_the_score_and_the_largest_the_label() {
        let mut pass = Pass::default();
        read(&[0.2, 0.5, 0.3, 0.1, 0.1, 0.8], 2, 0, &mut pass);
        assert_eq!(pass.scores, [0.2, 0.1]);
        assert_eq!(pass.labels, [1, 2]);
    }

    #[test]
    fn one_probability_is_the_second_classes() {
        let mut pass = Pass::default();
        read(&[0.75, 0.25], 2, 1, &mut pass);
        read(&[0.75], 1, 0, &mut pass);
        assert_eq!(pass.scores, [0.75, 0.25, 0.25]);
        assert_eq!(pass.labels, [1, 0, 1]);
    }

    #[test]
    fn last_class_is_positive_unless_named() {
        let manifest = |positive: &str| {
            Manifest::builder(Kind::Classifier, "m").feature("x", None).classes(["a", "b", "c"], positive).build()
        };
        let mut named = manifest("a").unwrap();
        assert_eq!(positive(&named), 0);
        named.positive = None;
        assert_eq!(positive(&named), 2);
    }
}
