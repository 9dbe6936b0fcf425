//! The content of one transaction, by table, with the gaps in `seq`.

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::rows::to_i64;
use gatehouse_journal::Position;
use gatehouse_model::{Event, EventKey, Identification, KeyId, Person, Timestamp};
use gatehouse_store::clock::Known;
use gatehouse_store::record::{Media, ObjectPlace, Thumbnail};
use gatehouse_store::store::{Change, ErasureStatement, Shared};
use uuid::Uuid;

use crate::rows::copy::Form;
use crate::rows::erase::Erasure;

/// Maximum number of events missing at one place of the journal. A damaged segment of 16 MiB contains about 50,000.
/// More than this is not damage, but a wrong journal or an old database.
const LOST_MAX: u64 = 200_000;

/// The event determines the key of an object, so an existing row is of the same file delivered again. A file marked or
/// deleted centrally stays marked: its object is removed again after the grace period.
pub(super) const INSERT_FILES: &str = "insert into gatehouse.files (id, s3_bucket, s3_key, file_size, mime_type, checksum, \
     uploaded_by, associated_entity_type, associated_entity_id, fault) \
     select f.id, f.bucket, f.key, f.size, f.mime, f.sum, $1, 'event', f.entity, f.fault \
     from unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[]) \
          as f(id, bucket, key, size, mime, sum, entity, fault) \
     on conflict (s3_bucket, s3_key) do update set id = excluded.id, file_size = excluded.file_size, \
         mime_type = excluded.mime_type, checksum = excluded.checksum, uploaded_at = now(), \
         status = case when gatehouse.files.status = 'erased' then 'erased' \
             when gatehouse.files.status in ('marked', 'deleted') then 'marked' else 'active' end, \
         fault = excluded.fault";

/// Changes by table.
pub(crate) struct Batch<'a> {
    pub(crate) events: Vec<Visit<'a>>,
    pub(crate) files: Vec<File<'a>>,
    /// Events of erased people whose files are to be removed, as in `files.associated_entity_id`.
    pub(super) erased_files: Vec<String>,
    pub(super) erasures: Vec<Erasure<'a>>,
    pub(super) statements: Vec<&'a ErasureStatement>,
    /// Only the last state of each person.
    pub(crate) people: Vec<&'a Shared>,
    pub(crate) lost: Vec<Lost>,
    pub(crate) end: Position,
}

/// An event.
pub(crate) struct Visit<'a> {
    pub(crate) position: Position,
    pub(crate) event: &'a Event,
    pub(crate) answer: &'a Identification<Person>,
    pub(crate) time: Known,
}

/// An object.
pub(crate) struct File<'a> {
    id: KeyId,
    /// The file itself, or the picture of a thumbnail.
    media: &'a Media,
    place: &'a ObjectPlace,
    size: u64,
    sha256: &'a [u8; 32],
    content_type: &'a str,
    fault: Option<&'a str>,
}

/// Events missing in the journal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Time of the next known record. The time of the lost events is unknown.
    pub(crate) received_at: Timestamp,
}

impl<'a> Batch<'a> {
    /// Sorts changes after `after` by table.
    pub(crate) fn new(after: Position, changes: &'a [Change]) -> Result<Self, SyncError> {
        let mut batch = Self {
            events: Vec::new(),
            files: Vec::new(),
            erased_files: Vec::new(),
            erasures: Vec::new(),
            statements: Vec::new(),
            people: Vec::new(),
            lost: Vec::new(),
            end: after,
        };
        for change in changes {
            let position = change.position();
            // Number of the last event before this change.
            let (before, received_at) = match change {
                Change::Event { position, event, identification: answer, time } => {
                    batch.events.push(Visit { position: *position, event, answer, time: *time });
                    (position.seq.saturating_sub(1), time.at)
                }
                Change::File { media, place, content_type, fault, .. } => {
                    let (id, size, sha256, fault) = (media.id, media.size, &media.sha256, fault.as_deref());
                    batch.files.push(File { id, media, place, size, sha256, content_type, fault });
                    (position.seq, media.received_at)
                }
                Change::Thumbnails { picture, thumbnails, .. } => {
                    batch.files.extend(thumbnails.iter().map(|thumbnail| File::small(picture, thumbnail)));
                    (position.seq, picture.received_at)
                }
                Change::FilesErased { event, .. } => {
                    let entity = entity(event);
                    if batch.erased_files.last() != Some(&entity) {
                        batch.erased_files.push(entity);
                    }
                    (position.seq, Timestamp::now())
                }
                Change::Erasure { at, .. } => {
                    batch.erasures.extend(Erasure::of(change));
                    (position.seq, *at)
                }
                Change::Statement { statement, .. } => {
                    batch.statements.push(statement);
                    (position.seq, statement.account.done_at)
                }
                Change::Person { person, .. } => {
                    batch.people.retain(|known| known.reference != person.reference);
                    batch.people.push(person);
                    (position.seq, Timestamp::now())
                }
                Change::Nothing { .. } => (position.seq, Timestamp::now()),
            };
            batch.skipped(before, received_at)?;
            batch.end = position;
        }
        Ok(batch)
    }

