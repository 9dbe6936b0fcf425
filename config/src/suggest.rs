//! The key that was probably meant.

/// Largest share of a key that may be wrong for a suggestion, as a divisor of its length: one wrong letter in
/// three is still a slip, more is another word.
const SLIP_SHARE: usize = 3;

/// The known key nearest to `key`, if one is near. In a known key `<name>` stands for any camera.
pub(crate) fn nearest(key: &str, known: &[String]) -> Option<String> {
    let camera =
        key.strip_prefix("gallery.cameras.").and_then(|rest| rest.split('.').next()).unwrap_or("<name>");
    let candidates = known.iter().map(|known| known.replace("<name>", camera));
    // The same last part in another section is the commonest slip after a misspelling.
    let last = key.rsplit('.').next().unwrap_or(key);
    candidates
        .map(|candidate| {
            let misspelt = distance(key, &candidate);
            let same_name = candidate.rsplit('.').next() == Some(last);
            let longer = candidate.starts_with(&format!("{key}_"));
            let rank = if same_name || longer { misspelt.min(key.len() / SLIP_SHARE) } else { misspelt };
            (rank, misspelt, candidate)
        })
        .min()
        .filter(|(rank, _, _)| *rank <= (key.len() / SLIP_SHARE).max(1))
        .map(|(_, _, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (before + usize::from(ca != *cb)).min(above + 1).min(row[j] + 1);
            before = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_key_and_other_words_find_none() {
        let known: Vec<String> = [
            "mqtt.url",
            "mqtt.password_file",
            "central.rows.url",
            "gallery.threshold",
            "gallery.cameras.<name>.threshold",
        ]
        .map(str::to_owned)
        .to_vec();
        let near = |key| nearest(key, &known);
        assert_eq!(near("mqtt.ulr").as_deref(), Some("mqtt.url"));
        assert_eq!(near("mqtt.password").as_deref(), Some("mqtt.password_file"));
        assert_eq!(near("galery.treshold").as_deref(), Some("gallery.threshold"));
        assert_eq!(near("gallery.cameras.door.treshold").as_deref(), Some("gallery.cameras.door.threshold"));
        assert_eq!(near("http.listen"), None);
    }
}
