//! What was probably meant.

/// How alike two words must be, from 0 to 1: one slip in four letters passes, two in five do not.
const ALIKE: f64 = 0.65;

/// The known word that is most like `word`, if any is.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(word);
    known
        .into_iter()
        .map(|candidate| (likeness(&plain, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

fn likeness(plain_word: &str, candidate: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(plain_word, &plain(candidate))
}

/// Without case and separators, so that `tasks_max` is `tasks.max`.
fn plain(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_that_was_meant() {
        let known = ["topic", "type", "tasks.max", "errors.tolerance"];
        assert_eq!(nearest("topicc", known), Some("topic"));
        assert_eq!(nearest("tasks_max", known), Some("tasks.max"));
        assert_eq!(nearest("errorsTolerance", known), Some("errors.tolerance"));
        assert_eq!(nearest("compression", known), None);
    }
}
