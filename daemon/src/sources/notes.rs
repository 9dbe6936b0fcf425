//! Notes on an accepted event: what was changed, dropped or not understood, for the integrator of the camera.
//!
//! A note names fields and never repeats a value.

/// Most notes of one event: there are fewer kinds of notes, and an answer stays small.
pub(crate) const NOTES_MAX: usize = 8;

/// Longest note, in characters: one sentence with a few field names.
pub(crate) const NOTE_CHARS_MAX: usize = 300;

/// Collects notes under both bounds.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    texts: Vec<String>,
    left_out: usize,
}

impl Notes {
    /// Adds a note; above the bound it is only counted.
    pub(crate) fn add(&mut self, text: &str) {
        if self.texts.len() < NOTES_MAX - 1 {
            self.texts.push(text.chars().take(NOTE_CHARS_MAX).collect());
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a note if there is one.
    pub(crate) fn extend(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.add(text);
        }
    }

    /// The notes. The last one contains the number of those left out.
    pub(crate) fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.texts.push(format!("{} more notes are left out", self.left_out));
        }
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_few_and_short() {
        let mut notes = Notes::default();
        for _ in 0..100 {
            notes.add(&"ä".repeat(10_000));
        }
        let texts = notes.finish();
        assert_eq!(texts.len(), NOTES_MAX);
        assert!(texts.iter().all(|text| text.chars().count() <= NOTE_CHARS_MAX));
        assert_eq!(texts[NOTES_MAX - 1], "93 more notes are left out");
        assert!(Notes::default().finish().is_empty());
    }
}
