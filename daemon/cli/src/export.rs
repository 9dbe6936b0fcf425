//! Folder with all data of a person: `gatehouse person export` and `gatehouse central person export`.
//!
//! Order: data, pictures, README.html, the signature, then MANIFEST. A folder without MANIFEST is incomplete.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use gatehouse_admin as admin;
use gatehouse_central::objects::{Limits, Objects};
use gatehouse_config::Config;
use gatehouse_model::{Sha256, Timestamp, sha256};
use gatehouse_receipt::{EXPORT_BYTES_MAX, Export, Place, Signer, TrustedKeys};
use serde::Serialize;
use serde_json::{Value, json};

use super::media::HashingWriter;
use super::session::Session;
use super::{format, table::printable};
use gatehouse_control::answers::{ExportedVisit, PersonExportPage};
use gatehouse_control::types::{Fault, Request};

/// Name of the list of all files, in the format of sha256sum.
const MANIFEST: &str = "MANIFEST";
/// Name of the signed note with the hash of that list.
const SIGNATURE: &str = "MANIFEST.note";
/// Longest list of files that is verified, in bytes: a line for each of 100,000 files.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Folder of the pictures.
const PICTURES: &str = "pictures";
/// Longest ending of a file name that is kept.
const ENDING_BYTES_MAX: usize = 5;

/// The result.
#[derive(Debug, Serialize)]
struct Exported<'a> {
    id: &'a str,
    folder: &'a Path,
    visits: usize,
    /// Pictures and clips in the folder.
    files: usize,
    /// Pictures and clips that are not stored there any more.
    files_missing: usize,
}

impl Exported<'_> {
    fn text(&self) -> String {
        let visits = format::count(self.visits as u64, "visit", "visits");
        let files = format::count(self.files as u64, "file", "files");
        let mut text =
            format!("{} is exported into {}: {visits}, {files}\n", printable(self.id), self.folder.display());
        if self.files_missing > 0 {
            let missing = format::count(self.files_missing as u64, "file is", "files are");
            let _ = writeln!(text, "{missing} not stored here any more");
        }
        text.push_str("pictures may show other people: check them before you hand the folder over\n");
        text
    }
}

/// A folder that is being written.
struct Folder<'a> {
    path: &'a Path,
    manifest: String,
}

impl<'a> Folder<'a> {
    /// Creates it. An existing folder must be empty.
    fn new(path: &'a Path) -> Result<Self, Fault> {
        let fault = |error| folder_fault(path, &error);
        if !check_free(path)? {
            DirBuilder::new().mode(0o700).create(path).map_err(fault)?;
        }
        DirBuilder::new().mode(0o700).create(path.join(PICTURES)).map_err(fault)?;
        Ok(Self { path, manifest: String::new() })
    }

    fn create(&self, name: &str) -> Result<BufWriter<fs::File>, Fault> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(name));
        file.map(BufWriter::new).map_err(|error| Fault::refused(format!("cannot write {name}: {error}")))
    }

    fn list(&mut self, name: &str, sha256: &str) {
        let _ = writeln!(self.manifest, "{sha256}  {name}");
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Fault> {
        let mut file = self.create(name)?;
        let written = file.write_all(content).and_then(|()| file.flush());
        written.map_err(|error| Fault::refused(format!("cannot write {name}: {error}")))?;
        let mut hash = Sha256::new();
        hash.update(content);
        self.list(name, &hex::encode(hash.finish()));
        Ok(())
    }

    fn add_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        let mut text = serde_json::to_vec_pretty(value).map_err(Fault::refused)?;
        text.push(b'\n');
        self.add(name, &text)
    }

    /// Removes a file that could not be completed.
    fn discard(&self, name: &str) {
        // The fault is reported, and without MANIFEST the folder is incomplete anyway.
        let _ = fs::remove_file(self.path.join(name));
    }

    /// Writes the list of files, and its signature if there is one.
    fn finish(self, sign: impl FnOnce([u8; 32]) -> Result<Option<String>, Fault>) -> Result<(), Fault> {
        let signature = sign(sha256(self.manifest.as_bytes()))?;
        if let Some(note) = signature {
            self.write(SIGNATURE, &note)?;
        }
        self.write(MANIFEST, &self.manifest)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let mut file = self.create(name)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.flush());
        written.map_err(|error| Fault::refused(format!("cannot write {name}: {error}")))
    }
}

