//! Lines of text that servers send to each other, read word by word.

use std::str::FromStr;

/// The words of one part of a message.
pub(super) struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Words(text.split_ascii_whitespace())
    }

    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("the {what} is missing"))
    }

    pub(super) fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("the {what} is not a number in range: {word:.20}"))
    }

    pub(super) fn hex(&mut self, what: &str) -> Result<u64, String> {
        let word = self.word(what)?;
        u64::from_str_radix(word, 16).map_err(|_| format!("the {what} is not hexadecimal: {word:.20}"))
    }

    pub(super) fn end(mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |word| Err(format!("{word:.20} is one word too many")))
    }
}
