//! Finds the word that was meant by one with a slip in it.

use strsim::osa_distance;

/// The word that is fewest slips away from the text: a letter too many, missing, another, or two in the wrong order. `None` if
/// all are further away than a third of its letters.
pub fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any word: it would only cost time.
    let text: String = text.chars().take(64).collect();
    let near = words.into_iter().map(|word| (osa_distance(&text, word), word));
    near.filter(|(slips, word)| slips * 3 <= word.len().max(3)).min_by_key(|(slips, _)| *slips).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_forgiven_and_another_word_is_not() {
        let words = ["name", "paused", "RED_TENTACLE_TIMEOUT", "RED_TENTACLE_LINGER"];
        let rows = [
            ("name", Some("name")),
            ("nam", Some("name")),
            ("nmae", Some("name")),
            ("pasued", Some("paused")),
            ("pause", Some("paused")),
            ("RED_TENTACLE_TIMOUT", Some("RED_TENTACLE_TIMEOUT")),
            ("RED_TENTACLE_TIME_OUT", Some("RED_TENTACLE_TIMEOUT")),
            ("weight", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(nearest(text, words), expected, "{text}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), words), None);
    }
}
