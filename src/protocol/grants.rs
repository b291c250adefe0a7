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
//! The authority decides over the rows of its book, which it holds locked; it answers with the row as a second look
//! finds it, once that is flushed and on its synchronous standby. The epoch counts over the whole book, so that of two
//! grants the later has the higher one, also when the number is another.

use super::Micros;
use std::{collections::BTreeMap, ops::RangeInclusive};

/// One life of a server: a promoted standby or clone has another timeline, a restart is the same life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// PostgreSQL's system identifier: shared by a primary, its standbys and its clones.
    pub system: u64,
    pub timeline: u32,
    /// Drawn once when the incarnation begins, and kept with its grant.
    pub nonce: u64,
}

/// One machine id in the book: the last grant of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub machine: u64,
    pub holder: Incarnation,
    pub epoch: u64,
    pub from: Micros,
    /// Open: how far the holder may go. Closed: how far it went.
    pub until: Micros,
    pub open: bool,
    /// Which of its takes the holder was answered with this row.
    pub request: u64,
    /// The authority's clock when the holder was last heard.
    pub seen: Micros,
}

/// What the authority allows.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The numbers that may be given. Those outside, the authority's own for one, are given by hand.
    pub machines: RangeInclusive<u64>,
    pub length: Micros,
    /// A member's clock further than this from the authority's is refused: it would burn the space.
    pub max_clock_offset: Micros,
}

/// Why the book was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The member's clock is so far ahead of the authority's; negative: behind.
    Clock { ahead: Micros },
    /// All numbers are in use; the first is free again at `earliest`, if nobody renews.
    NoneFree { earliest: Micros },
    /// The number is no longer this holder's under this epoch, and never will be again.
    NotHeld,
}

/// How many epochs a member can have skipped at once: no member can use them up.
const MAX_SKIP: u64 = 1 << 32;

fn near(clock: Micros, own: Micros, limits: &Limits) -> Result<(), Refusal> {
    let ahead = clock.saturating_sub(own);
    if ahead.saturating_abs() > limits.max_clock_offset { Err(Refusal::Clock { ahead }) } else { Ok(()) }
}

/// The row that a member gets: to be written in place of that of its machine id. A request that the book already
/// answers gets the same row, unless that was given back since. `clock` is the member's effective clock, `own` the
/// authority's, both now.
pub fn take(
    rows: &[Row],
    holder: Incarnation,
    request: u64,
    clock: Micros,
    own: Micros,
    limits: &Limits,
) -> Result<Row, Refusal> {
    near(clock, own, limits)?;
    if let Some(row) = rows.iter().find(|row| row.open && row.holder == holder && row.request == request) {
        return Ok(*row);
    }
    let used: BTreeMap<u64, Micros> = rows.iter().map(|row| (row.machine, row.until)).collect();
    let until = |machine: u64| used.get(&machine).copied().unwrap_or(0);
    let Some(machine) = limits.machines.clone().find(|machine| until(*machine) <= clock) else {
        let earliest = limits.machines.clone().map(until).min().unwrap_or(Micros::MAX);
        return Err(Refusal::NoneFree { earliest });
    };
    // A member that was another authority's, or whose authority was restored to an earlier time, knows higher epochs.
    let highest = rows.iter().map(|row| row.epoch).max().unwrap_or(0);
    Ok(Row {
        machine,
        holder,
        epoch: highest.max(request.min(highest.saturating_add(MAX_SKIP))) + 1,
        from: until(machine),
        until: clock.saturating_add(limits.length),
        open: true,
        request,
        seen: own,
    })
}

/// The member's row with a later `until`. Never further than a member with the furthest clock could take it.
pub fn renew(
    row: &Row,
    holder: Incarnation,
    epoch: u64,
    clock: Micros,
    own: Micros,
    limits: &Limits,
) -> Result<Row, Refusal> {
    if !row.open || row.holder != holder || row.epoch != epoch {
        return Err(Refusal::NotHeld);
    }
    near(clock, own, limits)?;
    Ok(Row { until: row.until.max(clock.saturating_add(limits.length)), seen: own, ..*row })
}

