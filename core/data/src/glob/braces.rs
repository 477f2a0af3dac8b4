//! `{a,b}` and `{1..8}` in a pattern: a shell writes them out before it looks for files.

/// Most patterns that one may stand for.
const PATTERNS_MAX: usize = 10_000;

/// The patterns that `pattern` stands for. Braces that stand for nothing are escaped.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let mut head = String::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let escaped = after.chars().next().map_or(0, char::len_utf8);
                head.push_str(&rest[..1 + escaped]);
                rest = &after[escaped..];
                continue;
            }
            '{' => {
                if let Some((choices, behind)) = choices(after) {
                    return joined(&head, &choices, behind);
                }
                head.push_str("\\{");
            }
            '}' => head.push_str("\\}"),
            _ => head.push(character),
        }
        rest = after;
    }
    Ok(vec![head])
}

fn joined(head: &str, choices: &[String], behind: &str) -> Result<Vec<String>, String> {
    let tails = expand(behind)?;
    let mut patterns = Vec::new();
    for choice in choices {
        for middle in expand(choice)? {
            if patterns.len() + tails.len() > PATTERNS_MAX {
                return Err(format!("its braces stand for more than {PATTERNS_MAX} patterns"));
            }
            patterns.extend(tails.iter().map(|tail| format!("{head}{middle}{tail}")));
        }
    }
    Ok(patterns)
}

/// What stands between an opened brace and the one that closes it, and what stands behind that; `None`
/// where it is no choice.
fn choices(opened: &str) -> Option<(Vec<String>, &str)> {
    let (mut depth, mut start, mut escaped) = (0, 0, false);
    let mut choices = Vec::new();
    for (place, character) in opened.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            ',' if depth == 0 => {
                choices.push(opened[start..place].to_owned());
                start = place + 1;
            }
            '}' if depth == 0 => {
                let last = &opened[start..place];
                let behind = &opened[place + 1..];
                if choices.is_empty() {
                    return Some((range(last)?, behind));
                }
                choices.push(last.to_owned());
                return Some((choices, behind));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `1..8`, or `01..08` for numbers of two digits.
fn range(text: &str) -> Option<Vec<String>> {
    let (from, to) = text.split_once("..")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(from) || !digits(to) {
        return None;
    }
    let width = if from.starts_with('0') { from.len() } else { 0 };
    let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
    // One more than may be: the count is then refused by name.
    let numbers = (from..=to).take(PATTERNS_MAX + 1);
    Some(numbers.map(|number| format!("{number:0width$}")).collect())
}

/// What an escaped name says.
pub(super) fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_written_out_as_bash_does() {
        for (pattern, written) in [
            ("a.txt", vec!["a.txt"]),
            ("{en,zh}/{a,b}.txt", vec!["en/a.txt", "en/b.txt", "zh/a.txt", "zh/b.txt"]),
            ("x{,.gz}", vec!["x", "x.gz"]),
            ("{a,b{1,2}}", vec!["a", "b1", "b2"]),
            ("{8..10}", vec!["8", "9", "10"]),
            ("{08..10}", vec!["08", "09", "10"]),
            ("{en/a,zh}/x", vec!["en/a/x", "zh/x"]),
            ("\\{a,b\\}", vec!["\\{a,b\\}"]),
            ("{a}", vec!["\\{a\\}"]),
            ("{a,b", vec!["\\{a,b"]),
        ] {
            assert_eq!(expand(pattern).unwrap(), written, "{pattern}");
        }
    }

    #[test]
    fn braces_without_end_are_refused_before_they_fill_memory() {
        for pattern in ["{1..4000000000}", "{1..200}{1..200}", "{1..99}{1..99}{1..99}{1..99}"] {
            assert!(expand(pattern).unwrap_err().contains("more than 10000"), "{pattern}");
        }
    }
}
