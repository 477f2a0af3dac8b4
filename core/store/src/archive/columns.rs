//! Events as columns of a Parquet file, a row group at a time.

use std::fs::File;
use std::sync::Arc;

use hm_domain::chain::Envelope;
use hm_domain::id::{Digest, RunId};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::get_typed_column_reader;
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::RowGroupReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::store::StoredEvent;

/// The columns in their order.
const SCHEMA: &str = "message event {
    required fixed_len_byte_array(16) run_id (UUID);
    required int64 seq;
    required int64 attempt;
    optional int64 step;
    required int32 kind;
    required int32 schema_version;
    required int64 recorded_at (TIMESTAMP(MICROS, true));
    required int64 writer_epoch;
    required binary payload;
    required fixed_len_byte_array(32) prev_hash;
    required fixed_len_byte_array(32) hash;
}";

/// Those in which no value comes twice.
const UNLIKE: [&str; 4] = ["seq", "payload", "prev_hash", "hash"];

/// Begins a file.
pub(super) fn begin(file: File) -> Result<SerializedFileWriter<File>> {
    let mut properties = WriterProperties::builder()
        .set_created_by("heurimentor".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(None);
    for column in UNLIKE {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    SerializedFileWriter::new(file, schema, Arc::new(properties.build()))
}

/// Writes a row group.
pub(super) fn write(file: &mut SerializedFileWriter<File>, events: &[StoredEvent]) -> Result<()> {
    let mut group = file.next_row_group()?;
    let envelopes = || events.iter().map(|event| &event.envelope);
    let longs = |of: fn(&Envelope) -> i64| envelopes().map(of).collect::<Vec<i64>>();
    let shorts =
        |of: fn(&Envelope) -> u16| envelopes().map(|it| of(it).into()).collect::<Vec<i32>>();
    let fixed = |bytes: &[u8]| FixedLenByteArray::from(bytes.to_vec());
    let runs: Vec<_> = envelopes().map(|it| fixed(it.run_id.0.as_bytes())).collect();
    column::<FixedLenByteArrayType>(&mut group, |c| c.write_batch(&runs, None, None))?;
    let seqs = longs(|it| it.seq as i64);
    column::<Int64Type>(&mut group, |c| c.write_batch(&seqs, None, None))?;
    let attempts = longs(|it| it.attempt.into());
    column::<Int64Type>(&mut group, |c| c.write_batch(&attempts, None, None))?;
    let steps: Vec<i64> = envelopes().filter_map(|it| it.step).map(|step| step as i64).collect();
    let present: Vec<i16> = envelopes().map(|it| it.step.is_some().into()).collect();
    column::<Int64Type>(&mut group, |c| c.write_batch(&steps, Some(&present), None))?;
    let kinds = shorts(|it| it.kind);
    column::<Int32Type>(&mut group, |c| c.write_batch(&kinds, None, None))?;
    let versions = shorts(|it| it.schema_version);
    column::<Int32Type>(&mut group, |c| c.write_batch(&versions, None, None))?;
    let times = longs(|it| it.recorded_at);
    column::<Int64Type>(&mut group, |c| c.write_batch(&times, None, None))?;
    let epochs = longs(|it| it.writer_epoch as i64);
    column::<Int64Type>(&mut group, |c| c.write_batch(&epochs, None, None))?;
    let payloads: Vec<_> = events.iter().map(|it| ByteArray::from(it.payload.clone())).collect();
    column::<ByteArrayType>(&mut group, |c| c.write_batch(&payloads, None, None))?;
    let previous: Vec<_> = events.iter().map(|it| fixed(&it.prev_hash.0)).collect();
    column::<FixedLenByteArrayType>(&mut group, |c| c.write_batch(&previous, None, None))?;
    let hashes: Vec<_> = events.iter().map(|it| fixed(&it.hash.0)).collect();
    column::<FixedLenByteArrayType>(&mut group, |c| c.write_batch(&hashes, None, None))?;
    group.close()?;
    Ok(())
}

/// Writes the next column.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    write: impl FnOnce(&mut ColumnWriterImpl<'_, T>) -> Result<usize>,
) -> Result<()> {
    let mut column = group.next_column()?.ok_or_else(|| lacks("a column"))?;
    write(column.typed::<T>())?;
    column.close()
}

fn lacks(what: &str) -> ParquetError {
    ParquetError::General(format!("its events have not {what} that they must have"))
}

/// Reads a row group. Whether its events are what they claim is not looked at.
pub(super) fn read(group: &dyn RowGroupReader) -> Result<Vec<StoredEvent>> {
    let due = parse_message_type(SCHEMA)?;
    if *group.metadata().schema_descr().root_schema() != due {
        return Err(lacks("the columns"));
    }
    let rows = usize::try_from(group.metadata().num_rows()).map_err(|_| lacks("a number"))?;
    let mut runs = values::<FixedLenByteArrayType>(group, 0, rows)?.into_iter();
    let mut seqs = values::<Int64Type>(group, 1, rows)?.into_iter();
    let mut attempts = values::<Int64Type>(group, 2, rows)?.into_iter();
    let mut steps = optional(group, 3, rows)?.into_iter();
    let mut kinds = values::<Int32Type>(group, 4, rows)?.into_iter();
    let mut versions = values::<Int32Type>(group, 5, rows)?.into_iter();
    let mut times = values::<Int64Type>(group, 6, rows)?.into_iter();
    let mut epochs = values::<Int64Type>(group, 7, rows)?.into_iter();
    let mut payloads = values::<ByteArrayType>(group, 8, rows)?.into_iter();
    let mut previous = values::<FixedLenByteArrayType>(group, 9, rows)?.into_iter();
    let mut hashes = values::<FixedLenByteArrayType>(group, 10, rows)?.into_iter();
    let mut row = || -> Option<Result<StoredEvent>> {
        let run: [u8; 16] = runs.next()?.data().try_into().ok()?;
        let attempt = u32::try_from(attempts.next()?).ok();
        let (kind, version) = (u16::try_from(kinds.next()?), u16::try_from(versions.next()?));
        let (Some(attempt), Ok(kind), Ok(schema_version)) = (attempt, kind, version) else {
            return Some(Err(lacks("an attempt, a kind and a version")));
        };
        Some(Ok(StoredEvent {
            envelope: Envelope {
                run_id: RunId(uuid::Uuid::from_bytes(run)),
                seq: seqs.next()? as u64,
                attempt,
                step: steps.next()?.map(|step| step as u64),
                kind,
                schema_version,
                recorded_at: times.next()?,
                writer_epoch: epochs.next()? as u64,
            },
            payload: payloads.next()?.data().to_vec(),
            prev_hash: Digest(previous.next()?.data().try_into().ok()?),
            hash: Digest(hashes.next()?.data().try_into().ok()?),
        }))
    };
    (0..rows).map(|_| row().unwrap_or_else(|| Err(lacks("all the values")))).collect()
}

/// All values of a column that has one in each row.
fn values<T: DataType>(group: &dyn RowGroupReader, index: usize, rows: usize) -> Result<Vec<T::T>> {
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
    let mut values = Vec::new();
    while values.len() < rows {
        let (records, ..) = reader.read_records(rows - values.len(), None, None, &mut values)?;
        if records == 0 {
            return Err(lacks("all the values"));
        }
    }
    Ok(values)
}

/// Those of one that may have none.
fn optional(group: &dyn RowGroupReader, index: usize, rows: usize) -> Result<Vec<Option<i64>>> {
    let mut reader = get_typed_column_reader::<Int64Type>(group.get_column_reader(index)?);
    let (mut present, mut values) = (Vec::new(), Vec::new());
    while present.len() < rows {
        let left = rows - present.len();
        let (records, ..) = reader.read_records(left, Some(&mut present), None, &mut values)?;
        if records == 0 {
            return Err(lacks("all the values"));
        }
    }
    let mut values = values.into_iter();
    Ok(present
        .into_iter()
        .map(|is_there| if is_there == 1 { values.next() } else { None })
        .collect())
}