/// The member's row, closed where the member stood; a second time the same row again.
pub fn release(row: &Row, holder: Incarnation, epoch: u64, reached: Micros, own: Micros) -> Result<Row, Refusal> {
    if row.holder != holder || row.epoch != epoch {
        return Err(Refusal::NotHeld);
    }
    if !row.open {
        return Ok(*row);
    }
    Ok(Row { until: reached.clamp(row.from, row.until.max(row.from)), open: false, seen: own, ..*row })
}

/// What a member may use: the ids of `machine` whose ticks lie in [from, until).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub machine: u64,
    pub epoch: u64,
    pub from: Micros,
    pub until: Micros,
    /// How much of it was left when it was last moved on: renewed at half of that.
    pub length: Micros,
}

/// What a member asks of the authority. What is not answered is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Take { request: u64 },
    Renew { machine: u64, epoch: u64 },
    Release { machine: u64, epoch: u64, reached: Micros },
}

/// What an answer did to the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Dropped: stale, reordered, or not for this incarnation.
    Nothing,
    /// The bounds may follow `until`.
    Extended,
    /// A grant where none was. To be kept on disk, every `last` raised to `from`, then the bounds opened.
    Taken,
    /// The grant is gone: bounds are to be closed and every `last` raised before the next take.
    Dropped,
}

/// A server that gets its machine id from an authority. To be kept on disk as it is, before what it permits is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub me: Incarnation,
    /// The highest epoch ever accepted. It also numbers the takes: one that was answered without anyone hearing it
    /// is asked for again under its own number.
    pub epoch: u64,
    pub held: Option<Grant>,
    /// Given back, and not yet confirmed: machine, epoch, reached.
    pub released: Option<(u64, u64, Micros)>,
}

impl Member {
    pub fn new(me: Incarnation) -> Member {
        Member { me, epoch: 0, held: None, released: None }
    }

    /// What a server that starts goes on with: what was kept, if it was kept by the same incarnation.
    pub fn start(me: Incarnation, kept: Option<Member>) -> Member {
        kept.filter(|kept| kept.me == me).unwrap_or_else(|| Member::new(me))
    }

    /// What to ask now, if anything. `clock` is the effective clock.
    pub fn ask(&self, clock: Micros) -> Option<Ask> {
        if let Some((machine, epoch, reached)) = self.released {
            return Some(Ask::Release { machine, epoch, reached });
        }
        match self.held {
            None => Some(Ask::Take { request: self.epoch }),
            Some(held) if held.until.saturating_sub(clock) <= held.length / 2 => {
                Some(Ask::Renew { machine: held.machine, epoch: held.epoch })
            }
            Some(_) => None,
        }
    }

    /// Takes note of a row that the authority answered with, whenever it comes.
    pub fn accept(&mut self, row: &Row, clock: Micros) -> Change {
        if row.holder != self.me {
            return Change::Nothing;
        }
        if !row.open {
            self.released = self.released.filter(|(_, epoch, _)| *epoch != row.epoch);
            return Change::Nothing;
        }
        let length = row.until.saturating_sub(clock);
        match &mut self.held {
            Some(held) if held.epoch == row.epoch && row.until > held.until => {
                (held.until, held.length) = (row.until, length);
                Change::Extended
            }
            None if row.epoch > self.epoch => {
                let Row { machine, epoch, from, until, .. } = *row;
                self.held = Some(Grant { machine, epoch, from, until, length });
                self.epoch = row.epoch;
                Change::Taken
            }
            _ => Change::Nothing,
        }
    }

    /// Takes note that the authority does not know a grant, whenever it says so: an epoch that is gone stays gone.
    pub fn refused(&mut self, epoch: u64) -> Change {
        self.released = self.released.filter(|(_, released, _)| *released != epoch);
        match self.held {
            Some(held) if held.epoch == epoch => {
                self.held = None;
                Change::Dropped
            }
            _ => Change::Nothing,
        }
    }

