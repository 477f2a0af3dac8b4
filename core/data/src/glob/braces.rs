//! `{a,b}` and `{1..8}` in a pattern: a shell writes them out before it looks for files.
//!
//! Read as bash reads them, odd ones too: braces that hold neither a choice nor a range stay as typed.

/// Most patterns that one may stand for.
const PATTERNS_MAX: usize = 10_000;

/// Most opened braces in a pattern: each is looked for to its end, inside the one before it.
const BRACES_MAX: usize = 1_000;

/// What stands between two `/` of a pattern, outside of its braces.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    /// As a person typed it.
    pub(super) typed: String,
    /// With braces written out; has a `/` of its own where they held one.
    pub(super) written: String,
}

/// The patterns that `pattern` stands for, in the order in which they are written out.
///
/// # Errors
/// When they are too many.
pub(super) fn choices(pattern: &str) -> Result<Vec<Vec<Stretch>>, String> {
    if pattern.matches('{').count() > BRACES_MAX {
        return Err(format!("has more than {BRACES_MAX} braces"));
    }
    let mut choices = vec![Vec::new()];
    for typed in stretches(pattern) {
        let written = written_out(typed)?;
        bounded(choices.len().saturating_mul(written.len()))?;
        let longer = choices.iter().flat_map(|choice: &Vec<Stretch>| {
            written.iter().map(move |written| {
                let last = Stretch { typed: typed.to_owned(), written: written.clone() };
                choice.iter().cloned().chain([last]).collect()
            })
        });
        choices = longer.collect();
    }
    Ok(choices)
}

fn bounded(patterns: usize) -> Result<(), String> {
    if patterns > PATTERNS_MAX {
        return Err(format!("has braces that stand for more than {PATTERNS_MAX} patterns"));
    }
    Ok(())
}

/// A pattern cut at every `/` that stands in no braces.
fn stretches(pattern: &str) -> Vec<&str> {
    let (mut stretches, mut start, mut place) = (Vec::new(), 0, 0);
    loop {
        let braces = Braces::first(&pattern[place..]);
        let head_end = braces.as_ref().map_or(pattern.len(), |braces| place + braces.head.len());
        for (cut, _) in pattern[place..head_end].match_indices('/') {
            stretches.push(&pattern[start..place + cut]);
            start = place + cut + 1;
        }
        match braces {
            Some(braces) => place = pattern.len() - braces.behind.len(),
            None => break,
        }
    }
    stretches.push(&pattern[start..]);
    stretches
}

/// Braces in a text.
struct Braces<'a> {
    head: &'a str,
    inner: &'a str,
    behind: &'a str,
}

