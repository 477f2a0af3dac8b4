//! What the reading of corpora lost, in a few lines: for whoever trains on what is left.

use hm_data::{Manifest, ReadReport};
use serde_json::{Value, json};

/// Files with bad lines that are named.
const FILES_TOLD_MAX: usize = 5;

/// What a person should know, most of it none.
pub(crate) fn sentences(manifest: &Manifest) -> Vec<String> {
    let mut sentences = manifest.warnings.clone();
    let lossy: Vec<&ReadReport> = manifest.files.iter().filter(|file| file.bad > 0).collect();
    sentences.extend(lossy.iter().take(FILES_TOLD_MAX).map(|file| bad(file)));
    if lossy.len() > FILES_TOLD_MAX {
        let (more, lines) = lossy[FILES_TOLD_MAX..]
            .iter()
            .fold((0, 0), |(files, lines), file| (files + 1, lines + file.bad));
        sentences.push(format!(
            "{more} more files with {lines} bad lines; `hm prepare --json` names them"
        ));
    }
    let mut total = |count: fn(&ReadReport) -> u64, what: &str| {
        let files = manifest.files.iter().filter(|file| count(file) > 0).count();
        let sum: u64 = manifest.files.iter().map(count).sum();
        if sum > 0 {
            sentences.push(format!("{sum} {what}, in {files} of {} files", manifest.files.len()));
        }
    };
    total(|file| file.blank, "without text, left out");
    total(|file| file.replaced, "halves of characters in the text, replaced by U+FFFD");
    total(
        |file| file.in_validation,
        "with a text that `split: validation` holds out, not trained on",
    );
    sentences
}

/// Bad lines of one file, and whether its end is missing.
fn bad(file: &ReadReport) -> String {
    let ReadReport { path, documents, blank, bad, first_bad, cut_short, .. } = file;
    let first = first_bad.as_deref().unwrap_or_default();
    let all = documents + blank + bad;
    let end = match cut_short {
        Some(place) if place == first => "; what stands behind is lost".to_owned(),
        Some(place) => format!("; {place}, and what stands behind is lost"),
        None => String::new(),
    };
    format!("{}: {bad} bad lines of {all}, left out; the first: {first}{end}", path.display())
}

/// The same as data.
pub(crate) fn json(manifest: &Manifest) -> Value {
    let lossy = |file: &&ReadReport| file.bad + file.blank + file.replaced + file.in_validation > 0;
    let files: Vec<&ReadReport> = manifest.files.iter().filter(lossy).collect();
    json!({ "warnings": manifest.warnings, "files_with_losses": files })
}

#[cfg(test)]
mod tests {
    use hm_domain::id::Digest;

    use super::*;

    fn file(path: &str, bad: u64) -> ReadReport {
        let first_bad = Some("line 3 is not JSON".to_owned());
        ReadReport { path: path.into(), documents: 7, bad, first_bad, ..ReadReport::default() }
    }

    fn manifest(files: Vec<ReadReport>) -> Manifest {
        Manifest {
            spec: Digest::ZERO,
            tokenizer: Digest::ZERO,
            vocabulary: 300,
            end_of_document: "</s>".to_owned(),
            domains: Vec::new(),
            files,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn losses_are_told_in_a_few_lines_however_many_files_have_them() {
        assert_eq!(sentences(&manifest(vec![ReadReport::default()])), Vec::<String>::new());
        let cut = ReadReport { cut_short: Some("line 3 is not JSON".to_owned()), ..file("a", 1) };
        let cut = ReadReport { blank: 2, replaced: 4, in_validation: 1, ..cut };
        let told = sentences(&manifest(vec![cut, ReadReport::default()]));
        let expected = [
            "a: 1 bad lines of 10, left out; the first: line 3 is not JSON; what stands behind is lost",
            "2 without text, left out, in 1 of 2 files",
            "4 halves of characters in the text, replaced by U+FFFD, in 1 of 2 files",
            "1 with a text that `split: validation` holds out, not trained on, in 1 of 2 files",
        ];
        assert_eq!(told, expected);
        let many = manifest((0..90).map(|number| file(&number.to_string(), 2)).collect());
        let told = sentences(&many);
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "85 more files with 170 bad lines; `hm prepare --json` names them");
        assert_eq!(json(&many)["files_with_losses"].as_array().unwrap().len(), 90);
    }
}
