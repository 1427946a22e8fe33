//! A fast reader for JSON as programs usually write it: on one line, without escapes, with whole numbers.
//!
//! It does not decide what is valid. What it accepts, `serde_json` accepts with the same result. For anything else it
//! returns `None`, and its caller has `serde_json` read the whole text, which then decides whether the text is
//! valid.

use memchr::memchr;
use serde::de::IgnoredAny;

/// Integers of up to this many digits fit an `i64`.
const MAX_DIGITS: usize = 18;

/// Reads a text from its start to its end. After a `None`, it is of no more use.
#[derive(Debug)]
pub struct PlainJson<'a> {
    text: &'a str,
    /// The part of `text` that is not read yet.
    rest: &'a [u8],
}

impl<'a> PlainJson<'a> {
    /// A reader at the start of `text`. `None` if the text has a backslash or a control character, such as a line break:
    /// then a string ends at the next quote.
    pub fn new(text: &'a str) -> Option<Self> {
        let rest = text.as_bytes();
        let lowest = rest.iter().copied().fold(u8::MAX, u8::min);
        (lowest >= b' ' && memchr(b'\\', rest).is_none()).then_some(Self { text, rest })
    }

    /// Reads an object. Calls `read` with the name of each field, to read the field's value.
    #[inline]
    pub fn object(&mut self, mut read: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            self.take(b'"')?;
            let name = self.until_quote(short_memchr)?;
            self.take(b':')?;
            read(self, name)?;
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Reads an array. Calls `read` at the start of each element, to read it.
    #[inline]
    pub fn array(&mut self, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            return self.take(b']');
        }
        loop {
            read(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Reads a string.
    #[inline]
    pub fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.text.len() - self.rest.len();
        let length = self.until_quote(memchr)?.len();
        self.text.get(start..start + length)
    }

    /// Reads an integer of up to 18 digits without a sign. Of `1.5`, this is the 1; the next byte is then refused.
    #[inline]
    pub fn integer(&mut self) -> Option<i64> {
        let first = self.peek()?;
        let before = self.rest.len();
        let mut value = 0;
        if let Some((bytes, rest)) = self.rest.split_first_chunk()
            && let Some(digits) = eight_digits(*bytes)
        {
            (value, self.rest) = (i64::from(digits), rest);
        }
        while let [digit @ b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
            if before - rest.len() > MAX_DIGITS {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
        }
        let length = before - self.rest.len();
        // JSON has no leading zeros.
        (length == 1 || (length > 1 && first != b'0')).then_some(value)
    }

    /// Skips a value of any kind. `None` if it is not valid JSON.
    #[inline]
    pub fn skip(&mut self) -> Option<()> {
        self.peek()?;
        match self.rest {
            [b'"', rest @ ..] => {
                self.rest = rest;
                self.until_quote(memchr)?;
                Some(())
            }
            [b'[', b']', rest @ ..] => {
                self.rest = rest;
                Some(())
            }
            [b'1'..=b'9', digits @ ..] => {
                let length = digits.iter().position(|byte| !byte.is_ascii_digit())?;
                if matches!(digits[length], b'.' | b'e' | b'E') {
                    return self.skip_with_serde();
                }
                self.rest = &digits[length..];
                Some(())
            }
            _ => self.skip_with_serde(),
        }
    }

    /// Reads a value of any kind as its text.
    pub fn raw(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.text.len() - self.rest.len();
        self.skip()?;
        self.text.get(start..self.text.len() - self.rest.len())
    }

    /// Whether the next value is an object.
    pub fn starts_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Whether only white space follows.
    pub fn ends(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Skips a value that can be nested. `serde_json` does not recurse for it.
    #[cold]
    fn skip_with_serde(&mut self) -> Option<()> {
        let mut values = serde_json::Deserializer::from_slice(self.rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.rest = &self.rest[values.byte_offset()..];
        Some(())
    }

    /// Reads to the end of a string.
    #[inline]
    fn until_quote(&mut self, find: impl Fn(u8, &[u8]) -> Option<usize>) -> Option<&'a [u8]> {
        let (string, rest) = self.rest.split_at(find(b'"', self.rest)?);
        self.rest = &rest[1..];
        Some(string)
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.rest {
                [b' ', rest @ ..] => self.rest = rest,
                [byte, ..] => return Some(*byte),
                [] => return None,
            }
        }
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.rest = &self.rest[1..];
        Some(byte)
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }
}

/// `memchr` for a byte that is near. Eight bytes at a time, and without a call.
#[inline]
fn short_memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut start = 0;
    while let Some(eight) = bytes[start..].first_chunk() {
        // The byte becomes zero. The lowest bit of `zeros` is in the first byte that is zero.
        let differences = u64::from_le_bytes(*eight) ^ (ONES * u64::from(byte));
        let zeros = differences.wrapping_sub(ONES) & !differences & HIGH;
        if zeros != 0 {
            return Some(start + zeros.trailing_zeros() as usize / 8);
        }
        start += 8;
    }
    Some(start + bytes[start..].iter().position(|other| *other == byte)?)
}

/// The number that eight digits write. Neighbours are joined three times: to four numbers, to two, to one.
#[inline]
fn eight_digits(bytes: [u8; 8]) -> Option<u32> {
    if !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let ones = u64::from_le_bytes(bytes) & 0x0f0f_0f0f_0f0f_0f0f;
    let twos = ((ones * 10) + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = ((twos * 100) + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    Some(((fours * 10_000) + (fours >> 32)) as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The strings, integers and names of a text, or `None` if it is not plain.
    fn read(text: &str) -> Option<Vec<String>> {
        fn read_value(json: &mut PlainJson<'_>, found: &mut Vec<String>) -> Option<()> {
            match json.peek()? {
                b'{' => json.object(|json, name| {
                    found.push(String::from_utf8(name.to_vec()).unwrap());
                    read_value(json, found)
                }),
                b'[' => json.array(|json| read_value(json, found)),
                b'"' => json.string().map(|string| found.push(string.to_owned())),
                b'0'..=b'9' => json.integer().map(|integer| found.push(integer.to_string())),
                _ => json.skip(),
            }
        }
        let mut found = Vec::new();
        let mut json = PlainJson::new(text)?;
        read_value(&mut json, &mut found)?;
        json.ends().then_some(found)
    }

    fn skips(text: &str) -> bool {
        PlainJson::new(text).is_some_and(|mut json| json.skip().is_some() && json.ends())
    }

    #[test]
    fn the_parts_of_plain_json_are_read() {
        let text = r#" { "a" : 1234567890123 , "b" : [ "x" , "é😀" , [ ] , { } , null , 0 ] , "" : 12345678 } "#;
        assert_eq!(read(text).unwrap(), ["a", "1234567890123", "b", "x", "é😀", "0", "", "12345678"]);
        assert_eq!(read(&"9".repeat(18)).unwrap(), ["9".repeat(18)]);
    }

    #[test]
    fn what_is_not_plain_is_left_to_serde_json() {
        for text in [
            "",
            " ",
            "01",
            "00",
            "1.5",
            "1e3",
            "9223372036854775807",
            "\"a\\n\"",
            "\"\\\\\"",
            "[1,\n2]",
            "\"\u{1}\"",
            "[1 2]",
            "[1,]",
            "[,1]",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":}",
            "[1",
            "\"a",
            "{\"a\":1",
            "1 x",
            "[]]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn any_value_is_skipped() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["[1,-2.5e-3,{\"a\":[]}]", "-0", "0", "0.5", "true", "[ ]", "[[]]", "\"\"", "1e400 ", &deep] {
            assert!(skips(&format!("[{text}]")), "{text}");
        }
        assert!(!skips("[tru]") && !skips("[01]") && !skips("[1.]") && !skips("{1}") && !skips("[\"a]"));
    }

    #[test]
    fn a_value_is_read_as_its_text() {
        let values = ["1672131001", "-2.5e-3", "0", "\"a b\"", "[1, [2]]", "{\"a\" : 1}", "null", "true"];
        let text = format!("[ {} ]", values.join(" , "));
        let mut json = PlainJson::new(&text).unwrap();
        let mut read = Vec::new();
        json.array(|json| {
            let is_object = json.starts_object();
            read.push(json.raw()?);
            assert_eq!(is_object, read.last()?.starts_with('{'));
            Some(())
        })
        .unwrap();
        assert_eq!(read, values);
        assert_eq!(PlainJson::new("tru").unwrap().raw(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn serde_json_accepts_what_is_accepted_here(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\":", "\"", "\"b\"", " ", "0", "1", "12345678", "-", ".5", "e3", "null",
                    "é", "{}", "[]", "99999999999", "[1]", "\"c\":[2,3]", "{\"d\":0}",
                ]),
                0..12,
            ),
        ) {
            let text = parts.concat();
            let list = format!("[{text}]");
            let is_valid = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
            prop_assert!(!skips(&list) || is_valid(&list), "{}", list);
            prop_assert!(read(&text).is_none() || is_valid(&text), "{}", text);
        }

        #[test]
        fn integers_and_strings_are_read_as_serde_json_reads_them(integer in any::<u64>(), digits in 0u32..20, string in ".*") {
            let integer = integer / 10_u64.pow(digits.min(19));
            let text = format!("[{integer},{}]", Value::from(string));
            let values: Vec<Value> = serde_json::from_str(&text).unwrap();
            if let Some(read) = read(&text) {
                prop_assert_eq!(&read[0], &values[0].to_string());
                prop_assert_eq!(read[1].as_str(), values[1].as_str().unwrap());
            }
        }

        #[test]
        fn a_short_memchr_finds_what_memchr_finds(bytes in prop::collection::vec(prop::sample::select(vec![b'"', b'!', b'#', 0, 0xa2, 0x23]), 0..40)) {
            prop_assert_eq!(short_memchr(b'"', &bytes), memchr(b'"', &bytes));
        }
    }
}