    /// Gives the grant back. Before this the bounds were closed and every `last` raised to the next tick edge;
    /// `reached` is the highest of those.
    pub fn release(&mut self, reached: Micros) {
        if let Some(held) = self.held.take() {
            self.released = Some((held.machine, held.epoch, reached.clamp(held.from, held.until.max(held.from))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SECOND;
    use proptest::prelude::*;

    const DAY: Micros = 86_400 * SECOND;
    const NOON: Micros = 1_800_000_000 * SECOND;

    fn limits() -> Limits {
        Limits { machines: 0..=2, length: DAY, max_clock_offset: 10 * SECOND }
    }

    fn server(nonce: u64) -> Incarnation {
        Incarnation { system: 7, timeline: 1, nonce }
    }

    fn write(book: &mut Vec<Row>, row: Row) -> Row {
        book.retain(|old| old.machine != row.machine);
        book.push(row);
        row
    }

    fn taken(book: &mut Vec<Row>, holder: Incarnation, request: u64, at: Micros) -> Row {
        let row = take(book, holder, request, at, at, &limits()).unwrap();
        write(book, row)
    }

    #[test]
    fn a_request_seen_before_gets_the_same_row_again() {
        let mut book = vec![];
        let first = taken(&mut book, server(1), 0, NOON);
        assert_eq!(taken(&mut book, server(1), 0, NOON + SECOND), first);
        assert_eq!(taken(&mut book, server(2), 0, NOON).machine, 1);
    }

    #[test]
    fn a_released_number_is_given_again_from_where_it_ended_under_a_higher_epoch() {
        let mut book = vec![];
        let first = taken(&mut book, server(1), 0, NOON);
        taken(&mut book, server(2), 0, NOON);
        let closed = release(&first, server(1), first.epoch, NOON + SECOND, NOON).unwrap();
        write(&mut book, closed);
        assert_eq!(take(&book, server(3), 0, NOON, NOON, &limits()).unwrap().machine, 2, "not yet free");
        let again = taken(&mut book, server(3), 0, NOON + SECOND);
        assert_eq!((again.machine, again.epoch, again.from), (0, 3, NOON + SECOND));
        assert_eq!(renew(&again, server(1), first.epoch, NOON, NOON, &limits()), Err(Refusal::NotHeld));
        assert_eq!(release(&again, server(1), first.epoch, 0, NOON), Err(Refusal::NotHeld));
    }

    #[test]
    fn when_all_numbers_are_used_the_refusal_says_when_one_is_free() {
        let mut book = vec![];
        for n in 0..3 {
            taken(&mut book, server(n), 0, NOON + n as i64);
        }
        let refusal = take(&book, server(9), 0, NOON + 5, NOON, &limits()).unwrap_err();
        assert_eq!(refusal, Refusal::NoneFree { earliest: NOON + DAY });
        assert_eq!(taken(&mut book, server(9), 0, NOON + DAY).from, NOON + DAY);
    }

    #[test]
    fn a_clock_away_from_the_authoritys_cannot_burn_the_space() {
        let mut book = vec![];
        let row = taken(&mut book, server(1), 0, NOON);
        for away in [-11 * SECOND, 11 * SECOND, Micros::MAX - NOON] {
            let refused = Err(Refusal::Clock { ahead: away });
            assert_eq!(take(&book, server(2), 0, NOON + away, NOON, &limits()), refused);
            assert_eq!(renew(&row, server(1), row.epoch, NOON + away, NOON, &limits()), refused);
        }
        assert_eq!(release(&row, server(1), row.epoch, Micros::MAX, NOON).unwrap().until, row.until);
        assert_eq!(release(&row, server(1), row.epoch, Micros::MIN, NOON).unwrap().until, row.from);
    }

    #[test]
    fn a_member_renews_at_half_the_length_and_asks_until_it_is_answered() {
        let (mut book, mut member) = (vec![], Member::new(server(1)));
        assert_eq!(member.ask(NOON), Some(Ask::Take { request: 0 }));
        let row = taken(&mut book, server(1), 0, NOON);
        assert_eq!(member.accept(&row, NOON), Change::Taken);
        assert_eq!(member.ask(NOON + DAY / 2 - 1), None);
        let half = NOON + DAY / 2;
        let renewal = Some(Ask::Renew { machine: 0, epoch: 1 });
        assert_eq!((member.ask(half), member.ask(half + 1)), (renewal, renewal));
        let row = renew(&row, server(1), 1, half, half, &limits()).unwrap();
        assert_eq!(member.accept(&row, half), Change::Extended);
        assert_eq!((member.ask(half), member.held.unwrap().until), (None, half + DAY));
        member.release(half);
        assert_eq!(member.ask(half), Some(Ask::Release { machine: 0, epoch: 1, reached: half }));
        let row = release(&row, server(1), 1, half, half).unwrap();
        assert_eq!(member.accept(&row, half), Change::Nothing);
        assert_eq!(member.ask(half), Some(Ask::Take { request: 1 }));
    }

    #[test]
    fn a_member_that_another_book_knew_accepts_what_it_is_given_and_none_can_use_the_epochs_up() {
        let (mut old, mut new) = (vec![], vec![]);
        let mut member = Member::new(server(1));
        for _ in 0..3 {
            let row = taken(&mut old, server(1), member.epoch, NOON);
            assert_eq!(member.accept(&row, NOON), Change::Taken);
            member.refused(row.epoch);
        }
        let row = taken(&mut new, server(1), member.epoch, NOON);
        assert_eq!((member.accept(&row, NOON), row.epoch), (Change::Taken, 4));
        assert_eq!(taken(&mut new, server(2), u64::MAX, NOON).epoch, 5 + MAX_SKIP);
    }

    #[test]
    fn an_answer_that_comes_late_brings_nothing_back() {
        let (mut book, mut member) = (vec![], Member::new(server(1)));
        let row = taken(&mut book, server(1), 0, NOON);
        let renewed = renew(&row, server(1), 1, NOON + SECOND, NOON, &limits()).unwrap();
        assert_eq!(member.accept(&renewed, NOON), Change::Taken);
        assert_eq!(member.accept(&row, NOON), Change::Nothing, "an older until");
        assert_eq!(member.held.unwrap().until, renewed.until);
        member.release(NOON);
        assert_eq!(member.accept(&renewed, NOON), Change::Nothing, "released");
        assert_eq!(member.held, None);
        let mut promoted = Member::start(Incarnation { timeline: 2, ..server(1) }, Some(member));
        assert_eq!(promoted.accept(&renewed, NOON), Change::Nothing, "not for this incarnation");
        assert_eq!(promoted.refused(1), Change::Nothing);
    }

    #[test]
    fn a_grant_is_kept_over_a_restart_and_dropped_by_another_incarnation() {
        let (mut book, mut member) = (vec![], Member::new(server(1)));
        member.accept(&taken(&mut book, server(1), 0, NOON), NOON);
        assert_eq!(Member::start(server(1), Some(member.clone())), member);
        let promoted = Incarnation { timeline: 2, ..server(1) };
        assert_eq!(Member::start(promoted, Some(member.clone())), Member::new(promoted));
        assert_eq!(member.refused(1), Change::Dropped);
        assert_eq!(member.ask(NOON), Some(Ask::Take { request: 1 }));
    }

    proptest! {
        /// The book's requests come in any order, late and repeated, from members with any clock.
        #[test]
        fn the_times_of_one_number_are_never_granted_twice(
            steps in proptest::collection::vec((0u64..5, 0u8..3, 0u64..4, -12 * SECOND..12 * SECOND), 1..200),
        ) {
            // Of each grant ever made: how far it can have been used.
            let mut granted: Vec<Row> = vec![];
            let (mut book, mut now) = (vec![], NOON);
            let limits = Limits { length: 20 * SECOND, ..limits() };
            for (nonce, what, pick, off) in steps {
                now += SECOND;
                let holder = server(nonce);
                let old = granted.iter().filter(|row| row.holder == holder).nth(pick as usize).copied();
                let row = match (what, old) {
                    (0, _) | (_, None) => take(&book, holder, pick, now + off, now, &limits),
                    (1, Some(old)) => {
                        let row = book.iter().find(|row: &&Row| row.machine == old.machine).unwrap();
                        renew(row, holder, old.epoch, now + off, now, &limits)
                    }
                    (_, Some(old)) => {
                        let row = book.iter().find(|row: &&Row| row.machine == old.machine).unwrap();
                        release(row, holder, old.epoch, now + off, now)
                    }
                };
                let Ok(row) = row else { continue };
                write(&mut book, row);
                prop_assert!(row.until <= now + 22 * SECOND + 10 * SECOND);
                granted.retain(|old| old.epoch != row.epoch);
                for old in granted.iter().filter(|old| old.machine == row.machine) {
                    prop_assert!(old.until <= row.from || row.until <= old.from);
                    prop_assert_eq!(old.epoch < row.epoch, old.until <= row.from);
                }
                granted.push(row);
            }
        }
    }
}