/// Whether the folder exists. It must be empty then.
fn check_free(path: &Path) -> Result<bool, Fault> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(true),
        Ok(false) => Err(Fault::refused(format!("{} exists and is not empty", path.display()))
            .advise("name a new folder, so that no other data gets into the export")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(folder_fault(path, &error)),
    }
}

fn folder_fault(path: &Path, error: &io::Error) -> Fault {
    Fault::refused(format!("{}: {error}", path.display()))
        .advise("name a new folder in a folder that you can write to")
}

/// The name of a picture in the folder. Names given by a camera are not used.
fn picture_name(visit: usize, nth: usize, original: &str) -> String {
    let ending = Path::new(original).extension().and_then(|ending| ending.to_str()).unwrap_or("");
    let fits = ending.len() <= ENDING_BYTES_MAX && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let ending = if fits && !ending.is_empty() { format!(".{ending}") } else { String::new() };
    format!("{PICTURES}/{visit:06}-{nth}{ending}")
}

/// Exports from the daemon.
pub(super) fn device(id: &str, to: &Path, templates: bool, session: &mut Session) -> Result<(), Fault> {
    let ask = |before| {
        let request = Request::PersonExport { id: id.to_owned(), before, templates };
        session.ask::<PersonExportPage>(&request)
    };
    check_free(to)?;
    let mut page = ask(None)?;
    let mut folder = Folder::new(to)?;
    let (mut visits, mut readme) = (Vec::new(), Readme::new(&page.person.name));
    loop {
        visits.append(&mut page.visits);
        let Some(next) = page.next else { break };
        let following = ask(Some(next))?;
        page = PersonExportPage { templates: page.templates, ..following };
    }
    // Oldest first, as a person would read them.
    visits.reverse();
    let mut listed = Vec::with_capacity(visits.len());
    for (nth, visit) in visits.iter().enumerate() {
        listed.push(device_visit(&mut folder, &mut readme, session, NumberedVisit { nth: nth + 1, visit })?);
    }
    folder.add_json("person.json", &page.person)?;
    folder.add_json("visits.json", &listed)?;
    folder.add_json("templates.json", &page.templates)?;
    readme.stored_at = format!("the appliance {}", page.device);
    let exported = Exported {
        id,
        folder: to,
        visits: visits.len(),
        files: readme.files,
        files_missing: readme.files_missing,
    };
    folder.add("README.html", readme.html().as_bytes())?;
    folder.finish(|manifest| session.ask(&Request::PersonExportSign { manifest: hex::encode(manifest) }))?;
    session.show(&exported, Exported::text)
}

struct NumberedVisit<'a> {
    nth: usize,
    visit: &'a ExportedVisit,
}

/// Fetches the pictures of a visit. Returns the visit with the names of its files in the folder.
fn device_visit(
    folder: &mut Folder<'_>,
    readme: &mut Readme,
    session: &Session,
    NumberedVisit { nth, visit }: NumberedVisit<'_>,
) -> Result<Value, Fault> {
    let mut names = Vec::new();
    for (at, file) in visit.files.iter().enumerate() {
        if !file.on_disk {
            readme.files_missing += 1;
            continue;
        }
        let name = picture_name(nth, at + 1, &file.name);
        let mut out = HashingWriter::new(folder.create(&name)?);
        let fetched = session
            .connect()
            .and_then(|mut client| client.media(&file.id, &mut out))
            .and_then(|header| out.finish(&header));
        if let Err(fault) = fetched {
            folder.discard(&name);
            return Err(fault);
        }
        folder.list(&name, &file.sha256);
        readme.files += 1;
        names.push(name);
    }
    readme.visit(&visit.received_at, &visit.camera, &names);
    let mut value = serde_json::to_value(visit).map_err(Fault::refused)?;
    value["files_in_this_folder"] = json!(names);
    Ok(value)
}

