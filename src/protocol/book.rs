//! The authority's side of grants: the book, one row for each machine id, and what a question does to it.
//!
//! A book that has lost what it said must not give a number that somebody still has: one that is new or was restored
//! from a dump, one of a server that was set back to an earlier time. The first is seen by who opens it. The second is
//! seen by the members, who show what they hold with every question: what the book has lost is put back, and from then
//! on no grant begins before the longest one that may be unknown has ended. So that they come first, nothing is
//! granted in the first [`GRACE`] after a start either. Grants that are known, and have not ended, are renewed all the
//! while.

use super::{
    Micros, SECOND,
    grants::{Answer, Ask, Incarnation, Question, Said},
};
use std::ops::RangeInclusive;

/// How long after its start a server grants nothing: so long members have to show what they hold.
pub const GRACE: Micros = 5 * SECOND;

/// A grant that has just been taken is not longer than this, and lasts as long again whenever it is renewed as it has
/// been held. A server that is begun anew each minute, and takes another number each time, does not use them up.
const FIRST: Micros = 600 * SECOND;

/// How many epochs a member can have skipped at once: no member can use them up.
const MAX_SKIP: u64 = 1 << 32;

/// One machine id in the book: the last grant of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub machine: u64,
    pub holder: Incarnation,
    /// As whom the holder asks.
    pub role: u32,
    pub epoch: u64,
    pub from: Micros,
    /// Open: how far the holder may go. Closed: how far it went.
    pub until: Micros,
    pub open: bool,
    /// The authority's clock when it was taken, and when the holder was last heard.
    pub taken: Micros,
    pub seen: Micros,
    /// What the holder is to show next, what it showed last, and in which attempt.
    pub token: u64,
    pub shown: u64,
    pub attempt: u64,
}

/// What the authority allows.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The numbers that may be given.
    pub machines: RangeInclusive<u64>,
    /// The authority's own, which is nobody else's.
    pub own: Option<u64>,
    pub length: Micros,
    /// How much of the [`GRACE`] is left.
    pub grace: Micros,
    /// The authority's wall clock. A member whose wall clock is further than this from it is refused: it would burn the space.
    pub wall: Micros,
    pub max_clock_offset: Micros,
}

impl Limits {
    /// The end of a grant of that `length` for a member whose effective clock shows `clock`; no grant ends later than what the
    /// largest clock gets.
    pub fn until(&self, clock: Micros, length: Micros, own: Micros) -> Micros {
        let longest = own.min(self.wall).saturating_add(self.length).saturating_add(self.max_clock_offset);
        clock.saturating_add(length).min(longest)
    }
}

/// Why a question is not answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The member's wall clock is so far ahead of the authority's; negative: behind.
    Clock { ahead: Micros },
    /// The wall clock is right, but the effective clock is so far ahead that no grant reaches it.
    Ids { ahead: Micros },
    /// All numbers are in use; the first is free again at `earliest`, if nobody renews.
    NoneFree { earliest: Micros },
    /// Numbers may be in use that the book does not know of, for so long.
    Unsettled { left: Micros },
}

/// All that an authority knows.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// No other has it, and it is not 0.
    pub id: u64,
    pub rows: Vec<Row>,
    /// No grant begins before this.
    pub settles: Micros,
    /// An epoch that members knew of when they had none in the book.
    pub epoch: u64,
    /// The machine ids whose rows have changed.
    pub changed: Vec<u64>,
}

