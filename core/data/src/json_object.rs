//! One JSON object, of which a few fields are wanted.
//!
//! Brackets, quotes, colons and commas are checked throughout, so that a line that is cut or damaged is
//! noticed. What stands between them is taken as people have it, since it costs nobody anything: Python's
//! `NaN` and `Infinity`, numbers beyond any float or written as `01` and `1.`, tabs and other control
//! characters as they are in a string; and in fields that nobody reads halves of surrogate pairs and bytes
//! that are not UTF-8; any depth of nesting. `serde_json` refuses all of these wherever they stand.

/// A JSON object: its fields, undecoded, in their order.
pub(crate) struct Object<'a> {
    fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Object<'a> {
    /// # Errors
    /// Says what is wrong, as the end of a sentence that begins with the object's place.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Object<'a>, String> {
        let mut scanner = Scanner { bytes, at: 0 };
        scanner.blanks();
        if scanner.peek() != Some(b'{') {
            scanner.value().and_then(|()| scanner.end())?;
            return Err("is no JSON object".to_owned());
        }
        scanner.at += 1;
        let mut fields = Vec::new();
        scanner.blanks();
        if !scanner.take(b'}') {
            loop {
                let key = scanner.key()?;
                scanner.blanks();
                let start = scanner.at;
                scanner.value()?;
                fields.push((key, &bytes[start..scanner.at]));
                scanner.blanks();
                if scanner.take(b'}') {
                    break;
                }
                scanner.expect(b',')?;
            }
        }
        scanner.end()?;
        Ok(Object { fields })
    }

    /// The value of a field by its name, or of one inside by names with dots between. Of several of one
    /// name the last counts.
    pub(crate) fn field(&self, path: &str) -> Option<&'a [u8]> {
        if let Some(value) = self.own(path) {
            return Some(value);
        }
        let (head, rest) = path.split_once('.')?;
        Object::parse(self.own(head)?).ok()?.field(rest)
    }

    fn own(&self, name: &str) -> Option<&'a [u8]> {
        let is_name = |key: &[u8]| {
            key == name.as_bytes()
                || (key.contains(&b'\\') && unescaped(key).is_ok_and(|(key, _)| key == name))
        };
        self.fields.iter().rev().find(|(key, _)| is_name(key)).map(|(_, value)| *value)
    }

    /// Fields that are texts, by name, with their lengths.
    pub(crate) fn texts(&self) -> Vec<(String, usize)> {
        let texts = self.fields.iter().filter(|(_, value)| value.starts_with(b"\""));
        texts.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.len())).collect()
    }

    /// The same of objects one level down, by the names of both with a dot between.
    pub(crate) fn inner_texts(&self) -> Vec<(String, usize)> {
        let inner = self.fields.iter().filter(|(_, value)| value.starts_with(b"{"));
        inner
            .flat_map(|(key, value)| {
                let outer = String::from_utf8_lossy(key);
                let texts = Object::parse(value).map(|object| object.texts()).unwrap_or_default();
                texts.into_iter().map(move |(name, length)| (format!("{outer}.{name}"), length))
            })
            .collect()
    }

    /// The first field that is a list of objects.
    pub(crate) fn list_of_objects(&self) -> Option<String> {
        let is_list = |value: &[u8]| {
            let inner = value.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
            inner.is_some_and(|inner| inner.starts_with(b"{"))
        };
        let (key, _) = self.fields.iter().find(|(_, value)| is_list(value))?;
        Some(String::from_utf8_lossy(key).into_owned())
    }

    /// Names of the first few fields.
    pub(crate) fn names(&self, most: usize) -> Vec<String> {
        let name = |(key, _): &(&[u8], &[u8])| String::from_utf8_lossy(key).into_owned();
        self.fields.iter().take(most).map(name).collect()
    }
}

/// The text of a value, and how many halves of surrogate pairs became U+FFFD in it; `None` where it is no
/// text.
///
/// # Errors
/// When its bytes are not UTF-8.
pub(crate) fn text(value: &[u8]) -> Result<Option<(String, u64)>, String> {
    match value {
        [b'"', inner @ .., b'"'] => unescaped(inner).map(Some),
        _ => Ok(None),
    }
}

