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
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn found(line: &str, path: &str) -> Option<String> {
        let object =
            Object::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        text(object.field(path)?).unwrap().map(|(text, _)| text)
    }

    #[test]
    fn fields_that_are_not_read_cost_nothing() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let odd = ["NaN", "-Infinity", "1e999", "-1E-9999", r#""\ud83d half""#, &deep];
        for odd in odd.into_iter().chain(["01", "1.", "1.e5", "\"a\tb\0c\""]) {
            let line = format!(r#"{{"odd": {odd}, "text": "kept", "more": [{odd}]}}"#);
            assert_eq!(found(&line, "text").unwrap(), "kept");
        }
        let bytes = b"{\"text\": \"kept\", \"odd\": \"caf\xe9\"}";
        let object = Object::parse(bytes).unwrap();
        assert_eq!(text(object.field("text").unwrap()).unwrap().unwrap().0, "kept");
        assert!(text(object.field("odd").unwrap()).unwrap_err().starts_with("is not UTF-8"));
    }

    #[test]
    fn the_last_of_a_name_counts_and_dots_reach_inside() {
        assert_eq!(found(r#"{"a":"1","a":"2"}"#, "a").unwrap(), "2");
        assert_eq!(found(r#"{"a":{"b":{"c":"3"}}}"#, "a.b.c").unwrap(), "3");
        assert_eq!(found(r#"{"a.b":"4","a":{"b":"5"}}"#, "a.b").unwrap(), "4");
        assert_eq!(found(r#"{"a":{"b":"6"},"a":7}"#, "a.b"), None);
        assert_eq!(found(r#"{"te\u0078t":"8"}"#, "text").unwrap(), "8");
        assert_eq!(found(r#"{"a":null}"#, "a"), None);
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_counted() {
        for (escaped, plain, count) in [
            (r"lone \ud83d half", "lone \u{fffd} half", 1),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}", 2),
            (r"\ud83d\ude00", "\u{1f600}", 0),
            (r"\ud83d\u0041", "\u{fffd}A", 1),
            (r"\n\u0000\/\\u", "\n\0/\\u", 0),
        ] {
            let value = format!("\"{escaped}\"");
            assert_eq!(text(value.as_bytes()).unwrap().unwrap(), (plain.to_owned(), count));
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        for (line, reason) in [
            (r#"{"a":1},"#, "is not JSON: byte 8 should be the end"),
            (r#"{"a":1}{"a":1}"#, "byte 8 should be the end"),
            (r#"{"a":"half"#, "it ends where `\"` should be"),
            (r#"{"a" 1}"#, "byte 6 should be `:`"),
            (r#"{"a":1,}"#, "byte 8 should be `\"`"),
            (r#"{"a":[1,]}"#, "should be a value"),
            (r#"{"a":nul}"#, "byte 6 should be a value"),
            (r#"{"a":"\x"}"#, "should be an escape"),
            (r#"{"a":"\u12"}"#, "should be an escape"),
            (r#"{"a":{"b":1]}"#, "byte 12 should be `}`"),
            ("[1, 2]", "is no JSON object"),
            ("", "it ends where a value should be"),
        ] {
            let error = Object::parse(line.as_bytes()).err().unwrap();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_serde_json_writes_is_read_as_it_was(
            wanted in ".*", before in value(), after in value(), pretty: bool
        ) {
            let whole = serde_json::json!({"before": before, "text": wanted, "zafter": after});
            let line = if pretty { format!("{whole:#}") } else { whole.to_string() };
            prop_assert_eq!(found(&line, "text").unwrap(), wanted);
        }

        #[test]
        fn what_serde_json_refuses_of_cut_objects_is_refused(inner in value(), cut in 0usize..400) {
            let whole = serde_json::json!({"text": "x", "inner": inner}).to_string();
            let cut = whole.floor_char_boundary(cut.min(whole.len()));
            let strict = serde_json::from_str::<Value>(&whole[..cut]).is_ok();
            prop_assert_eq!(Object::parse(&whole.as_bytes()[..cut]).is_ok(), strict);
        }
    }
}