impl Book {
    /// Answers a question that came as `role`. `own` is the authority's clock and `random` a number that nobody can guess, another one each
    /// time. The answer may be sent once the rows that changed, `settles` and `epoch` are durable.
    pub fn answer(
        &mut self,
        question: &Question,
        role: u32,
        own: Micros,
        random: u64,
        limits: &Limits,
    ) -> Result<Answer, Refusal> {
        let Question { book, attempt, clock, wall, ask, .. } = *question;
        let is_release = matches!(ask, Ask::Release { .. });
        let off = wall.saturating_sub(limits.wall);
        if !is_release && off.saturating_abs() > limits.max_clock_offset {
            return Err(Refusal::Clock { ahead: off });
        }
        if book == self.id {
            self.put_back(question, role, own, limits);
        }
        // Who was ahead and is right again goes on above the ids that it has given.
        let ahead = clock.saturating_sub(own.min(limits.wall));
        if !is_release && ahead > limits.length.max(limits.max_clock_offset) {
            return Err(Refusal::Ids { ahead });
        }
        let row = match ask {
            Ask::Take { .. } => Some(self.take(question, role, own, random, limits)?),
            Ask::Renew { machine, epoch, .. } | Ask::Release { machine, epoch, .. } => {
                let known = self.row(machine).filter(|row| row.epoch == epoch).copied();
                // What has ended may have been granted to another, which this book may not know of; also by the clock of another
                // authority, which is no further from this one's than twice what each may be from the member's.
                let left = limits.grace.max(self.settles.saturating_sub(own));
                let ended = own.saturating_add(limits.max_clock_offset.saturating_mul(2));
                if left > 0
                    && matches!(ask, Ask::Renew { .. })
                    && known.is_some_and(|row| row.open && row.until <= ended)
                {
                    return Err(Refusal::Unsettled { left });
                }
                known.filter(|row| row.role == role).and_then(|row| change(row, question, own, random, limits))
            }
        };
        let said = row.map_or(Said::NotHeld, |row| {
            self.write(row);
            let Row { machine, epoch, from, until, token, .. } = row;
            if row.open { Said::Open { machine, epoch, from, until, token } } else { Said::Closed }
        });
        Ok(Answer { book: self.id, attempt, said })
    }

    fn row(&self, machine: u64) -> Option<&Row> {
        self.rows.iter().find(|row| row.machine == machine)
    }