/// Exports from database and bucket.
pub(super) async fn central(
    config: &Config,
    id: &str,
    to: &Path,
    signer: Option<&Signer>,
    session: &mut Session,
) -> Result<(), Fault> {
    let objects = match config.central.objects {
        Some(_) => Some(Objects::open(config, Limits::default()).map_err(Fault::refused)?),
        None => None,
    };
    if let Some(objects) = &objects {
        objects.guard().await.map_err(Fault::refused)?;
    }
    // Before the line of the audit log: a refused export is none.
    check_free(to)?;
    let person = admin::export(config, id).await.map_err(Fault::refused)?;
    let mut folder = Folder::new(to)?;
    let mut readme = Readme::new(person.records["persons"][0]["person"]["name"].as_str().unwrap_or(id));
    readme.stored_at = "the central services of all appliances".to_owned();
    let mut listed = Vec::with_capacity(person.visits.len());
    for (nth, visit) in person.visits.iter().enumerate() {
        let mut names = Vec::new();
        for (at, key) in visit.files.iter().enumerate() {
            let name = picture_name(nth + 1, at + 1, key);
            match fetch(objects.as_ref(), &mut folder, key, &name).await? {
                true => names.push(name),
                false => readme.files_missing += 1,
            }
        }
        readme.files += names.len();
        readme.visit(&visit.received_at, &visit.camera, &names);
        let mut value = serde_json::to_value(visit).map_err(Fault::refused)?;
        value["files_in_this_folder"] = json!(names);
        listed.push(value);
    }
    folder.add_json("person.json", &person.records)?;
    folder.add_json("visits.json", &listed)?;
    let exported = Exported {
        id,
        folder: to,
        visits: listed.len(),
        files: readme.files,
        files_missing: readme.files_missing,
    };
    folder.add("README.html", readme.html().as_bytes())?;
    folder.finish(|manifest| sign_centrally(config, signer, manifest))?;
    session.show(&exported, Exported::text)
}

fn sign_centrally(
    config: &Config,
    signer: Option<&Signer>,
    manifest: [u8; 32],
) -> Result<Option<String>, Fault> {
    let Some(signer) = signer else { return Ok(None) };
    let place = Place::postgres(config.device.environment.as_str()).map_err(Fault::refused)?;
    let export = Export { place, issued: Timestamp::now(), manifest };
    export.sign(signer).map(|note| Some(note.to_string())).map_err(Fault::refused)
}

/// A verified export.
#[derive(Debug, Serialize)]
pub(super) struct VerifiedExport {
    place: String,
    issued: String,
    files: usize,
}

impl VerifiedExport {
    pub(super) fn text(&self) -> String {
        let files = format::count(self.files as u64, "file is", "files are");
        format!("authentic: made by {} at {}; {files} unchanged", self.place, format::time(&self.issued))
    }
}

