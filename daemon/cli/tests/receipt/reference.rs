//! The reference implementation of signed notes opens ours, and its notes verify here.

use gatehouse_receipt::{Note, TrustedKeys};
use gatehouse_testkit::note::ReferenceNotes;
use gatehouse_testkit::require::Need;

use crate::deployment::{Deployment, signer, statement};

#[test]
fn the_reference_implementation_opens_our_notes() {
    let reference = ReferenceNotes::find();
    if Need::Note.is_missing(reference.is_some()) {
        return;
    }
    let reference = reference.unwrap();
    let deployment = Deployment::new();
    let notes = deployment.notes();
    let cover = deployment.cover(&notes).sign(&deployment.central).unwrap();
    let keys: Vec<String> = deployment.keys().keys().iter().map(ToString::to_string).collect();
    for note in notes.iter().chain([&cover]) {
        assert_eq!(reference.open(&keys, &note.to_string()).unwrap(), note.text());
        let changed = note.to_string().replacen("order 0", "order 1", 1);
        assert!(reference.open(&keys, &changed).is_err());
    }
    let others = [signer("prod/house-1", 77).verifier_key().to_string()];
    assert!(reference.open(&others, &notes[0].to_string()).is_err());
}

#[test]
fn notes_of_the_reference_implementation_verify_here() {
    let reference = ReferenceNotes::find();
    if Need::Note.is_missing(reference.is_some()) {
        return;
    }
    let reference = reference.unwrap();
    let text = statement(Deployment::places().remove(0)).to_text().unwrap();
    for text in [text.as_str(), "one line\n", "two\n\nparts with ö\n"] {
        let signed = reference.sign("prod/house-1", text).unwrap();
        let keys = TrustedKeys::parse(&signed.key).unwrap();
        assert_eq!(keys.keys()[0].to_string(), signed.key);
        let note = Note::parse(&signed.note).unwrap();
        assert_eq!(note.text(), text);
        assert_eq!(note.to_string(), signed.note);
        assert_eq!(note.signers(&keys).unwrap()[0].as_str(), "prod/house-1");
    }
}