    fn write(&mut self, row: Row) {
        match self.rows.iter_mut().find(|old| old.machine == row.machine) {
            Some(old) if *old == row => return,
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
        self.changed.push(row.machine);
    }

    fn highest_epoch(&self) -> u64 {
        self.rows.iter().map(|row| row.epoch).max().unwrap_or(0).max(self.epoch)
    }

    /// A row for who has none. One that the book gave in this attempt already is given again.
    fn take(&self, question: &Question, role: u32, own: Micros, random: u64, limits: &Limits) -> Result<Row, Refusal> {
        let Question { holder, attempt, clock, .. } = *question;
        let same = |row: &&Row| row.open && row.holder == holder && row.role == role && row.attempt == attempt;
        if let Some(row) = self.rows.iter().find(same) {
            return Ok(*row);
        }
        // Not before it is so by both clocks: what has not ended by the own clock nobody else was granted.
        let now = clock.min(own);
        let left = limits.grace.max(self.settles.saturating_sub(now));
        if left > 0 {
            return Err(Refusal::Unsettled { left });
        }
        let until = |machine: &u64| self.row(*machine).map_or(0, |row| row.until).max(self.settles);
        let mut machines = limits.machines.clone().filter(|machine| Some(*machine) != limits.own);
        let Some(machine) = machines.clone().find(|machine| until(machine) <= now) else {
            let earliest = machines.by_ref().map(|machine| until(&machine)).min().unwrap_or(Micros::MAX);
            return Err(Refusal::NoneFree { earliest });
        };
        Ok(Row {
            machine,
            holder,
            role,
            epoch: self.highest_epoch() + 1,
            from: until(&machine),
            until: limits.until(clock, limits.length.min(FIRST), own),
            open: true,
            taken: own,
            seen: own,
            token: random,
            shown: 0,
            attempt,
        })
    }

    /// Takes note of what a member of this book holds and the book has lost.
    fn put_back(&mut self, question: &Question, role: u32, own: Micros, limits: &Limits) {
        let epoch = question.ask.epoch();
        let same = |row: &&Row| row.epoch == epoch && row.holder == question.holder && row.role == role;
        // Of a number the book knows the last grant: a later one it has lost.
        let is_lost = match question.ask {
            Ask::Renew { machine, until, .. } => {
                self.row(machine).is_none_or(|row| row.epoch < epoch || same(&row) && row.until < until)
            }
            _ => epoch > self.highest_epoch(),
        };
        if !is_lost {
            return;
        }
        // Who holds nothing any more is evidence once, however often it asks.
        let highest = self.highest_epoch();
        self.epoch = highest.max(epoch.min(highest.saturating_add(MAX_SKIP)));
        // No grant is longer than this, unless it was made so since.
        let longest = limits.until(Micros::MAX, 0, own);
        self.settles = self.settles.max(longest);
        let Ask::Renew { machine, from, until, .. } = question.ask else { return };
        let free = self.row(machine).is_none_or(|row| row.until <= from || same(&row));
        if !free || !limits.machines.contains(&machine) || Some(machine) == limits.own {
            return;
        }
        // Who claims more than anyone was granted is refused, and the number left alone as long as anyone may have it.
        self.write(Row {
            machine,
            holder: question.holder,
            role,
            epoch,
            from,
            until: until.min(longest),
            open: until <= longest,
            taken: own,
            seen: own,
            token: question.token,
            shown: 0,
            attempt: 0,
        });
    }
}

/// The row after a renewal or a release by who may; none: it is not held.
fn change(row: Row, question: &Question, own: Micros, random: u64, limits: &Limits) -> Option<Row> {
    let Question { holder, token, attempt, clock, ask, .. } = *question;
    let again = attempt != 0 && attempt == row.attempt && token == row.shown;
    if row.holder != holder || token != row.token && !again {
        return None;
    }
    let row = if again { row } else { Row { token: random, shown: token, attempt, ..row } };
    match ask {
        Ask::Renew { .. } if !row.open || Some(row.machine) == limits.own => None,
        Ask::Release { reached, .. } if row.open => {
            let until = reached.clamp(row.from, row.until.max(row.from));
            Some(Row { until, open: false, seen: own, ..row })
        }
        Ask::Renew { .. } => {
            let length = limits.length.min(FIRST.max(own.saturating_sub(row.taken)));
            Some(Row { until: row.until.max(limits.until(clock, length, own)), seen: own, ..row })
        }
        _ => Some(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::grants::{Change, Member};
    use proptest::prelude::*;

    const DAY: Micros = 86_400 * SECOND;
    const NOON: Micros = 1_800_000_000 * SECOND;

    fn limits() -> Limits {
        Limits { machines: 0..=3, own: Some(0), length: DAY, grace: 0, wall: NOON, max_clock_offset: 10 * SECOND }
    }

    fn book() -> Book {
        Book { id: 7, ..Book::default() }
    }

    fn server(nonce: u64) -> Member {
        Member::new(Incarnation { system: 7, timeline: 1, nonce })
    }

    /// Numbers that are not used twice.
    fn random() -> u64 {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1000);
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn ask_with(
        book: &mut Book,
        member: &mut Member,
        ask: Ask,
        clock: Micros,
        limits: &Limits,
    ) -> Result<Change, Refusal> {
        let question = member.question(ask, clock, clock, random());
        let limits = Limits { wall: clock, ..limits.clone() };
        let answer = book.answer(&question, 1, clock, random(), &limits)?;
        Ok(member.accept(&answer, clock))
    }

    fn ask(book: &mut Book, member: &mut Member, ask: Ask, clock: Micros) -> Change {
        ask_with(book, member, ask, clock, &limits()).unwrap()
    }

    fn take(book: &mut Book, member: &mut Member, clock: Micros) -> (u64, u64, Micros) {
        assert_eq!(ask(book, member, Ask::Take { epoch: member.epoch }, clock), Change::Taken);
        let held = member.held.unwrap();
        (held.machine, held.epoch, held.from)
    }

    fn renew(book: &mut Book, member: &mut Member, clock: Micros) -> Change {
        let renewal = member.held.unwrap().renewal();
        ask(book, member, renewal, clock)
    }

    fn release(book: &mut Book, member: &mut Member, reached: Micros) {
        member.release(reached);
        let release = member.ask(reached).unwrap();
        assert_eq!(ask(book, member, release, reached), Change::Nothing);
        assert_eq!(member.released, None);
    }

    #[test]
    fn each_member_gets_another_number_and_none_that_of_the_authority() {
        let mut book = book();
        let machines = [1, 2, 3].map(|nonce| take(&mut book, &mut server(nonce), NOON).0);
        assert_eq!(machines, [1, 2, 3]);
        let refused = ask_with(&mut book, &mut server(4), Ask::Take { epoch: 0 }, NOON + 5, &limits());
        assert_eq!(refused, Err(Refusal::NoneFree { earliest: NOON + FIRST }));
        assert_eq!(take(&mut book, &mut server(4), NOON + FIRST), (1, 4, NOON + FIRST));
    }

    #[test]
    fn a_number_is_free_when_its_grant_has_ended_by_both_clocks() {
        let mut book = book();
        take(&mut book, &mut server(1), NOON);
        for (clock, own, machine) in [(0, -1, 2), (-1, 0, 3), (0, 0, 1)] {
            let question = server(9).question(Ask::Take { epoch: 0 }, NOON + FIRST + clock, NOON, random());
            let answer = book.answer(&question, 1, NOON + FIRST + own, random(), &limits()).unwrap();
            assert!(matches!(answer.said, Said::Open { machine: granted, .. } if granted == machine), "{answer:?}");
        }
    }

    #[test]
    fn a_released_number_is_given_again_from_where_it_ended_under_a_higher_epoch() {
        let (mut book, mut first) = (book(), server(1));
        take(&mut book, &mut first, NOON);
        take(&mut book, &mut server(2), NOON);
        let mut late = first.clone();
        release(&mut book, &mut first, NOON + SECOND);
        assert_eq!(take(&mut book, &mut server(3), NOON).0, 3, "not yet free");
        assert_eq!(take(&mut book, &mut server(4), NOON + SECOND), (1, 4, NOON + SECOND));
        assert_eq!(renew(&mut book, &mut late, NOON + SECOND), Change::Dropped);
    }

    #[test]
    fn a_question_whose_answer_was_lost_is_answered_again_to_who_asked_it_and_to_nobody_else() {
        let (mut book, mut member) = (book(), server(1));
        let question = member.question(Ask::Take { epoch: 0 }, NOON, NOON, random());
        let first = book.answer(&question, 1, NOON, random(), &limits()).unwrap();
        let again = member.question(Ask::Take { epoch: 0 }, NOON + SECOND, NOON + SECOND, random());
        assert_eq!(book.answer(&again, 1, NOON + SECOND, random(), &limits()), Ok(first));
        assert_eq!(member.accept(&first, NOON), Change::Taken);
        let renewal = member.held.unwrap().renewal();
        // A copy of its disk asks first, and it is the copy that goes on.
        let mut copy = member.clone();
        let question = copy.question(renewal, NOON, NOON, random());
        let lost = book.answer(&question, 1, NOON, random(), &limits()).unwrap();
        assert_eq!(renew(&mut book, &mut member, NOON), Change::Dropped);
        assert_eq!(book.answer(&question, 1, NOON, random(), &limits()), Ok(lost));
        assert_eq!(copy.accept(&lost, NOON), Change::Renewed);
        assert_eq!(copy.accept(&lost, NOON), Change::Nothing, "an answer that comes twice");
        assert_eq!(renew(&mut book, &mut copy, NOON), Change::Renewed);
        let other_role = copy.question(renewal, NOON, NOON, random());
        assert_eq!(book.answer(&other_role, 2, NOON, random(), &limits()).unwrap().said, Said::NotHeld);
        let guess = Question { attempt: 0, token: 0, ..question };
        assert_eq!(book.answer(&guess, 1, NOON, random(), &limits()).unwrap().said, Said::NotHeld);
    }

    #[test]
    fn a_copy_can_neither_end_nor_keep_the_grant_of_its_origin() {
        let (mut book, mut member) = (book(), server(1));
        take(&mut book, &mut member, NOON);
        let mut copy = member.clone();
        assert_eq!(renew(&mut book, &mut member, NOON), Change::Renewed);
        release(&mut book, &mut copy, NOON);
        assert!(book.rows[0].open);
        assert_eq!(renew(&mut book, &mut member, NOON), Change::Renewed);
    }

    #[test]
    fn a_grant_lasts_as_long_again_as_it_has_been_held_up_to_its_full_length() {
        let (mut book, mut member) = (book(), server(1));
        take(&mut book, &mut member, NOON);
        let mut now = NOON;
        let mut lengths = vec![member.held.unwrap().length];
        while member.held.unwrap().length < DAY {
            now += member.held.unwrap().length / 2;
            assert_eq!(member.ask(now - 1), None);
            assert_eq!(renew(&mut book, &mut member, now), Change::Renewed);
            lengths.push(member.held.unwrap().length);
        }
        assert!(lengths[0] == FIRST && lengths.len() < 20, "{lengths:?}");
        assert!(now - NOON >= DAY);
    }

    #[test]
    fn a_clock_away_from_the_authoritys_cannot_burn_the_space() {
        let (mut book, mut member) = (book(), server(1));
        take(&mut book, &mut member, NOON);
        let renewal = member.held.unwrap().renewal();
        for away in [-11 * SECOND, 11 * SECOND, Micros::MAX - NOON] {
            for ask in [Ask::Take { epoch: 0 }, renewal] {
                let question = server(1).question(ask, NOON, NOON + away, random());
                let refused = Err(Refusal::Clock { ahead: away });
                assert_eq!(book.answer(&question, 1, NOON, random(), &limits()), refused);
            }
        }
        let question = server(1).question(renewal, NOON + DAY + 1, NOON, random());
        let refused = Err(Refusal::Ids { ahead: DAY + 1 });
        assert_eq!(book.answer(&question, 1, NOON, random(), &limits()), refused);
        let (until, mut other) = (book.rows[0].until, member.clone());
        other.released = Some((1, 1, Micros::MAX));
        other.held = None;
        let release = other.ask(NOON).unwrap();
        ask(&mut book, &mut other, release, NOON);
        assert_eq!((book.rows[0].until, book.rows[0].open), (until, false));
    }

    #[test]
    fn a_member_that_was_ahead_goes_on_above_its_ids_and_no_further_than_any_other() {
        let (mut book, mut member) = (book(), server(1));
        let limits = limits();
        for (ahead, until) in [(DAY / 2, NOON + DAY / 2 + FIRST), (DAY, NOON + DAY + limits.max_clock_offset)] {
            let question = member.question(member.ask(NOON + ahead).unwrap(), NOON + ahead, NOON, random());
            let answer = book.answer(&question, 1, NOON, random(), &limits).unwrap();
            member.accept(&answer, NOON + ahead);
            assert_eq!(member.held.unwrap().until, until);
        }
    }

    #[test]
    fn what_a_book_has_lost_is_put_back_and_nothing_else_granted_until_the_longest_grant_has_ended() {
        let (mut book, mut known, mut lost) = (book(), server(1), server(2));
        take(&mut book, &mut known, NOON);
        let mut restored = book.clone();
        take(&mut book, &mut lost, NOON);
        renew(&mut book, &mut known, NOON + FIRST / 2);
        let now = NOON + FIRST / 2;
        // A renewal that it does not know tells as well.
        assert_eq!(renew(&mut restored.clone(), &mut known.clone(), now), Change::Renewed);
        let mut other = restored.clone();
        renew(&mut other, &mut known, now);
        assert!(other.settles > now + DAY);
        // Of two that it has lost the later may come first.
        let mut later = server(5);
        take(&mut book, &mut later, NOON);
        let mut other = restored.clone();
        for (member, machine) in [(&mut later, 3), (&mut lost.clone(), 2)] {
            assert_eq!(renew(&mut other, member, now), Change::Renewed);
            assert_eq!(member.held.unwrap().machine, machine);
        }
        assert_eq!(renew(&mut restored, &mut lost, now), Change::Renewed);
        assert_eq!(lost.held.unwrap().machine, 2);
        let settles = restored.settles;
        let refused = ask_with(&mut restored, &mut server(3), Ask::Take { epoch: 0 }, now, &limits());
        assert_eq!(refused, Err(Refusal::Unsettled { left: DAY + 10 * SECOND }));
        assert_eq!(take(&mut restored, &mut server(3), settles).2, settles);
    }

    #[test]
    fn that_a_book_has_lost_something_is_noticed_once_and_then_it_settles() {
        let (mut book, mut member) = (book(), Member { book: 7, epoch: 9, ..server(1) });
        let take = Ask::Take { epoch: 9 };
        for later in 0..100 {
            let refused = ask_with(&mut book, &mut member, take, NOON + later * SECOND, &limits());
            assert_eq!(refused, Err(Refusal::Unsettled { left: DAY + (10 - later) * SECOND }));
        }
        assert_eq!(ask(&mut book, &mut member, take, NOON + DAY + 10 * SECOND), Change::Taken);
        assert_eq!(member.epoch, 10);
        let mut liar = Member { book: 7, ..server(2) };
        _ = ask_with(&mut book, &mut liar, Ask::Take { epoch: u64::MAX }, NOON, &limits());
        assert_eq!(book.epoch, 10 + MAX_SKIP, "none can use the epochs up");
    }

    #[test]
    fn who_claims_what_another_has_or_more_than_anyone_was_granted_is_refused() {
        let (mut book, mut member) = (book(), server(1));
        take(&mut book, &mut member, NOON);
        let mut liar = Member { book: 7, ..server(2) };
        let claim = |machine, from, until| Ask::Renew { machine, epoch: 9, from, until };
        for (machine, from, until) in
            [(1, 0, NOON + DAY), (1, NOON, NOON + DAY), (9, 0, NOON), (0, 0, NOON + DAY), (2, 0, Micros::MAX)]
        {
            ask(&mut book, &mut liar, claim(machine, from, until), NOON);
            assert_eq!(liar.held, None);
        }
        assert_eq!(renew(&mut book, &mut member, NOON), Change::Renewed);
        // The number that was claimed for too long is left alone as long as any grant.
        assert_eq!(book.row(2).map(|row| (row.open, row.until)), Some((false, NOON + DAY + 10 * SECOND)));
    }

    #[test]
    fn a_member_of_another_book_is_no_evidence_and_takes_a_number_of_this_one() {
        let [mut old, mut new] = [book(), Book { id: 8, ..Book::default() }];
        let mut member = server(1);
        for _ in 0..3 {
            take(&mut old, &mut member, NOON);
            release(&mut old, &mut member, NOON);
        }
        take(&mut old, &mut member, NOON);
        assert_eq!(renew(&mut new, &mut member, NOON), Change::Dropped);
        assert_eq!(new.settles, 0);
        assert_eq!(take(&mut new, &mut member, NOON), (1, 1, 0));
    }

    #[test]
    fn nothing_is_granted_in_the_grace_after_a_start_and_what_is_held_is_renewed() {
        let (mut book, mut member) = (book(), server(1));
        take(&mut book, &mut member, NOON);
        let limits = Limits { grace: SECOND, ..limits() };
        let refused = ask_with(&mut book, &mut server(2), Ask::Take { epoch: 0 }, NOON, &limits);
        assert_eq!(refused, Err(Refusal::Unsettled { left: SECOND }));
        let renewal = member.held.unwrap().renewal();
        assert_eq!(ask_with(&mut book, &mut member, renewal, NOON, &limits), Ok(Change::Renewed));
        // What has ended may be another's by now.
        let ended = ask_with(&mut book, &mut member, renewal, NOON + FIRST, &limits);
        assert_eq!(ended, Err(Refusal::Unsettled { left: SECOND }));
        assert_eq!(renew(&mut book, &mut member, NOON + FIRST), Change::Renewed);
    }

    proptest! {
        /// Questions come in any order, late and repeated, from members with any clock, copies and liars among them.
        #[test]
        fn the_times_of_one_number_are_never_granted_twice(
            steps in proptest::collection::vec((0usize..6, 0u8..5, 0u64..4, -12 * SECOND..12 * SECOND), 1..200),
        ) {
            // Of each grant ever made: how far it can have been used.
            let mut granted: Vec<Row> = vec![];
            let (mut book, mut now) = (book(), NOON);
            let mut members: Vec<Member> = (0..6).map(server).collect();
            let limits = Limits { length: 20 * SECOND, ..limits() };
            for (who, what, pick, off) in steps {
                now += SECOND;
                let mut member = members[who].clone();
                let ask = match what {
                    0 => Ask::Take { epoch: member.epoch },
                    1 => member.held.map_or(Ask::Take { epoch: 0 }, |held| held.renewal()),
                    2 => Ask::Release { machine: pick, epoch: pick, reached: now + off },
                    3 => Ask::Renew { machine: pick, epoch: 1 + pick * 7, from: now + off, until: now + 2 * off },
                    _ => {
                        members[who] = members[pick as usize].clone();
                        continue;
                    }
                };
                let question = member.question(ask, now + off, now, random());
                let limits = Limits { wall: now, ..limits.clone() };
                let Ok(answer) = book.answer(&question, 1, now, random(), &limits) else { continue };
                if off % 3 != 0 {
                    member.accept(&answer, now + off);
                }
                members[who] = member;
                for machine in std::mem::take(&mut book.changed) {
                    let row = *book.row(machine).unwrap();
                    prop_assert!(row.until <= now + 20 * SECOND + 20 * SECOND);
                    granted.retain(|old| old.epoch != row.epoch || old.holder != row.holder);
                    for old in granted.iter().filter(|old| old.machine == row.machine) {
                        prop_assert!(old.until <= row.from || row.until <= old.from, "{old:?} {row:?}");
                    }
                    granted.push(row);
                }
            }
        }
    }
}
