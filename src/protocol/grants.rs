//! Grants: rectangles in id space, one machine id x a range of time, that never overlap. So no two servers can make
//! the same id, whatever their clocks, failovers and partitions do: the id is its own fencing token.
//!
//! ```text
//! authority                               member
//!   take     -> a row of the book           none held --take--> held --renewed at half its length--> held
//!   renew    -> its until moves on                               | released, refused, another incarnation
//!   release  -> closed where it ended       none held <----------+
//! ```
//!
//! Here is the member's side; the authority's is in [`super::book`].
//!
//! A member shows the token that the last answer brought, and every answer brings another: of two copies of a member, the one
//! that asks first goes on, and the other is refused. If an answer was lost, the question is asked again under the same
//! attempt, a number that is in no file: it tells the member from a copy.

use super::{Micros, words::Words};
use std::{fmt, str::FromStr};

/// One life of a server: a promoted standby or clone has another timeline, a restart is the same life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// PostgreSQL's system identifier: shared by a primary, its standbys and its clones.
    pub system: u64,
    pub timeline: u32,
    /// A hash of the boot of the machine and of the place of the data directory in it.
    pub nonce: u64,
}

/// What a member may use: the ids of `machine` whose ticks lie in [from, until).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub machine: u64,
    pub epoch: u64,
    pub from: Micros,
    pub until: Micros,
    /// How much of the grant was left when it was last extended: it is renewed at half of that.
    pub length: Micros,
}

/// What a member wants. It asks again until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// With the highest epoch that the member ever accepted.
    Take {
        epoch: u64,
    },
    /// With the whole grant, for a book that has lost it.
    Renew {
        machine: u64,
        epoch: u64,
        from: Micros,
        until: Micros,
    },
    Release {
        machine: u64,
        epoch: u64,
        reached: Micros,
    },
}

/// A question to the authority. Its text form is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub holder: Incarnation,
    /// The book that gave the member's grant; 0: none.
    pub book: u64,
    pub token: u64,
    pub attempt: u64,
    /// The member's effective clock, which may be ahead of a wall clock that was set back.
    pub clock: Micros,
    pub wall: Micros,
    pub ask: Ask,
}

/// What the book says of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is not held, and never will be again.
    NotHeld,
    /// It is closed.
    Closed,
    /// It is open, and `token` is to be shown next.
    Open { machine: u64, epoch: u64, from: Micros, until: Micros, token: u64 },
}

/// An answer of the authority, durable when it is sent. Its text form is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub book: u64,
    /// The attempt of the question.
    pub attempt: u64,
    pub said: Said,
}

/// What an answer did to the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: the answer is stale, repeated, or answers no open question.
    Nothing,
    /// The new `until` is to be kept on disk; the bounds may follow it.
    Renewed,
    /// A grant where none was: to be kept on disk, then every `last` raised to `from`, then the bounds opened.
    Taken,
    /// The grant is gone: the bounds are to be closed and every `last` raised before the next take.
    Dropped,
}

/// A server that gets its machine id from an authority. It is kept on disk before what it permits is used, except for its
/// open question: see [`Member::attempt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub me: Incarnation,
    pub book: u64,
    /// The highest epoch ever accepted from that book.
    pub epoch: u64,
    pub token: u64,
    pub held: Option<Grant>,
    /// Given back, and not yet confirmed: machine, epoch, reached.
    pub released: Option<(u64, u64, Micros)>,
    /// The attempt of the open question; 0: there is none. Never kept on disk.
    pub attempt: u64,
}

impl Member {
    pub fn new(me: Incarnation) -> Member {
        Member { me, book: 0, epoch: 0, token: 0, held: None, released: None, attempt: 0 }
    }

    /// The state of a server that starts: the one that was kept, if the same incarnation kept it.
    pub fn start(me: Incarnation, kept: Option<Member>) -> Member {
        kept.filter(|kept| kept.me == me).unwrap_or_else(|| Member::new(me))
    }

    /// What to ask now, if anything. `clock` is the effective clock.
    pub fn ask(&self, clock: Micros) -> Option<Ask> {
        if let Some((machine, epoch, reached)) = self.released {
            return Some(Ask::Release { machine, epoch, reached });
        }
        match self.held {
            None => Some(Ask::Take { epoch: self.epoch }),
            Some(held) if held.until.saturating_sub(clock) <= held.length / 2 => Some(held.renewal()),
            Some(_) => None,
        }
    }

    /// The question that is open from now on. `attempt` is a random number; a question that is asked again keeps its own.
    pub fn question(&mut self, ask: Ask, clock: Micros, wall: Micros, attempt: u64) -> Question {
        if self.attempt == 0 {
            self.attempt = attempt.max(1);
        }
        let Member { me: holder, book, token, attempt, .. } = *self;
        Question { holder, book, token, attempt, clock, wall, ask }
    }