    fn skipped(&mut self, before: u64, received_at: Timestamp) -> Result<(), SyncError> {
        let from = self.end.seq.saturating_add(1);
        if before < from {
            return Ok(());
        }
        if before - self.end.seq > LOST_MAX {
            return Err(GuardFault::Gap { from, to: before }.into());
        }
        self.lost.push(Lost { from, to: before, received_at });
        Ok(())
    }

    /// Number of rows of `events`.
    pub(crate) fn rows(&self) -> u64 {
        self.events.len() as u64 + self.lost.iter().map(|lost| lost.to - lost.from + 1).sum::<u64>()
    }

    /// The time of every row of `events`.
    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.events.iter().map(|visit| visit.time.at).chain(self.lost.iter().map(|l| l.received_at))
    }

    /// The next smaller form of a single change that Postgres refused.
    pub(crate) fn reduced(&self, form: &Form, error: SyncError) -> Result<Form, SyncError> {
        let SyncError::Refused { code, .. } = &error else { return Err(error) };
        match form {
            // An erasure must never be left out.
            _ if !self.erasures.is_empty()
                || !self.erased_files.is_empty()
                || !self.statements.is_empty() =>
            {
                Err(error)
            }
            Form::Whole => Ok(Form::NoAttributes(code.clone())),
            Form::NoAttributes(_) => Ok(Form::Bare(code.clone())),
            Form::Bare(_) => Err(error),
        }
    }

    /// What was not written completely, as texts without content.
    pub(crate) fn notes(&self, form: &Form) -> Vec<String> {
        let mut notes = Vec::new();
        for lost in &self.lost {
            let (from, to) = (lost.from, lost.to);
            notes.push(format!("events {from} to {to}: lost by damage of the local journal, marked as lost"));
        }
        let (code, left_out) = match form {
            Form::Whole => return notes,
            Form::NoAttributes(code) => (code, "its attributes"),
            Form::Bare(code) => (code, "its answer and attributes"),
        };
        for visit in &self.events {
            let correlation = visit.event.key.correlation();
            let seq = visit.position.seq;
            notes.push(format!(
                "event {seq} ({correlation}): Postgres refused {left_out} ({code}); written without"
            ));
        }
        for person in &self.people {
            let id = uuid::Uuid::from_bytes(person.reference.0);
            notes.push(format!("person {id}: Postgres refused them ({code}); not shared"));
        }
        for File { id, .. } in &self.files {
            notes.push(format!("file {id}: Postgres refused its row ({code}); left out"));
        }
        notes
    }
}

impl<'a> File<'a> {
    fn small(media: &'a Media, thumbnail: &'a Thumbnail) -> Self {
        let Thumbnail { edge, size, sha256, place } = thumbnail;
        let id = Thumbnail::id(&media.id, *edge);
        Self { id, media, place, size: *size, sha256, content_type: "image/jpeg", fault: None }
    }
}

/// Columns of `files`.
#[derive(Default)]
pub(crate) struct Files<'a> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) buckets: Vec<&'a str>,
    pub(crate) keys: Vec<&'a str>,
    pub(crate) sizes: Vec<i64>,
    pub(crate) mimes: Vec<&'a str>,
    pub(crate) sums: Vec<String>,
    pub(crate) entities: Vec<String>,
    pub(crate) faults: Vec<Option<&'a str>>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(files: &[File<'a>]) -> Self {
        let mut columns = Self::default();
        for (at, File { id, media, place, size, sha256, content_type, fault }) in files.iter().enumerate() {
            // One statement must not change a row twice: of two deliveries to one key the later one counts.
            if files[at + 1..].iter().any(|later| later.place == *place) {
                continue;
            }
            columns.ids.push(Uuid::from_bytes(*id.as_bytes()));
            columns.buckets.push(&place.bucket);
            columns.keys.push(&place.key);
            columns.sizes.push(to_i64(*size));
            columns.mimes.push(content_type);
            columns.sums.push(format!("sha256:{}", hex::encode(sha256)));
            columns.faults.push(*fault);
            columns.entities.push(entity(&media.event));
        }
        columns
    }
}

/// The event of a file, as in `files.associated_entity_id`.
fn entity(event: &EventKey) -> String {
    format!("{}/{}", event.camera, event.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(lsn: u64, seq: u64) -> Change {
        Change::Nothing { position: Position { lsn, seq } }
    }

    #[test]
    fn a_jump_of_the_number_is_a_loss_and_a_wide_one_a_refusal() {
        let changes = [nothing(5, 3), nothing(9, 6)];
        let batch = Batch::new(Position { lsn: 4, seq: 3 }, &changes).unwrap();
        assert_eq!(batch.lost.len(), 1);
        assert_eq!((batch.lost[0].from, batch.lost[0].to), (4, 6));
        assert_eq!((batch.rows(), batch.end), (3, Position { lsn: 9, seq: 6 }));
        assert_eq!(batch.notes(&Form::Whole).len(), 1);
        let wide = [nothing(9_000_000, 8_000_000)];
        let refused = Batch::new(Position { lsn: 4, seq: 3 }, &wide).err().unwrap();
        assert!(matches!(refused, SyncError::Guard(GuardFault::Gap { from: 4, .. })));
    }
}
