//! Searches files for secrets: names, ids, encodings in all common forms, pictures.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use gatehouse_testkit::synthetic::encoding_bytes;

/// Length of what is looked up; a secret must be at least this long. Eight bytes do not occur by chance.
const WINDOW: usize = 8;

/// What must not be found, and what each is.
#[derive(Debug, Default)]
pub struct Secrets {
    /// The first bytes of every secret, to whole secrets.
    by_start: HashMap<[u8; WINDOW], Vec<(Vec<u8>, String)>>,
    /// First two bytes that any secret has: most positions are passed over with one look.
    starts: HashSet<[u8; 2]>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// In which file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: usize,
    /// What.
    pub what: String,
}

impl Secrets {
    /// Adds bytes; shorter ones than eight are passed over, since they occur by chance.
    pub fn add(&mut self, what: impl Into<String>, secret: &[u8]) {
        if let Some(start) = secret.first_chunk::<WINDOW>() {
            self.starts.insert([secret[0], secret[1]]);
            self.by_start.entry(*start).or_default().push((secret.to_vec(), what.into()));
        }
    }

    /// Adds a text, as it is.
    pub fn add_text(&mut self, what: &str, text: &str) {
        self.add(format!("{what} {text}"), text.as_bytes());
    }

    /// Adds an encoding: as floats of both byte orders, in base64, hexadecimal and decimal.
    pub fn add_encoding(&mut self, what: &str, encoding: &[f32]) {
        let bytes = encoding_bytes(encoding);
        let big: Vec<u8> = encoding.iter().flat_map(|x| x.to_be_bytes()).collect();
        let middle = bytes.len() / 2;
        self.add(format!("{what} as floats"), &bytes[middle..middle + 16]);
        self.add(format!("{what} as big-endian floats"), &big[middle..middle + 16]);
        self.add(format!("{what} in hexadecimal"), hex(&bytes[middle..middle + 8]).as_bytes());
        let text = base64(&bytes);
        self.add(format!("{what} in base64"), &text.as_bytes()[text.len() / 2..text.len() / 2 + 24]);
        // Ten characters of a component are enough, and the same in the customary ways to print it.
        let long = encoding.iter().map(|x| f64::from(x.abs()).to_string()).find(|text| text.len() >= 12);
        if let Some(text) = long {
            self.add(format!("{what} as text"), &text.as_bytes()[..9]);
        }
    }

    /// Adds a picture: a piece of its middle, which no other picture has.
    pub fn add_picture(&mut self, what: &str, bytes: &[u8]) {
        let middle = bytes.len() / 2;
        if let Some(piece) = bytes.get(middle..middle + 24) {
            self.add(what, piece);
        }
    }

    /// Everything of this that occurs in a folder's files or in their names.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn leaks_in(&self, folder: &Path) -> Result<Vec<Leak>> {
        let mut leaks = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                self.look(&entry.path(), entry.file_name().as_encoded_bytes(), &mut leaks);
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    leaks.extend(self.leaks_in_file(&entry.path())?);
                }
            }
        }
        Ok(leaks)
    }

    /// Everything of this that occurs in one file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn leaks_in_file(&self, file: &Path) -> Result<Vec<Leak>> {
        let mut leaks = Vec::new();
        self.look(file, &fs::read(file)?, &mut leaks);
        Ok(leaks)
    }

    fn look(&self, file: &Path, bytes: &[u8], leaks: &mut Vec<Leak>) {
        let starts: Vec<bool> =
            (0..=u16::MAX).map(|pair| self.starts.contains(&pair.to_be_bytes())).collect();
        for (offset, window) in bytes.windows(WINDOW).enumerate() {
            if !starts[usize::from(u16::from_be_bytes([window[0], window[1]]))] {
                continue;
            }
            let Some(start) = window.first_chunk::<WINDOW>() else { continue };
            for (secret, what) in self.by_start.get(start).into_iter().flatten() {
                if bytes[offset..].starts_with(secret) {
                    leaks.push(Leak { file: file.to_owned(), offset, what: what.clone() });
                }
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Plain base64; the alphabet with `-` and `_` differs too rarely to matter in 24 letters.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for sextet in 0..=three.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * sextet) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_testkit::folder::Folder;
    use gatehouse_testkit::jpeg::jpeg;
    use gatehouse_testkit::synthetic::{EventMessage, people};

    #[test]
    fn scan_finds_a_secret_in_every_form() {
        let folder = Folder::new("scan").unwrap();
        let encoding = people(1, 1)[0].sample(&mut fastrand::Rng::with_seed(2));
        let picture = jpeg(3, 160, 120).unwrap();
        let mut secrets = Secrets::default();
        secrets.add_text("name", "Aurelia Quandt");
        secrets.add_encoding("template", &encoding);
        secrets.add_picture("picture", &picture);
        let files: [(&str, Vec<u8>); 6] = [
            ("floats", encoding_bytes(&encoding)),
            ("numbers", EventMessage::face("a", encoding.clone()).payload()),
            ("base64", EventMessage::face("ab", encoding.clone()).payload()),
            ("name", b"...Aurelia Quandt...".to_vec()),
            ("picture", picture),
            ("innocent", b"Aurelia, Quandt and some numbers 0.1234567".to_vec()),
        ];
        for (name, content) in &files {
            std::fs::create_dir_all(folder.path().join("below")).unwrap();
            std::fs::write(folder.path().join("below").join(name), content).unwrap();
        }
        let leaks = secrets.leaks_in(folder.path()).unwrap();
        for (name, _) in &files[..5] {
            assert!(leaks.iter().any(|leak| leak.file.ends_with(name)), "{name} is found");
        }
        assert!(!leaks.iter().any(|leak| leak.file.ends_with("innocent")));
    }
}
