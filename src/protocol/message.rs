//! What gossip says: a claim, clocks, and what was heard of others, as one line of text.

use super::{Micros, grants::Incarnation, words::Words};
use std::{fmt, str::FromStr};

/// How many others a message tells of at most.
pub const MAX_HEARD: usize = 32;

/// A server says that a machine id is its own. Kept on disk: a restart is no new claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub machine: u64,
    pub by: Incarnation,
    /// The epoch of the grant that it rests on; 0: it rests on a setting.
    pub epoch: u64,
    /// The claimer's wall clock: when a superuser took the machine id over for it (0: never), and when it made the claim.
    pub taken_over: Micros,
    pub since: Micros,
}

/// What a server tells of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub claim: Claim,
    /// How long ago it was known to be alive.
    pub age: Micros,
    /// Its ids older than this are below the teller's highest stamp; None: unknown.
    pub behind: Option<Micros>,
}

/// Question or answer. Its text form is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub claim: Claim,
    pub wall: Micros,
    /// The end of the tick of the highest stamp given out or skipped.
    pub reach: Micros,
    pub heard: Vec<Heard>,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claim { machine, by: Incarnation { system, timeline, nonce }, epoch, taken_over, since } = self;
        write!(f, "{machine} {system:x} {timeline} {nonce:x} {epoch} {taken_over} {since}")
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idgen1 {} {} {}", self.claim, self.wall, self.reach)?;
        for Heard { claim, age, behind } in &self.heard {
            // -1: unknown.
            write!(f, ";{claim} {age} {}", behind.unwrap_or(-1))?;
        }
        Ok(())
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Claim {
    type Err = String;

    fn from_str(text: &str) -> Result<Claim, String> {
        let mut words = Words::of(text);
        let claim = read_claim(&mut words)?;
        words.end().map(|()| claim)
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Message {
    type Err = String;

    fn from_str(text: &str) -> Result<Message, String> {
        let mut parts = text.split(';').map(Words::of);
        let mut first = parts.next().filter(|_| text.starts_with("idgen1 ")).ok_or("it does not begin with idgen1")?;
        _ = first.word("version");
        let (claim, wall, reach) =
            (read_claim(&mut first)?, first.number("wall clock")?, first.number("highest stamp")?);
        first.end()?;
        let mut heard = Vec::new();
        for mut part in parts {
            if heard.len() == MAX_HEARD {
                return Err(format!("it tells of more than {MAX_HEARD} others"));
            }
            let (claim, age, behind) = (read_claim(&mut part)?, part.number("age")?, part.number("order bound")?);
            part.end()?;
            heard.push(Heard { claim, age, behind: Some(behind).filter(|behind| *behind >= 0) });
        }
        Ok(Message { claim, wall, reach, heard })
    }
}

fn read_claim(words: &mut Words) -> Result<Claim, String> {
    Ok(Claim {
        machine: words.number("machine id")?,
        by: Incarnation {
            system: words.hex("system identifier")?,
            timeline: words.number("timeline")?,
            nonce: words.hex("nonce")?,
        },
        epoch: words.number("epoch")?,
        taken_over: words.number("take-over time")?,
        since: words.number("claim time")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SECOND;
    use proptest::prelude::*;

    const HOUR: Micros = 3600 * SECOND;
    const NOON: Micros = 1_800_000_000 * SECOND;

    #[test]
    fn a_message_is_one_bounded_line_and_what_is_none_is_refused_in_words() {
        let by = Incarnation { system: u64::MAX, timeline: 1, nonce: u64::MAX };
        let claim = Claim { machine: 1023, by, epoch: 1 << 30, taken_over: NOON, since: NOON };
        let heard = vec![Heard { claim, age: HOUR, behind: Some(HOUR) }; MAX_HEARD];
        let text = Message { claim, wall: NOON, reach: NOON, heard }.to_string();
        assert!(text.len() < 4096 && !text.contains('\n'), "{} bytes", text.len());
        for (text, error) in [
            ("", "it does not begin with idgen1"),
            ("idgen1 5", "the system identifier is missing"),
            ("idgen1 5 x", "the system identifier is not hexadecimal: x"),
            ("idgen1 5 a 1 b 0 0 1 2 3 4", "4 is one word too many"),
            (
                "idgen1 5 a 1 b 0 0 1 2 99999999999999999999",
                "the highest stamp is not a number in range: 99999999999999999999",
            ),
            ("idgen1 5 a 1 b 0 0 1 2 3;", "the machine id is missing"),
        ] {
            assert_eq!(text.parse::<Message>(), Err(error.to_string()));
        }
        let long = format!("idgen1 5 a 1 b 0 0 1 2 3{}", ";5 a 1 b 0 0 1 2 3".repeat(MAX_HEARD + 1));
        assert_eq!(long.parse::<Message>(), Err("it tells of more than 32 others".to_string()));
    }

    proptest! {
        #[test]
        fn every_message_is_read_as_it_was_written(
            numbers in proptest::collection::vec(any::<(u64, u32, i64, i64)>(), 1..MAX_HEARD),
        ) {
            let claim = |(a, b, c, d): (u64, u32, i64, i64)| Claim {
                machine: a, by: Incarnation { system: a, timeline: b, nonce: d as u64 }, epoch: a, taken_over: d, since: c,
            };
            let tell = |n: &(u64, u32, i64, i64)| Heard { claim: claim(*n), age: n.2, behind: Some(n.3).filter(|n| *n >= 0) };
            let heard = numbers.iter().map(tell).collect();
            let message = Message { claim: claim(numbers[0]), wall: numbers[0].2, reach: numbers[0].3, heard };
            prop_assert_eq!(message.to_string().parse(), Ok(message));
        }
    }
}