/// What to say of bytes that are no text.
pub(crate) fn not_utf8(error: std::str::Utf8Error) -> String {
    format!("is not UTF-8: {error}; make it so, as with `iconv -f GB18030 -t UTF-8` for Chinese")
}

fn unescaped(inner: &[u8]) -> Result<(String, u64), String> {
    let mut rest = std::str::from_utf8(inner).map_err(not_utf8)?;
    let (mut text, mut replaced) = (String::with_capacity(rest.len()), 0);
    while let Some(place) = rest.find('\\') {
        text.push_str(&rest[..place]);
        let escape = rest.as_bytes()[place + 1];
        rest = &rest[place + 2..];
        match escape {
            b'u' => {
                let (character, length) = unicode(rest);
                replaced += u64::from(character.is_none());
                text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = &rest[length..];
            }
            b'n' => text.push('\n'),
            b't' => text.push('\t'),
            b'r' => text.push('\r'),
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            plain => text.push(plain.into()),
        }
    }
    text.push_str(rest);
    Ok((text, replaced))
}

/// The character whose code follows `\u`, and the bytes that say it; `None` for half a surrogate pair.
fn unicode(rest: &str) -> (Option<char>, usize) {
    let code =
        |digits: Option<&str>| digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let first = code(rest.get(..4)).unwrap_or_default();
    if let (0xd800..0xdc00, Some("\\u")) = (first, rest.get(4..6))
        && let Some(second @ 0xdc00..0xe000) = code(rest.get(6..10))
    {
        let whole = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(whole), 10);
    }
    (char::from_u32(first), 4)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn wrong(&self, expected: &str) -> String {
        match self.peek() {
            Some(_) => format!("is not JSON: byte {} should be {expected}", self.at + 1),
            None => format!("is not JSON: it ends where {expected} should be"),
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(&format!("`{}`", byte as char))) }
    }

    fn end(&mut self) -> Result<(), String> {
        self.blanks();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.wrong("the end")) }
    }

    /// A field's name and the colon behind it.
    fn key(&mut self) -> Result<&'a [u8], String> {
        self.blanks();
        let start = self.at + 1;
        self.string()?;
        let key = &self.bytes[start..self.at - 1];
        self.blanks();
        self.expect(b':')?;
        Ok(key)
    }

    fn string(&mut self) -> Result<(), String> {
        self.expect(b'"')?;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                _ => {}
            }
        }
        Err(self.wrong("`\"`"))
    }

    fn escape(&mut self) -> Result<(), String> {
        let hexadecimal = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
        let length = match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') if self.bytes.get(self.at + 1..self.at + 5).is_some_and(hexadecimal) => 5,
            _ => return Err(self.wrong("an escape of JSON")),
        };
        self.at += length;
        Ok(())
    }

    /// Passes over one value, whatever is in it. Nesting takes a byte a level, no stack.
    fn value(&mut self) -> Result<(), String> {
        let mut open = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.blanks();
                    if !self.take(b'}') {
                        open.push(b'}');
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.blanks();
                    if !self.take(b']') {
                        open.push(b']');
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                _ => self.plain()?,
            }
            if !self.next_in(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here and says whether another value follows.
    fn next_in(&mut self, open: &mut Vec<u8>) -> Result<bool, String> {
        while let Some(&closing) = open.last() {
            self.blanks();
            if self.take(b',') {
                if closing == b'}' {
                    self.key()?;
                }
                return Ok(true);
            }
            self.expect(closing)?;
            open.pop();
        }
        Ok(false)
    }

    /// A number or a word, Python's included.
    fn plain(&mut self) -> Result<(), String> {
        let rest = &self.bytes[self.at..];
        let belongs =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = rest.iter().position(|byte| !belongs(byte)).unwrap_or(rest.len());
        let word = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        let is_number =
            word.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit())
                && word.parse::<f64>().is_ok();
        let known = ["true", "false", "null", "NaN", "Infinity", "-Infinity"];
        if !is_number && !known.contains(&word) {
            return Err(self.wrong("a value"));
        }
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
