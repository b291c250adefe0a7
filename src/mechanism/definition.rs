//! What a generator is, as one line of text: its layout, and for a counter how many values are made durable at once.

use super::layout::Layout;
use std::{fmt, str::FromStr};

/// What never changes of a generator. Text form: that of [`Layout`], for a counter followed by ` flush:NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    pub layout: Layout,
    /// Of a counter: how many values a block has, 1 to 2^31. A crash skips at most the rest of the blocks in use.
    pub flush_every: u32,
}

const MAX_FLUSH_EVERY: u32 = 1 << 31;

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout.fmt(f)?;
        if self.layout.is_counter() { write!(f, " flush:{}", self.flush_every) } else { Ok(()) }
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Definition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (layout, flush) = match text.split_once(" flush:") {
            Some((layout, flush)) => (layout.parse::<Layout>()?, Some(flush)),
            None => (text.parse::<Layout>()?, None),
        };
        let flush_every = match (layout.is_counter(), flush) {
            (false, None) => 0,
            (false, Some(_)) => return Err("only a counter has flush".into()),
            (true, None) => return Err("flush is missing".into()),
            (true, Some(flush)) => flush
                .parse()
                .ok()
                .filter(|every| (1..=MAX_FLUSH_EVERY).contains(every))
                .ok_or_else(|| format!("flush is not between 1 and {MAX_FLUSH_EVERY}"))?,
        };
        Ok(Definition { layout, flush_every })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_a_definition() {
        for text in [
            "timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000",
            "timestamp:39 sequence:8 machine:16 epoch:1409529600000000 tick:10000",
            "counter:53 machine:10 flush:2147483648",
            "counter:63 flush:1",
        ] {
            assert_eq!(text.parse::<Definition>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn flush_belongs_to_counters_and_has_bounds() {
        for (text, why) in [
            ("timestamp:41 epoch:0 tick:1000 flush:50", "only a counter has flush"),
            ("counter:53 machine:10", "flush is missing"),
            ("counter:53 machine:10 flush:0", "flush is not between 1 and 2147483648"),
            ("counter:53 machine:10 flush:2147483649", "flush is not between 1 and 2147483648"),
            ("counter:53 machine:10 flush:x", "flush is not between 1 and 2147483648"),
        ] {
            assert_eq!(text.parse::<Definition>().unwrap_err(), why, "{text}");
        }
    }
}
