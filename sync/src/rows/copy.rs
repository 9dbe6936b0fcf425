//! Events as binary COPY: one buffer per batch, and no conversion by the server except the check of the JSON. COPY
//! writes to a temporary table, and one INSERT moves the rows.

use bytes::{BufMut, Bytes, BytesMut};
use gatehouse_central::rows::{clamped, to_i64};
use gatehouse_model::Timestamp;

use crate::rows::batch::Visit;

use crate::rows::json;

/// The temporary table, created once per session. Postgres refuses COPY into a table with row-level security for the
/// roles it applies to.
pub(crate) const STAGING: &str = "create temp table if not exists gatehouse_staging \
     (like gatehouse.events including defaults) on commit delete rows";
/// The statement. Its columns are those of [`Rows::push`] in the same order.
pub(crate) const STATEMENT: &str = "copy pg_temp.gatehouse_staging (device_id, seq, event_id, camera, kind, occurred_at, \
     received_at, clock_uncertainty_ms, identification, attributes) from stdin (format binary)";
/// Moves the rows. An existing row fails the batch, because the cursor must prevent duplicates.
pub(crate) const INSERT: &str = "insert into gatehouse.events (device_id, seq, event_id, camera, kind, occurred_at, \
     received_at, clock_uncertainty_ms, identification, attributes) select device_id, seq, event_id, camera, kind, \
     occurred_at, received_at, clock_uncertainty_ms, identification, attributes from pg_temp.gatehouse_staging";
const COLUMNS: i16 = 10;

/// Signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Prefix of the text of a `jsonb` value.
const JSONB_VERSION: u8 = 1;
/// Bytes after which a piece of the buffer is sent: large enough to be cheap, small enough to overlap with the next.
pub(crate) const PIECE: usize = 64 * 1024;
/// Microseconds from 1970-01-01 to 2000-01-01, the epoch of Postgres.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// How much of an event is written. Less if Postgres refuses more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// The whole event.
    Whole,
    /// The SQLSTATE in place of the attributes.
    NoAttributes(String),
    /// Only device, number, camera, id and time.
    Bare(String),
}

/// Rows in the format of binary COPY.
pub(crate) struct Rows {
    buffer: BytesMut,
}

impl Rows {
    pub(crate) fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(2 * PIECE);
        buffer.put_slice(HEADER);
        Self { buffer }
    }

    /// Adds one event.
    pub(crate) fn push(&mut self, device: &str, visit: &Visit<'_>, form: &Form) {
        let Visit { position, event, answer, time } = visit;
        let out = &mut self.buffer;
        out.put_i16(COLUMNS);
        text(out, device);
        field(out, &to_i64(position.seq).to_be_bytes());
        text(out, event.key.id.as_str());
        text(out, event.key.camera.as_str());
        match form {
            Form::Bare(_) => text(out, "set_aside"),
            _ if event.kind.contains('\0') => text(out, &event.kind.replace('\0', "\u{fffd}")),
            _ => text(out, &event.kind),
        }
        match event.occurred_at {
            Some(at) if *form == Form::Whole => field(out, &micros(at).to_be_bytes()),
            _ => out.put_i32(-1),
        }
        field(out, &micros(time.at).to_be_bytes());
        match time.uncertainty_ms {
            Some(off) => field(out, &to_i64(off).to_be_bytes()),
            None => out.put_i32(-1),
        }
        match form {
            Form::Bare(code) => jsonb(out, &json::bare_identification(&event.key, code)),
            _ => jsonb(out, &json::identification(&event.key, answer)),
        }
        match form {
            Form::Whole => jsonb(out, &json::storable(&event.attributes)),
            Form::NoAttributes(code) | Form::Bare(code) => jsonb(out, &json::bare_attributes(code)),
        }
    }

    /// A piece to send, if one is full.
    pub(crate) fn piece(&mut self) -> Option<Bytes> {
        (self.buffer.len() >= PIECE).then(|| self.buffer.split().freeze())
    }

    /// The rest, with the end marker.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }
}

fn field(out: &mut BytesMut, bytes: &[u8]) {
    // No field comes near 2 GiB, because payloads are bounded on receipt. The server refuses an invalid length.
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

fn text(out: &mut BytesMut, value: &str) {
    field(out, value.as_bytes());
}

fn jsonb(out: &mut BytesMut, value: &str) {
    out.put_i32(i32::try_from(value.len() + 1).unwrap_or(i32::MAX));
    out.put_u8(JSONB_VERSION);
    out.put_slice(value.as_bytes());
}

fn micros(at: Timestamp) -> i64 {
    clamped(at).0 - EPOCH_MICROS
}
