//! The known name that was probably meant.

/// The candidate nearest to `word`, if one is near enough to be a slip of the pen.
///
/// Case and the difference between `-` and `_` count for nothing; up to a third of the letters may differ.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = fold(word);
    let limit = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// How many insertions, deletions, substitutions and swaps of neighbours lead from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best =
                (at(&above, j) + usize::from(a != b)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["max_head", "max_headers", "max_body", "max_connections", "via"];

    #[test]
    fn a_slip_finds_its_name() {
        let cases = [
            ("max_haed", "max_head"),
            ("max-body", "max_body"),
            ("MaxBody", "max_body"),
            ("max_header", "max_headers"),
            ("max_conections", "max_connections"),
            ("vai", "via"),
        ];
        for (word, name) in cases {
            assert_eq!(nearest(word, NAMES), Some(name), "{word}");
        }
    }

    #[test]
    fn a_stranger_finds_none() {
        for word in ["", "x", "tls", "completely_else", &"m".repeat(1000)] {
            assert_eq!(nearest(word, NAMES), None, "{word}");
        }
    }
}