impl<'a> Braces<'a> {
    /// The first that may hold a choice or a range.
    fn first(text: &'a str) -> Option<Braces<'a>> {
        let mut opening = unescaped(text).filter(|(_, character)| *character == '{');
        opening.find_map(|(place, _)| {
            let opened = &text[place + 1..];
            let end = closing(opened)?;
            let (inner, behind) = (&opened[..end], &opened[end + 1..]);
            Some(Braces { head: &text[..place], inner, behind })
        })
    }
}

/// Where the braces close whose inside `opened` begins with. What holds no comma and no `..` of its own
/// does not close them.
fn closing(opened: &str) -> Option<usize> {
    let (mut depth, mut holds_several) = (0, false);
    for (place, character) in unescaped(opened) {
        let rest = &opened[place..];
        match character {
            '}' if depth == 0 && holds_several => return Some(place),
            '}' if depth > 0 => depth -= 1,
            '{' => depth += 1,
            ',' if depth == 0 => holds_several = true,
            '.' if depth == 0 && rest.starts_with("..") && !rest.starts_with("..}") => {
                holds_several = true;
            }
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut escaped = false;
    text.char_indices().filter(move |(_, character)| {
        let is_plain = !escaped && *character != '\\';
        escaped = !escaped && *character == '\\';
        is_plain
    })
}

fn written_out(text: &str) -> Result<Vec<String>, String> {
    let Some(Braces { head, inner, behind }) = Braces::first(text) else {
        return Ok(vec![text.to_owned()]);
    };
    let (middles, tails) = (middles(inner)?, written_out(behind)?);
    bounded(middles.len().saturating_mul(tails.len()))?;
    let all = middles
        .iter()
        .flat_map(|middle| tails.iter().map(move |tail| format!("{head}{middle}{tail}")));
    Ok(all.collect())
}

/// What stands in the braces' place.
fn middles(inner: &str) -> Result<Vec<String>, String> {
    let mut middles = Vec::new();
    if unescaped(inner).any(|(_, character)| character == ',') {
        for choice in at_commas(inner) {
            middles.extend(written_out(choice)?);
            bounded(middles.len())?;
        }
    } else if let Some(range) = range(inner) {
        // One more than may be: the count is then refused.
        middles.extend(range.take(PATTERNS_MAX + 1));
    } else {
        middles.push(format!("{{{inner}}}"));
    }
    Ok(middles)
}

/// Cut at every comma that stands in no inner braces.
fn at_commas(inner: &str) -> Vec<&str> {
    let (mut choices, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (place, character) in unescaped(inner) {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                choices.push(&inner[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    choices.push(&inner[start..]);
    choices
}

/// `1..8`, `08..1` with zeros in front, `a..e`, each with a stride behind or without, as in `10..1..3`.
fn range(text: &str) -> Option<Box<dyn Iterator<Item = String>>> {
    let (from, rest) = text.split_once("..")?;
    let (to, stride) = match rest.split_once("..") {
        Some((to, stride)) => (to, stride.parse::<i64>().ok()?.unsigned_abs().max(1)),
        None => (rest, 1),
    };
    if let (Some(from), Some(to)) = (letter(from), letter(to)) {
        let letters = steps(from.into(), to.into(), stride);
        // Between Z and a lie marks, one of which opens a bracket.
        return Some(Box::new(letters.filter_map(|code| u8::try_from(code).ok()).map(|code| {
            let escape = if code.is_ascii_alphabetic() { "" } else { "\\" };
            format!("{escape}{}", char::from(code))
        })));
    }
    let width = match is_padded(from) || is_padded(to) {
        true => from.len().max(to.len()),
        false => 0,
    };
    let numbers = steps(from.parse().ok()?, to.parse().ok()?, stride);
    Some(Box::new(numbers.map(move |number| format!("{number:0width$}"))))
}

fn letter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(*letter),
        _ => None,
    }
}

fn is_padded(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits.len() > 1 && digits.starts_with('0')
}

/// From one number to another, up or down.
fn steps(from: i64, to: i64, stride: u64) -> impl Iterator<Item = i128> {
    let stride = if from <= to { i128::from(stride) } else { -i128::from(stride) };
    let last = from.abs_diff(to) / stride.unsigned_abs() as u64;
    (0..=last).map(move |step| i128::from(from) + i128::from(step) * stride)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::glob::bash;

    fn whole(pattern: &str) -> Vec<String> {
        let whole = |choice: &Vec<Stretch>| {
            choice.iter().map(|stretch| stretch.written.as_str()).collect::<Vec<_>>().join("/")
        };
        choices(pattern).unwrap().iter().map(whole).collect()
    }

    #[test]
    fn braces_are_written_out_as_bash_does() {
        for (pattern, written) in [
            ("a.txt", "a.txt"),
            ("{en,zh}/{a,b}.txt", "en/a.txt en/b.txt zh/a.txt zh/b.txt"),
            ("x{,.gz}", "x x.gz"),
            ("{a,b{1,2}}", "a b1 b2"),
            ("{en/a,zh}/x", "en/a/x zh/x"),
            ("\\{a,b\\}", "\\{a,b\\}"),
            ("{a\\,b,c}", "a\\,b c"),
            ("{8..10}", "8 9 10"),
            ("{10..8}", "10 9 8"),
            ("{08..10}", "08 09 10"),
            ("{1..003}", "001 002 003"),
            ("{-01..1}", "-01 000 001"),
            ("{1..10..9}", "1 10"),
            ("{10..1..-4}", "10 6 2"),
            ("{1..3..0}", "1 2 3"),
            ("{a..c}", "a b c"),
            ("{e..a..2}", "e c a"),
            ("{Y..a}", "Y Z \\[ \\\\ \\] \\^ \\_ \\` a"),
            ("{{1..2},x}", "1 2 x"),
            ("{a}", "{a}"),
            ("{}", "{}"),
            ("{a}{b,c}", "{a}b {a}c"),
            ("{{a,b}}", "{a} {b}"),
            ("{a,b", "{a,b"),
            ("{a,b{c", "{a,b{c"),
            ("{1..a}", "{1..a}"),
            ("{1..3..}", "{1..3..}"),
            ("{é..z}", "{é..z}"),
            ("{1..99999999999999999999}", "{1..99999999999999999999}"),
        ] {
            assert_eq!(whole(pattern).join(" "), written, "{pattern}");
        }
    }

    #[test]
    fn what_was_typed_stands_beside_what_it_stands_for() {
        let choices = choices("a/{b,c}.j/{d/e,f}").unwrap();
        let last: Vec<_> = choices[3].iter().map(|one| (&*one.typed, &*one.written)).collect();
        assert_eq!(last, [("a", "a"), ("{b,c}.j", "c.j"), ("{d/e,f}", "f")]);
    }

    #[test]
    fn braces_without_end_are_refused_before_they_fill_memory() {
        for pattern in [
            "{1..4000000000}",
            "{9223372036854775807..-9223372036854775808}",
            "{1..200}{1..200}",
            "{1..200}/{1..200}",
            "{1..99}{1..99}{1..99}{1..99}",
        ] {
            assert!(choices(pattern).unwrap_err().contains("more than 10000"), "{pattern}");
        }
        assert!(choices(&"{,".repeat(100_000)).unwrap_err().contains("more than 1000 braces"));
    }

    #[test]
    fn any_braces_are_written_out_as_bash_does() {
        let pieces = select(vec![
            "{", "{", "{", "}", "}", "}", ",", ",", "..", "..", ".", "\\", "/", "a", "b", "c", "e",
            "é", "-", "+", "0", "1", "2", "01", "10", "{a,", "{1..", "{a..", "{}",
        ]);
        // No pattern begins with braces or ends in an escape, which a shell reads in ways of its own.
        let pattern = proptest::collection::vec(pieces, 1..12)
            .prop_map(|pieces| format!("x{}x", pieces.concat()));
        let patterns = bash::samples(pattern, 4000);
        let Some(words) = bash::words(&patterns) else { return };
        for (pattern, expected) in patterns.iter().zip(words) {
            let plain = whole(pattern).iter().map(|text| bash::without_escapes(text)).collect();
            assert_eq!((pattern, plain), (pattern, expected));
        }
    }
}