/// Verifies the signature of a folder, and the hash of each of its files.
///
/// # Errors
/// Why it is not authentic.
pub(super) fn verify(folder: &Path, keys: &TrustedKeys) -> Result<VerifiedExport, String> {
    let note = read_text(&folder.join(SIGNATURE), EXPORT_BYTES_MAX as u64)?;
    let Export { place, issued, manifest } =
        Export::verify(&note, keys).map_err(|error| format!("{SIGNATURE}: {error}"))?;
    let list = read_text(&folder.join(MANIFEST), MANIFEST_BYTES_MAX)?;
    if sha256(list.as_bytes()) != manifest {
        return Err(format!("{MANIFEST} is not the list that was signed"));
    }
    let mut files = 0;
    for line in list.lines() {
        let (digest, name) = line.split_once("  ").ok_or_else(|| format!("{MANIFEST} has a bad line"))?;
        let found = file_digest(&folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if hex::encode(found) != digest {
            return Err(format!("{name} was changed"));
        }
        files += 1;
    }
    Ok(VerifiedExport { place: place.to_string(), issued: issued.to_string(), files })
}

fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > bytes_max => Err(format!("{} is too large", path.display())),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn file_digest(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hash) = (fs::File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Downloads an object. False if there is none.
async fn fetch(
    objects: Option<&Objects>,
    folder: &mut Folder<'_>,
    key: &str,
    name: &str,
) -> Result<bool, Fault> {
    let Some(objects) = objects else { return Ok(false) };
    let mut file = folder.create(name)?;
    let content = objects.read_into(key, &mut file).await.map_err(Fault::refused)?;
    file.flush().map_err(|error| Fault::refused(format!("cannot write {name}: {error}")))?;
    let Some(content) = content else {
        folder.discard(name);
        return Ok(false);
    };
    folder.list(name, &content.sha256);
    Ok(true)
}

/// The page for the person. It needs nothing outside of the folder.
struct Readme {
    name: String,
    stored_at: String,
    visits: usize,
    files: usize,
    files_missing: usize,
    rows: String,
}

impl Readme {
    fn new(name: &str) -> Self {
        let (stored_at, rows) = (String::new(), String::new());
        Self { name: name.to_owned(), stored_at, visits: 0, files: 0, files_missing: 0, rows }
    }

    fn visit(&mut self, at: &str, camera: &str, pictures: &[String]) {
        self.visits += 1;
        let links: Vec<String> =
            pictures.iter().map(|name| format!("<a href=\"{name}\">{name}</a>")).collect();
        let _ = writeln!(
            self.rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(at),
            escaped(camera),
            links.join("<br>")
        );
    }

    fn html(&self) -> String {
        let Self { name, stored_at, visits, files, files_missing, rows } = self;
        let (name, stored_at) = (escaped(name), escaped(stored_at));
        format!(
            "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<title>Your data</title>
<style>body {{ font-family: sans-serif; max-width: 50em; margin: 2em auto; }} td, th {{ text-align: left; padding: 0 1em 0.3em 0; }}</style>
</head>
<body>
<h1>Your data: {name}</h1>
<p>This folder contains the data about you that is stored at {stored_at}. It was made by Gatehouse, which recognizes
enrolled people at door cameras.</p>
<h2>What is stored</h2>
<ul>
<li>Your name, the id that the operator chose, the time of your enrollment, and the reference and the end of your consent, if they
were recorded: <a href=\"person.json\">person.json</a></li>
<li>Numbers that describe your face, so that a camera can recognize you. They are stored encrypted. How many there are, and from
which model, is in templates.json or person.json.</li>
<li>The visits in which you were recognized, with time and camera: {visits} (<a href=\"visits.json\">visits.json</a>)</li>
<li>The pictures and clips of these visits: {files} in this folder, {files_missing} not stored there any more.</li>
</ul>
<p>Visits in which you were not recognized cannot be found. Of a visit together with other people, only your part is listed.
A picture may nevertheless show other people: respect their privacy, too.</p>
<h2>Your visits</h2>
<table>
<tr><th>Time (UTC)</th><th>Camera</th><th>Pictures</th></tr>
{rows}</table>
<h2>Your rights</h2>
<p>You can ask the operator to correct your data, to stop its use, or to erase it, and you can withdraw your consent. The operator
also answers for what purpose the data is used, who receives it, and how long it is kept. You can complain to the data
protection authority of your country.</p>
<h2>How to check this folder</h2>
<p>The file MANIFEST lists the SHA-256 of each file. The command <code>sha256sum -c MANIFEST</code> compares them. The files that
end in .json can be read by other programs.</p>
</body>
</html>
"
        )
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_names_and_needs_nothing_from_elsewhere() {
        let mut readme = Readme::new("Anna <script src=//x> & \"B\"");
        readme.visit("2026-11-20T00:00:00Z", "front", &[picture_name(1, 1, "../a b.jpg")]);
        let html = readme.html();
        assert!(html.contains("Anna &lt;script src=//x&gt; &amp; &quot;B&quot;"), "{html}");
        for outside in ["<script", "http:", "https:", "url(", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("<a href=\"pictures/000001-1.jpg\">"), "{html}");
    }

    #[test]
    fn names_of_pictures_are_made_here() {
        for (original, name) in [
            ("face.jpg", "pictures/000007-2.jpg"),
            ("a/b/../c.mp4", "pictures/000007-2.mp4"),
            ("x.<b>", "pictures/000007-2"),
            ("none", "pictures/000007-2"),
            ("long.endings", "pictures/000007-2"),
        ] {
            assert_eq!(picture_name(7, 2, original), name);
        }
    }

    #[test]
    fn a_folder_with_content_is_refused_and_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("export");
        fs::create_dir(&path).unwrap();
        let mut folder = Folder::new(&path).unwrap();
        folder.add("a.txt", b"abc").unwrap();
        folder.finish(|_| Ok(None)).unwrap();
        let listed = fs::read_to_string(path.join(MANIFEST)).unwrap();
        assert_eq!(listed, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a.txt\n");
        let refused = Folder::new(&path).err().unwrap();
        assert!(refused.message.contains("not empty"), "{refused}");
        assert_eq!(fs::read_to_string(path.join("a.txt")).unwrap(), "abc");
    }
}