    /// Takes note of an answer, whenever it comes.
    pub fn accept(&mut self, answer: &Answer, clock: Micros) -> Change {
        if self.attempt == 0 || answer.attempt != self.attempt {
            return Change::Nothing;
        }
        self.attempt = 0;
        if answer.book != self.book {
            // Epochs of different books cannot be compared.
            (self.book, self.epoch) = (answer.book, 0);
        }
        match (answer.said, &mut self.held) {
            (Said::Open { epoch, until, token, .. }, Some(held)) if epoch == held.epoch => {
                self.token = token;
                held.until = held.until.max(until);
                held.length = held.until.saturating_sub(clock);
                Change::Renewed
            }
            (Said::Open { machine, epoch, from, until, token }, None) if epoch > self.epoch => {
                self.held = Some(Grant { machine, epoch, from, until, length: until.saturating_sub(clock) });
                (self.epoch, self.token, self.released) = (epoch, token, None);
                Change::Taken
            }
            (Said::Open { epoch, token, .. }, _) => {
                // It was renewed while it was to be given back.
                if self.released.is_some_and(|(_, released, _)| released == epoch) {
                    self.token = token;
                }
                Change::Nothing
            }
            (Said::NotHeld | Said::Closed, None) => {
                self.released = None;
                Change::Nothing
            }
            (Said::NotHeld | Said::Closed, Some(_)) => {
                self.held = None;
                Change::Dropped
            }
        }
    }

    /// Gives the grant back. Before this the bounds must be closed, and every `last` raised to the next tick edge; `reached`
    /// is the highest of these edges.
    pub fn release(&mut self, reached: Micros) {
        if let Some(held) = self.held.take() {
            self.released = Some((held.machine, held.epoch, reached.clamp(held.from, held.until.max(held.from))));
        }
    }
}

impl Ask {
    /// An epoch that the member has accepted; 0: it has accepted none.
    pub fn epoch(&self) -> u64 {
        match self {
            Ask::Take { epoch } | Ask::Renew { epoch, .. } | Ask::Release { epoch, .. } => *epoch,
        }
    }
}

impl Grant {
    pub fn renewal(&self) -> Ask {
        let Grant { machine, epoch, from, until, .. } = *self;
        Ask::Renew { machine, epoch, from, until }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { holder: Incarnation { system, timeline, nonce }, book, token, attempt, clock, wall, ask } = self;
        write!(f, "idgen1 {system} {timeline} {nonce} {book} {token} {attempt} {clock} {wall} ")?;
        match ask {
            Ask::Take { epoch } => write!(f, "take {epoch}"),
            Ask::Renew { machine, epoch, from, until } => write!(f, "renew {machine} {epoch} {from} {until}"),
            Ask::Release { machine, epoch, reached } => write!(f, "release {machine} {epoch} {reached}"),
        }
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Question {
    type Err = String;

    fn from_str(text: &str) -> Result<Question, String> {
        let mut words = Words::of(text.strip_prefix("idgen1 ").ok_or("it does not begin with idgen1")?);
        let question = Question {
            holder: Incarnation {
                system: words.number("system identifier")?,
                timeline: words.number("timeline")?,
                nonce: words.number("nonce")?,
            },
            book: words.number("book")?,
            token: words.number("token")?,
            attempt: words.number("attempt")?,
            clock: words.number("clock")?,
            wall: words.number("wall clock")?,
            ask: match words.word("kind of question")? {
                "take" => Ask::Take { epoch: words.number("epoch")? },
                "renew" => {
                    let (machine, epoch) = (words.number("machine id")?, words.number("epoch")?);
                    let (from, until) = (words.number("beginning")?, words.number("end")?);
                    if from < 0 || until < from {
                        return Err(format!("it begins at {from} and ends at {until}"));
                    }
                    Ask::Renew { machine, epoch, from, until }
                }
                "release" => Ask::Release {
                    machine: words.number("machine id")?,
                    epoch: words.number("epoch")?,
                    reached: words.number("time reached")?,
                },
                other => return Err(format!("{other:.20} is no kind of question")),
            },
        };
        words.end().map(|()| question)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { book, attempt, said } = self;
        write!(f, "{book} {attempt} ")?;
        match said {
            Said::NotHeld => write!(f, "none"),
            Said::Closed => write!(f, "closed"),
            Said::Open { machine, epoch, from, until, token } => {
                write!(f, "open {machine} {epoch} {from} {until} {token}")
            }
        }
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Answer, String> {
        let mut words = Words::of(text);
        let answer = Answer {
            book: words.number("book")?,
            attempt: words.number("attempt")?,
            said: match words.word("state")? {
                "none" => Said::NotHeld,
                "closed" => Said::Closed,
                "open" => Said::Open {
                    machine: words.number("machine id")?,
                    epoch: words.number("epoch")?,
                    from: words.number("beginning")?,
                    until: words.number("end")?,
                    token: words.number("token")?,
                },
                other => return Err(format!("{other:.20} is no state")),
            },
        };
        words.end().map(|()| answer)
    }
}

#[cfg(test)]
mod tests;
