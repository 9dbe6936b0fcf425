//! A file of the archive: Parquet with zstd, on the local disk until it is uploaded.
//!
//! The file has no name, so that an interrupted run leaves none. Memory holds one row group while writing, one chunk
//! while reading.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use chrono::NaiveDate;
use gatehouse_model::Sha256;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{RowGroupMetaData, SortingColumn};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::columns::{Columns, Maybe, SCHEMA, WITHOUT_DICTIONARY};
use super::day_of;

/// Rows of a row group: enough for compression, few enough to be read alone.
const GROUP_ROWS: usize = 65_536;
/// Uncompressed bytes of a row group: the memory used while writing.
const GROUP_BYTES: usize = 32 << 20;
/// Compression level. Higher levels gain little for their cost.
const ZSTD_LEVEL: i32 = 3;
/// Values of the column `seq` read at once.
const READ_ROWS: usize = 4096;
const CHUNK: usize = 64 * 1024;

/// A file being written.
pub(super) struct Writing {
    file: SerializedFileWriter<File>,
    columns: Columns,
    lost: u64,
}

/// A file that was written.
pub(super) struct Written {
    pub(super) file: File,
    pub(super) size: u64,
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
    /// Rows of kind `lost`.
    pub(super) lost: u64,
}

/// The content of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// First and last number. All between are present once.
    pub(super) range: (i64, i64),
    /// The days of the first and the last `received_at`, by the statistics.
    pub(super) days: (NaiveDate, NaiveDate),
}

impl Writing {
    pub(super) fn new() -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let file = SerializedFileWriter::new(tempfile::tempfile()?, schema, properties()?)?;
        Ok(Self { file, columns: Columns::default(), lost: 0 })
    }

    /// The buffer for the next rows.
    pub(super) fn columns(&mut self) -> &mut Columns {
        &mut self.columns
    }

    /// Whether the buffer is large enough for a row group.
    pub(super) fn is_full(&self) -> bool {
        self.columns.rows() >= GROUP_ROWS || self.columns.bytes >= GROUP_BYTES
    }

    /// Writes a row group.
    pub(super) fn flush(&mut self) -> Result<()> {
        let columns = std::mem::take(&mut self.columns);
        self.lost += columns.lost;
        let mut group = self.file.next_row_group()?;
        write(&mut group, columns)?;
        group.close().map(drop)
    }

    /// Writes the rest and the footer.
    pub(super) fn finish(mut self) -> Result<Written> {
        if self.columns.rows() > 0 {
            self.flush()?;
        }
        let mut file = self.file.into_inner()?;
        let (size, sha256) = digest(&mut file)?;
        Ok(Written { file, size, sha256, lost: self.lost })
    }
}

fn properties() -> Result<WriterPropertiesPtr> {
    let by_seq = SortingColumn { column_idx: 0, descending: false, nulls_first: false };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_created_by(concat!("gatehouse ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_sorting_columns(Some(vec![by_seq]));
    for name in WITHOUT_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    Ok(Arc::new(properties.build()))
}

/// Writes one row group, its columns in the order of the schema.
fn write(group: &mut SerializedRowGroupWriter<'_, File>, columns: Columns) -> Result<()> {
    write_column::<Int64Type>(group, &columns.seq, None)?;
    write_column::<Int64Type>(group, &columns.received_at, None)?;
    write_optional::<Int64Type>(group, &columns.occurred_at)?;
    write_optional::<Int64Type>(group, &columns.clock_uncertainty_ms)?;
    write_strings(group, columns.event_id)?;
    write_strings(group, columns.camera)?;
    write_strings(group, columns.kind)?;
    write_column::<Int32Type>(group, &columns.faces, None)?;
    write_column::<Int32Type>(group, &columns.matches, None)?;
    write_column::<Int32Type>(group, &columns.strangers, None)?;
    write_optional_strings(group, columns.outcome)?;
    write_optional::<DoubleType>(group, &columns.distance)?;
    write_optional::<DoubleType>(group, &columns.threshold)?;
    write_optional::<DoubleType>(group, &columns.margin)?;
    write_optional::<DoubleType>(group, &columns.quality)?;
    write_optional::<Int64Type>(group, &columns.gallery_size)?;
    write_optional_strings(group, columns.model)?;
    write_optional_strings(group, columns.engine)?;
    write_optional::<Int64Type>(group, &columns.micros)?;
    write_strings(group, columns.answers)?;
    write_strings(group, columns.attributes)
}

fn write_column<D: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[D::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let missing = || ParquetError::General("the schema has fewer columns than a row".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<D>().write_batch(values, levels, None)?;
    column.close()
}

fn write_optional<D: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    column: &Maybe<D::T>,
) -> Result<()> {
    write_column::<D>(group, &column.values, Some(&column.levels))
}

fn write_strings(group: &mut SerializedRowGroupWriter<'_, File>, values: Vec<String>) -> Result<()> {
    let values: Vec<ByteArray> = values.into_iter().map(|value| value.into_bytes().into()).collect();
    write_column::<ByteArrayType>(group, &values, None)
}

fn write_optional_strings(
    group: &mut SerializedRowGroupWriter<'_, File>,
    column: Maybe<String>,
) -> Result<()> {
    let values: Vec<ByteArray> = column.values.into_iter().map(|value| value.into_bytes().into()).collect();
    write_column::<ByteArrayType>(group, &values, Some(&column.levels))
}

/// Size and SHA-256 of a file. Afterwards it is positioned at its start.
fn digest(file: &mut File) -> Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut size, mut hash, mut chunk) = (0, Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        size += read as u64;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok((size, hex::encode(hash.finish())))
}

/// Reads the numbers of all events of a file, and its statistics.
///
/// # Errors
/// If it is no valid file, or a number is missing or duplicate.
pub(super) fn contents(file: File) -> Result<Contents> {
    let reader = SerializedFileReader::new(file)?;
    let mut range: Option<(i64, i64)> = None;
    let mut days: Option<(NaiveDate, NaiveDate)> = None;
    for index in 0..reader.num_row_groups() {
        let group = reader.get_row_group(index)?;
        let (from, to) = days_of(group.metadata())?;
        days = Some(days.map_or((from, to), |(first, last)| (first.min(from), last.max(to))));
        let mut column = get_typed_column_reader::<Int64Type>(group.get_column_reader(0)?);
        let mut numbers = Vec::with_capacity(READ_ROWS);
        while column.read_records(READ_ROWS, None, None, &mut numbers)?.0 > 0 {
            for number in numbers.drain(..) {
                let (first, last) = range.unwrap_or((number, number - 1));
                if number != last + 1 {
                    return Err(invalid_file(&format!("event {number} follows event {last} in it")));
                }
                range = Some((first, number));
            }
        }
    }
    let (range, days) = range.zip(days).ok_or_else(|| invalid_file("it is empty"))?;
    Ok(Contents { range, days })
}

/// The days of the first and the last event of a row group.
fn days_of(group: &RowGroupMetaData) -> Result<(NaiveDate, NaiveDate)> {
    match group.column(1).statistics() {
        Some(Statistics::Int64(times)) => {
            let days = times.min_opt().zip(times.max_opt()).map(|(from, to)| (day_of(*from), day_of(*to)));
            days.ok_or_else(|| invalid_file("it has no statistics of received_at"))
        }
        _ => Err(invalid_file("it has no statistics of received_at")),
    }
}

fn invalid_file(write_strings: &str) -> ParquetError {
    ParquetError::General(write_strings.to_owned())
}
