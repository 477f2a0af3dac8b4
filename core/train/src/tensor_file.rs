//! A safetensors file, read and written in pieces: memory holds its header and one piece, whatever the
//! file holds. Bytes come from other programs, so every length is checked before it is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::{Map, Value, json};

use crate::error::{Result, TrainError, at};
use crate::hugging_face::f32_of;

/// Bytes read at once; a multiple of every element's size.
const PIECE_BYTES: usize = 8 << 20;
/// Numbers turned into bytes at once: few enough to stay in a processor's cache.
pub(crate) const LITTLE_ENDIAN_NUMBERS: usize = 1 << 16;
/// Longest header that is read: the format's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    start: u64,
    length_bytes: u64,
}

/// A file open for reading.
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    places: BTreeMap<String, Place>,
}

impl TensorFile {
    /// Opens a file whose header describes its bytes exactly.
    ///
    /// # Errors
    /// When it is truncated, or its header is no header, or tensors overlap or leave gaps.
    pub(crate) fn open(path: &Path) -> Result<TensorFile> {
        let mut file = File::open(path).map_err(at(path))?;
        let length_bytes = file.metadata().map_err(at(path))?.len();
        let places = read_header(&mut file, length_bytes).map_err(|flaw| flaw.at(path))?;
        Ok(TensorFile { path: path.to_owned(), file, places })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor.
    pub(crate) fn places(&self) -> &BTreeMap<String, Place> {
        &self.places
    }

    /// Refuses a file that does not hold as many tensors as a model has.
    pub(crate) fn expect_count(&self, wanted: usize) -> Result<()> {
        let found = self.places.len();
        if found == wanted {
            return Ok(());
        }
        let reason = format!("holds {found} tensors, the model wants {wanted}");
        Err(TrainError::Broken { path: self.path.clone(), reason })
    }

    /// The tensor of this name, which must have this shape and be f32: what this crate's own files hold.
    pub(crate) fn place_of_f32(&self, name: &str, shape: &[usize]) -> Result<&Place> {
        let broken = |reason: String| TrainError::Broken { path: self.path.clone(), reason };
        let place =
            self.places.get(name).ok_or_else(|| broken(format!("holds no tensor {name}")))?;
        if place.dtype != Dtype::F32 || place.shape != shape {
            let (dtype, found) = (place.dtype, &place.shape);
            let reason = format!("{name} is {dtype} {found:?}, the model wants F32 {shape:?}");
            return Err(broken(reason));
        }
        Ok(place)
    }

    /// Hands the bytes of a tensor to `each`, piece by piece, none ending inside an element.
    pub(crate) fn pieces(
        &self,
        place: &Place,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.start)).map_err(at(&self.path))?;
        let mut left = place.length_bytes;
        let mut piece = vec![0; left.min(PIECE_BYTES as u64) as usize];
        while left > 0 {
            let length = left.min(PIECE_BYTES as u64) as usize;
            file.read_exact(&mut piece[..length]).map_err(at(&self.path))?;
            each(&piece[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    /// The numbers of the f32 tensor `name`, which must have this shape; `seen` hears its bytes too.
    pub(crate) fn numbers(
        &self,
        name: &str,
        shape: &[usize],
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<Vec<f32>> {
        let place = self.place_of_f32(name, shape)?;
        let mut numbers = Vec::with_capacity(shape.iter().product());
        self.pieces(place, &mut |piece| {
            seen(piece);
            numbers.extend(f32_of(piece));
            Ok(())
        })?;
        Ok(numbers)
    }
}

/// Hands the little-endian bytes of `numbers` to `each`, piece by piece.
pub(crate) fn little_endian(
    numbers: &[f32],
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut bytes = vec![0; 4 * numbers.len().min(LITTLE_ENDIAN_NUMBERS)];
    for piece in numbers.chunks(LITTLE_ENDIAN_NUMBERS) {
        let bytes = &mut bytes[..4 * piece.len()];
        for (four, number) in bytes.chunks_exact_mut(4).zip(piece) {
            four.copy_from_slice(&number.to_le_bytes());
        }
        each(bytes)?;
    }
    Ok(())
}

/// What is wrong with a file.
enum Flaw {
    Unreadable(std::io::Error),
    Broken(String),
}

impl Flaw {
    fn at(self, path: &Path) -> TrainError {
        match self {
            Flaw::Unreadable(reason) => TrainError::File { path: path.to_owned(), reason },
            Flaw::Broken(reason) => TrainError::Broken { path: path.to_owned(), reason },
        }
    }
}

fn read_header(
    file: &mut File,
    length_bytes: u64,
) -> std::result::Result<BTreeMap<String, Place>, Flaw> {
    let broken = |reason: String| Err(Flaw::Broken(reason));
    if length_bytes < 8 {
        return broken(format!("is no safetensors file: {length_bytes} bytes, at least 8 wanted"));
    }
    let mut header_length = [0; 8];
    file.read_exact(&mut header_length).map_err(Flaw::Unreadable)?;
    let header_bytes = u64::from_le_bytes(header_length);
    let most = HEADER_BYTES_MAX.min(length_bytes - 8);
    if header_bytes > most {
        let reason = format!(
            "is truncated or no safetensors file: it announces a header of {header_bytes} bytes, {most} can be there"
        );
        return broken(reason);
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(Flaw::Unreadable)?;
    let mut entries: Map<String, Value> = serde_json::from_slice(&header)
        .map_err(|error| Flaw::Broken(format!("its header is no JSON object: {error}")))?;
    entries.remove("__metadata__");
    let mut places = BTreeMap::new();
    for (name, entry) in entries {
        let info: TensorInfo = serde_json::from_value(entry)
            .map_err(|error| Flaw::Broken(format!("{name}: its header entry: {error}")))?;
        places.insert(name.clone(), place(&name, &info, 8 + header_bytes)?);
    }
    check_layout(&places, 8 + header_bytes, length_bytes)?;
    Ok(places)
}

fn place(name: &str, info: &TensorInfo, data_start: u64) -> std::result::Result<Place, Flaw> {
    let (begin, end) = info.data_offsets;
    let bits =
        info.shape.iter().try_fold(info.dtype.bitsize(), |bits, &size| bits.checked_mul(size));
    let length = end.checked_sub(begin);
    if bits.is_none() || length.and_then(|length| length.checked_mul(8)) != bits {
        let (dtype, shape) = (info.dtype, &info.shape);
        let reason = format!("{name} is {dtype} {shape:?}, but has bytes {begin} to {end}");
        return Err(Flaw::Broken(reason));
    }
    let start = data_start.checked_add(begin as u64);
    let start = start.ok_or_else(|| Flaw::Broken(format!("{name} begins at byte {begin}")))?;
    let length_bytes = length.unwrap_or_default() as u64;
    Ok(Place { dtype: info.dtype, shape: info.shape.clone(), start, length_bytes })
}

/// Tensors follow each other without overlap or gap, up to the file's end.
fn check_layout(
    places: &BTreeMap<String, Place>,
    data_start: u64,
    length_bytes: u64,
) -> std::result::Result<(), Flaw> {
    let mut in_order: Vec<_> = places.iter().collect();
    in_order.sort_by_key(|(_, place)| (place.start, place.length_bytes));
    let mut end = data_start;
    for (name, place) in in_order {
        let start = place.start;
        if start != end {
            let reason =
                format!("{name} begins at byte {start}, the tensor before it ends at {end}");
            return Err(Flaw::Broken(reason));
        }
        let beyond = || Flaw::Broken(format!("{name} ends beyond every file"));
        end = start.checked_add(place.length_bytes).ok_or_else(beyond)?;
    }
    if end != length_bytes {
        let reason = format!("has {length_bytes} bytes, its header describes {end}");
        return Err(Flaw::Broken(reason));
    }
    Ok(())
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

impl Planned {
    /// Elements.
    pub(crate) fn elements(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

/// A file open for writing: its header is there, the tensors' bytes follow in the order planned.
pub(crate) struct TensorWriter {
    path: PathBuf,
    file: BufWriter<File>,
    left_bytes: u64,
}

impl TensorWriter {
    /// Writes the header for `tensors`, all of one type.
    pub(crate) fn begin(path: &Path, dtype: Dtype, tensors: &[Planned]) -> Result<TensorWriter> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut end = 0;
        for tensor in tensors {
            let begin = end;
            end += tensor.elements() * dtype.bitsize() as u64 / 8;
            let entry = json!({
                "dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end]
            });
            header.insert(tensor.name.clone(), entry);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // Data begins at a multiple of eight bytes: readers map it as numbers.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::new(File::create_new(path).map_err(at(path))?);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(at(path))?;
        file.write_all(&header).map_err(at(path))?;
        Ok(TensorWriter { path: path.to_owned(), file, left_bytes: end })
    }

    /// Writes the next bytes of the tensors.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.left_bytes = self.left_bytes.checked_sub(bytes.len() as u64).expect("as planned");
        self.file.write_all(bytes).map_err(at(&self.path))
    }

    /// Ends the file, on disk; gives its length.
    pub(crate) fn finish(self) -> Result<u64> {
        assert_eq!(self.left_bytes, 0, "every planned tensor was written");
        let file = self.file.into_inner().map_err(|error| at(&self.path)(error.into_error()))?;
        file.sync_all().map_err(at(&self.path))?;
        Ok(file.metadata().map_err(at(&self.path))?.len())
    }
}
