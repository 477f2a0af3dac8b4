//! The text that the tokenizer is trained on.

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::error::Result;
use crate::progress::Meter;
use crate::reading::OnBadLine;
use crate::source::{SourceSpec, Split};

/// At most `bytes_max` of text: every training file gives an equal part from its start, and what a
/// short file leaves over goes to those after it. Nothing behind that is read.
pub(crate) fn sample(
    files: &[(&SourceSpec, PathBuf)],
    bytes_max: u64,
    on_bad: OnBadLine,
    meter: &mut Meter<'_>,
) -> Result<Vec<String>> {
    let training: Vec<_> =
        files.iter().filter(|(source, _)| source.split == Split::Train).collect();
    meter.begin("sampling for the tokenizer", training.len(), bytes_max);
    let (mut texts, mut left) = (Vec::new(), bytes_max as usize);
    for (done, (source, path)) in training.iter().enumerate() {
        let share = left / (training.len() - done);
        let mut taken = 0;
        source.read(path, on_bad, &mut |mut document, _| {
            let room = share - taken;
            let full = document.text.len() >= room;
            document.text.truncate(document.text.floor_char_boundary(room));
            taken += document.text.len();
            texts.push(document.text);
            meter.document(taken as u64);
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        left -= taken;
        meter.file(taken as u64);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{DomainFrom, Format};

    fn files(texts: &[&str]) -> (tempfile::TempDir, SourceSpec, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            (0..texts.len()).map(|number| folder.path().join(format!("{number}.jsonl"))).collect();
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).unwrap();
        }
        let (domain_from, split) = (DomainFrom::default(), Split::Train);
        let path = String::new();
        let source = SourceSpec { path, format: Format::Jsonl, domain: None, domain_from, split };
        (folder, source, paths)
    }

    fn taken(texts: &[&str], bytes_max: u64) -> Vec<String> {
        let (_folder, source, paths) = files(texts);
        let files: Vec<_> = paths.into_iter().map(|path| (&source, path)).collect();
        let mut progress = |_| {};
        sample(&files, bytes_max, OnBadLine::Stop, &mut Meter::new(&mut progress)).unwrap()
    }

    #[test]
    fn nothing_behind_the_bound_is_read() {
        // The second line would stop the reading, were it reached.
        for (bytes_max, sample) in [(4, "0123"), (10, "0123456789")] {
            let found = taken(&["{\"text\":\"0123456789\"}\nnot json\n"], bytes_max);
            assert_eq!(found, [sample]);
        }
    }

    #[test]
    fn sample_is_cut_to_its_bound_between_characters() {
        assert_eq!(taken(&["{\"text\":\"数据混合\"}\n"], 7), ["数据"]);
    }

    #[test]
    fn what_a_short_file_leaves_over_goes_to_those_after_it() {
        let (short, long) = ("{\"text\":\"ab\"}\n", "{\"text\":\"0123456789\"}\n");
        assert_eq!(taken(&[short, long], 10), ["ab", "01234567"]);
        assert_eq!(taken(&[long, short], 10), ["01234", "ab"]);
    }
}
