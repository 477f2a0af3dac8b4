//! One part of a pattern against one name, character by character, as bash matches them.

use std::ffi::OsStr;

/// A part of a pattern: what stands between two `/`.
#[derive(Debug)]
pub(super) struct NamePattern {
    symbols: Vec<Symbol>,
}

#[derive(Debug)]
enum Symbol {
    /// `*`
    Any,
    /// `?`
    One,
    /// A character that stands for itself.
    Said(char),
    /// `[..]`
    OneOf { members: Vec<Member>, negated: bool },
}

#[derive(Debug)]
enum Member {
    /// Both included; none where the first is the larger.
    Between(char, char),
    /// `[:digit:]`
    Class(IsIn),
}

impl NamePattern {
    /// Reads a part. A bracket that nothing closes stands for itself.
    ///
    /// # Errors
    /// When it names a class of characters that is none.
    pub(super) fn of(text: &str) -> Result<NamePattern, String> {
        let characters: Vec<char> = text.chars().collect();
        let (mut rest, mut symbols) = (&characters[..], Vec::new());
        while let [first, after @ ..] = rest {
            rest = after;
            symbols.push(match first {
                '*' => Symbol::Any,
                '?' => Symbol::One,
                '\\' => {
                    // One at the end escapes the `/` behind it, which ends the part all the same.
                    let [escaped, after @ ..] = rest else { break };
                    rest = after;
                    Symbol::Said(*escaped)
                }
                '[' => match bracket(rest)? {
                    Some((symbol, after)) => {
                        rest = after;
                        symbol
                    }
                    None => Symbol::Said('['),
                },
                character => Symbol::Said(*character),
            });
        }
        Ok(NamePattern { symbols })
    }

    /// The one name that it stands for, if it has no wild card.
    pub(super) fn only_name(&self) -> Option<String> {
        let said = |symbol: &Symbol| match symbol {
            Symbol::Said(character) => Some(*character),
            _ => None,
        };
        self.symbols.iter().map(said).collect()
    }

    /// Whether it matches a name. A hidden one must be told by its dot. Bytes that are no UTF-8 are as many
    /// characters as they are replaced by where they are shown.
    pub(super) fn is_match(&self, name: &OsStr) -> bool {
        let name: Vec<char> = name.to_string_lossy().chars().collect();
        let told = matches!(self.symbols.first(), Some(Symbol::Said('.')));
        (told || name.first() != Some(&'.')) && self.is_like(&name)
    }

    /// Every `*` takes as little as it can; where that fails, the last one takes one more.
    fn is_like(&self, name: &[char]) -> bool {
        let (mut symbol, mut place) = (0, 0);
        let mut last_any = None;
        while let Some(character) = name.get(place) {
            match self.symbols.get(symbol) {
                Some(Symbol::Any) => {
                    symbol += 1;
                    last_any = Some((symbol, place));
                }
                Some(wanted) if wanted.takes(*character) => {
                    (symbol, place) = (symbol + 1, place + 1)
                }
                _ => {
                    let Some((behind, taken)) = last_any else { return false };
                    (symbol, place) = (behind, taken + 1);
                    last_any = Some((behind, taken + 1));
                }
            }
        }
        self.symbols[symbol..].iter().all(|rest| matches!(rest, Symbol::Any))
    }
}

impl Symbol {
    fn takes(&self, character: char) -> bool {
        match self {
            Symbol::Any | Symbol::One => true,
            Symbol::Said(said) => *said == character,
            Symbol::OneOf { members, negated } => {
                let holds = |member: &Member| match member {
                    Member::Between(from, to) => (*from..=*to).contains(&character),
                    Member::Class(is_in) => is_in(character),
                };
                members.iter().any(holds) != *negated
            }
        }
    }
}

/// What an opened bracket stands for and what is behind it; `None` if nothing closes it.
fn bracket(opened: &[char]) -> Result<Option<(Symbol, &[char])>, String> {
    let negated = matches!(opened, ['!' | '^', ..]);
    let mut rest = &opened[usize::from(negated)..];
    let mut members = Vec::new();
    loop {
        // At the first place a closing bracket is a member.
        if let (false, [']', after @ ..]) = (members.is_empty(), rest) {
            return Ok(Some((Symbol::OneOf { members, negated }, after)));
        }
        let next = match class(rest)? {
            Some(class) => Some(class),
            None => between(rest),
        };
        let Some((member, after)) = next else { return Ok(None) };
        members.push(member);
        rest = after;
    }
}

/// `[:digit:]`
fn class(rest: &[char]) -> Result<Option<(Member, &[char])>, String> {
    let ['[', ':', named @ ..] = rest else { return Ok(None) };
    let Some(end) = named.windows(2).position(|pair| pair == [':', ']']) else { return Ok(None) };
    let name: String = named[..end].iter().collect();
    match CLASSES.iter().find(|(known, _)| *known == name) {
        Some((_, is_in)) => Ok(Some((Member::Class(*is_in), &named[end + 2..]))),
        None => {
            let known: Vec<&str> = CLASSES.iter().map(|(known, _)| *known).collect();
            Err(format!(
                "cannot be read as a pattern: `{name}` is no class of characters; there are {}",
                known.join(", ")
            ))
        }
    }
}

/// A character of a bracket, or a range of them. A `-` at the end is one itself.
fn between(rest: &[char]) -> Option<(Member, &[char])> {
    let (from, rest) = member(rest)?;
    match rest {
        ['-', after @ ..] if after.first() != Some(&']') => {
            let (to, rest) = member(after)?;
            Some((Member::Between(from, to), rest))
        }
        _ => Some((Member::Between(from, from), rest)),
    }
}

/// A character as it is, escaped, or as `[.-.]` and `[=-=]` have it.
fn member(rest: &[char]) -> Option<(char, &[char])> {
    match rest {
        ['\\', character, after @ ..]
        | ['[', '.', character, '.', ']', after @ ..]
        | ['[', '=', character, '=', ']', after @ ..] => Some((*character, after)),
        [] | ['\\'] => None,
        [character, after @ ..] => Some((*character, after)),
    }
}

type IsIn = fn(char) -> bool;

const CLASSES: [(&str, IsIn); 14] = [
    ("alnum", char::is_alphanumeric),
    ("alpha", char::is_alphabetic),
    ("ascii", |character| character.is_ascii()),
    ("blank", |character| [' ', '\t'].contains(&character)),
    ("cntrl", char::is_control),
    ("digit", |character| character.is_ascii_digit()),
    ("graph", is_visible),
    ("lower", char::is_lowercase),
    ("print", |character| character == ' ' || is_visible(character)),
    ("punct", |character| is_visible(character) && !character.is_alphanumeric()),
    ("space", char::is_whitespace),
    ("upper", char::is_uppercase),
    ("word", |character| character == '_' || character.is_alphanumeric()),
    ("xdigit", |character| character.is_ascii_hexdigit()),
];

fn is_visible(character: char) -> bool {
    !character.is_whitespace() && !character.is_control()
}

#[cfg(test)]
mod tests;
