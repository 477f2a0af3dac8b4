//! What the reading of corpora lost, in a few lines: for whoever trains on what is left.

use hm_data::{Manifest, ReadReport};
use serde_json::{Value, json};

/// Files with bad lines that are named.
const FILES_TOLD_MAX: usize = 5;

/// What a person should know, most of it none.
pub(crate) fn sentences(manifest: &Manifest) -> Vec<String> {
    let mut sentences = manifest.warnings.clone();
    let mut lossy: Vec<&ReadReport> = manifest.files.iter().filter(|file| file.bad > 0).collect();
    // Files that are lost altogether come first.
    lossy.sort_by_key(|file| file.documents > 0);
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
    total(|file| file.divided, "documents that longer text files were divided into");
    total(|file| file.replaced, "halves of characters in the text, replaced by U+FFFD");
    total(
        |file| file.in_validation,
        "with a text that `split: validation` holds out, not trained on",
    );
    sentences
}

/// Bad lines of one file, what ails most of them, and whether its end is missing.
fn bad(file: &ReadReport) -> String {
    let ReadReport { path, documents, blank, bad, cut_short, in_part, .. } = file;
    let part = if in_part.is_some() { "the part that was looked at of " } else { "" };
    let path = path.display();
    let all = documents + blank + bad;
    let why = match file.commonest() {
        Some(most) if most.count < *bad => format!("{} of them as {}", most.count, most.first),
        Some(most) => format!("the first: {}", most.first),
        None => String::new(),
    };
    let end = match cut_short {
        Some(place) if why.ends_with(place.as_str()) => "; what stands behind is lost".to_owned(),
        Some(place) => format!("; {place}, and what stands behind is lost"),
        None => String::new(),
    };
    if *documents == 0 {
        return format!(
            "LOST: nothing of {part}{path} could be used: {bad} bad lines of {all}; {why}{end}"
        );
    }
    format!("{path}: {bad} bad lines of {all}, left out; {why}{end}")
}

/// The same as data.
pub(crate) fn json(manifest: &Manifest) -> Value {
    let lossy = |file: &&ReadReport| file.bad + file.blank + file.replaced + file.in_validation > 0;
    let files: Vec<&ReadReport> = manifest.files.iter().filter(lossy).collect();
    json!({ "warnings": manifest.warnings, "files_with_losses": files })
}

#[cfg(test)]
mod tests {
    use hm_data::BadLines;
    use hm_domain::id::Digest;

    use super::*;

    fn file(path: &str, bad: u64) -> ReadReport {
        let (kind, first) = ("is not JSON".to_owned(), "line 3 is not JSON".to_owned());
        let reasons = vec![BadLines { kind, count: bad, first }];
        ReadReport { path: path.into(), documents: 7, bad, reasons, ..ReadReport::default() }
    }

    fn manifest(files: Vec<ReadReport>) -> Manifest {
        Manifest {
            spec: Digest::ZERO,
            origin: hm_data::Origin::default(),
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
        let other = BadLines { kind: "x".into(), count: 1, first: "line 1 is odd".into() };
        let mut mixed = file("b", 3);
        mixed.reasons[0].count = 2;
        mixed.reasons.insert(0, other);
        let lost = ReadReport { documents: 0, ..file("c", 60) };
        let expected = [
            "LOST: nothing of c could be used: 60 bad lines of 60; the first: line 3 is not JSON",
            "b: 3 bad lines of 10, left out; 2 of them as line 3 is not JSON",
        ];
        assert_eq!(sentences(&manifest(vec![mixed, lost])), expected);
        let many = manifest((0..90).map(|number| file(&number.to_string(), 2)).collect());
        let told = sentences(&many);
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "85 more files with 170 bad lines; `hm prepare --json` names them");
        assert_eq!(json(&many)["files_with_losses"].as_array().unwrap().len(), 90);
    }
}
