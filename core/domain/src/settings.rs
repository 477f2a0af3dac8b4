//! What is wrong with a run's settings: all of it at once, each fault under its key as a person types
//! it, with its value and what it must be.

use std::fmt::{self, Display};

/// A value that cannot be used, under its key in a run file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: {must}")]
pub struct BadValue {
    /// Its key.
    pub key: String,
    /// What it is.
    pub value: String,
    /// What it must be, and how to mend it where that does not follow.
    pub must: String,
}

/// Faults of settings, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<BadValue>);

impl Faults {
    /// Notes that `key` is `value` and what it must be instead.
    pub fn add(&mut self, key: impl Display, value: impl Told, must: impl Display) {
        let (key, value, must) = (key.to_string(), value.told(), must.to_string());
        self.0.push(BadValue { key, value, must });
    }

    /// Notes the fault unless `holds`.
    pub fn require(
        &mut self,
        holds: bool,
        key: impl Display,
        value: impl Told,
        must: impl Display,
    ) {
        if !holds {
            self.add(key, value, must);
        }
    }

    /// The faults found so far.
    pub fn all(&self) -> &[BadValue] {
        &self.0
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ok where nothing is wrong.
    ///
    /// # Errors
    /// All faults, to be shown together.
    pub fn into_result(self) -> Result<(), Faults> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.0[..] {
            return only.fmt(f);
        }
        write!(f, "{} settings cannot be used:", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// A value as a fault tells it.
pub trait Told {
    /// On one line that a person can read.
    fn told(&self) -> String;
}

impl Told for f64 {
    fn told(&self) -> String {
        number(*self)
    }
}

macro_rules! as_displayed {
    ($($type:ty),*) => {
        $(impl Told for $type {
            fn told(&self) -> String {
                self.to_string()
            }
        })*
    };
}

as_displayed!(bool, i32, u32, u64, usize, str, String, fmt::Arguments<'_>, std::path::Display<'_>);
as_displayed!(serde_json::Value);

impl<T: Told + ?Sized> Told for &T {
    fn told(&self) -> String {
        (**self).told()
    }
}

/// A number as a person reads it: by its power of ten where it has too many digits to be counted.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !size.is_finite() || (1e-6..1e15).contains(&size) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// A sum of typed numbers as it was typed: 0.5 + 0.2 + 0.1 is not quite 0.8.
pub fn sum_of_typed(sum: f64) -> String {
    let typed = (sum * 1e9).round() / 1e9;
    number(if typed.is_finite() && typed != 0.0 { typed } else { sum })
}

/// A text as a person can see it on one line: control characters escaped, and cut after 60 characters.
pub fn shown(text: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 60;
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(SHOWN_CHARACTERS_MAX).collect();
    let left = characters.count();
    let head = head.escape_debug();
    if left == 0 { format!("\"{head}\"") } else { format!("\"{head}\" and {left} characters more") }
}

/// The key of what a run file says of `name` in `section`; quoted where the name is no plain word.
pub fn key_of(section: &str, name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.chars().all(plain) && name.chars().count() < 60 {
        format!("{section}.{name}")
    } else {
        format!("{section}.{}", shown(name))
    }
}

/// Longest name of a run or a domain: it fits into a column of a terminal table and an index.
pub const NAME_CHARACTERS_MAX: usize = 200;

/// Characters that nobody sees, first and last: two names that differ in one look the same, and some
/// turn what is around them. Unicode 16's `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`),
/// the separators of lines and paragraphs, and the marks of interlinear notes.
const UNSEEN: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Takes room and has no ink, though Unicode counts it among symbols.
const BRAILLE_BLANK: char = '\u{2800}';

/// Whether nobody sees this character, wherever it stands.
pub fn is_unseen(c: char) -> bool {
    UNSEEN.iter().any(|(first, last)| (first..=last).contains(&&c))
}

/// Why this cannot be the name of a run, if it cannot: beside what no name can be, an id would be taken
/// for the run of that id.
pub fn bad_run_name(name: &str) -> Option<String> {
    let is_id = uuid::Uuid::parse_str(name).is_ok();
    let must = "must not read as the id of a run: commands would look for that run";
    is_id.then(|| must.to_owned()).or_else(|| bad_name(name))
}

/// Why this cannot be the name of a run, a domain or a plugin, if it cannot.
pub fn bad_name(name: &str) -> Option<String> {
    if let Some(c) = name.chars().find(|&c| is_unseen(c)) {
        return Some(format!("must not hold U+{:04X}, a character that nobody sees", c as u32));
    }
    if name.chars().all(|c| c.is_whitespace() || c.is_control() || c == BRAILLE_BLANK) {
        return Some("must have a visible character".to_owned());
    }
    if name.starts_with('-') {
        return Some("must not begin with -, which commands take for a flag".to_owned());
    }
    if name.trim() != name {
        return Some("must not begin or end with white space".to_owned());
    }
    if name.chars().any(char::is_control) {
        return Some("must not hold control characters such as line ends or zero bytes".to_owned());
    }
    let length = name.chars().count();
    (length > NAME_CHARACTERS_MAX)
        .then(|| format!("must have at most {NAME_CHARACTERS_MAX} characters, not {length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_is_a_sentence_and_several_are_a_list() {
        let mut faults = Faults::default();
        faults.require(true, "fine", 1, "is fine");
        assert_eq!(faults.clone().into_result(), Ok(()));
        faults.add("optimizer.beta2", 1.5, "must be at least 0 and below 1");
        let one = faults.clone().into_result().unwrap_err().to_string();
        assert_eq!(one, "optimizer.beta2 is 1.5: must be at least 0 and below 1");
        faults.add("training.steps", 0, "must be at least 1");
        let both = faults.to_string();
        assert_eq!(
            both,
            "2 settings cannot be used:\n  optimizer.beta2 is 1.5: must be at least 0 and below 1\n  \
             training.steps is 0: must be at least 1"
        );
    }

    #[test]
    fn number_is_shown_by_its_power_of_ten_where_its_digits_would_fill_a_line() {
        let shown = [0.0, 1e-6, 0.3, -2.5, 123456789.0, 1e-7, 1e15, -1e300, 1e-320, f64::NAN]
            .map(number)
            .join(" ");
        assert_eq!(shown, "0 0.000001 0.3 -2.5 123456789 1e-7 1e15 -1e300 1e-320 NaN");
        let mut faults = Faults::default();
        faults.add("training.z_loss", 1e300, "must be small");
        assert_eq!(faults.to_string(), "training.z_loss is 1e300: must be small");
        assert_eq!([0.1 + 0.2, 1e300, 1e-300].map(sum_of_typed).join(" "), "0.3 1e300 1e-300");
    }

    #[test]
    fn names_that_nobody_can_read_or_type_are_refused() {
        for good in ["a", "wiki.zh", "The Pile (dedup)", "数据"] {
            assert_eq!(bad_name(good), None, "{good}");
        }
        let long = "x".repeat(NAME_CHARACTERS_MAX + 1);
        for bad in ["", "  ", "\t", " a", "a ", "a\nb", "a\0b", "\u{1b}[2J", "-rf", &long] {
            assert!(bad_name(bad).is_some(), "{bad:?}");
        }
        // Alone and in a name: nobody can tell it from another.
        for unseen in ["\u{202e}", "\u{200b}", "\u{feff}", "\u{2029}", "\u{3164}", "\u{e0041}"] {
            for bad in [unseen.to_owned(), format!("a{unseen}b")] {
                let must = bad_name(&bad).unwrap_or_default();
                assert!(must.contains("that nobody sees"), "{bad:?}: {must}");
            }
        }
        for blank in ["\u{2800}", "\u{2800} \u{2800}", "\u{3000}"] {
            assert_eq!(bad_name(blank).unwrap(), "must have a visible character");
        }
        for good in ["\u{628}\u{627}", "e\u{301}", "\u{1f600}", "a-b"] {
            assert_eq!(bad_name(good), None, "{good}");
        }
    }

    #[test]
    fn run_that_would_be_taken_for_the_id_of_another_is_refused() {
        for id in ["01890a5d-ac96-774b-bcce-b302099a8057", "01890A5DAC96774BBCCEB302099A8057"] {
            assert!(bad_run_name(id).unwrap().contains("the id of a run"), "{id}");
            assert_eq!(bad_name(id), None);
        }
        assert_eq!(bad_run_name("01890a5d"), None);
        assert!(bad_run_name("").is_some());
    }

    #[test]
    fn shown_text_is_one_line_and_short() {
        assert_eq!(shown("a\0b"), r#""a\0b""#);
        assert_eq!(
            shown(&"y".repeat(4000)),
            format!("\"{}\" and 3940 characters more", "y".repeat(60))
        );
    }
}
