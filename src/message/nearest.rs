//! Finds the word that was meant by one with a slip in it.

/// The word that is fewest slips away from the text: a letter too many, missing, another, or two in the wrong order. `None` if
/// all are further away than a third of its letters.
pub fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any word: it would only cost time.
    let text: Vec<char> = text.chars().take(64).collect();
    let near = words.into_iter().map(|word| (slips(&text, &word.chars().collect::<Vec<_>>()), word));
    near.filter(|(slips, word)| slips * 3 <= word.len().max(3)).min_by_key(|(slips, _)| *slips).map(|(_, word)| word)
}

/// The distance of Damerau and Levenshtein, in which no letter is changed twice.
fn slips(from: &[char], to: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let other = rows[i][j] + usize::from(a != b);
            let mut least = other.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
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
