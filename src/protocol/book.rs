//! The authority's side of grants: the book, one row for each machine id, and what a question does to it.
//!
//! A book that has lost entries must not grant a number that a server still holds. There are two kinds: a book that is new or
//! was restored from a dump, and the book of a server that was set back to an earlier time. Whoever opens the book sees the
//! first kind. The members reveal the second, because they show what they hold with every question: what the book has lost is
//! put back, and from then on no grant begins before the longest one that may be unknown has ended. So that members can ask
//! first, nothing is granted in the first [`GRACE`] after a start. Grants that are known and have not ended are renewed all
//! the while.

use super::{
    Micros, SECOND,
    grants::{Answer, Ask, Incarnation, Question, Said},
};
use std::ops::RangeInclusive;

/// How long after its start a server grants nothing: this is the time that members have to show what they hold.
pub const GRACE: Micros = 5 * SECOND;

/// A new grant is not longer than this, and each renewal makes it last as long again as it has been held. So a server that is
/// made anew each minute, and takes another number each time, does not use the numbers up.
const FIRST: Micros = 600 * SECOND;

/// How many epochs one question can skip at most, so that no member uses them all up.
const MAX_SKIP: u64 = 1 << 32;

/// One machine id in the book: the last grant of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub machine: u64,
    pub holder: Incarnation,
    /// The role under which the holder asks.
    pub role: u32,
    pub epoch: u64,
    pub from: Micros,
    /// Open: how far the holder may go. Closed: how far it went.
    pub until: Micros,
    pub open: bool,
    /// The authority's clock when it was taken, and when the holder was last heard.
    pub taken: Micros,
    pub seen: Micros,
    /// The token that the holder is to show next, the one that it showed last, and its attempt then.
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
    /// The authority's wall clock. A member whose wall clock is too far from it is refused: it would use up future ids.
    pub wall: Micros,
    pub max_clock_offset: Micros,
}

impl Limits {
    /// The end of a grant of `length` for a member whose effective clock shows `clock`. No grant ends later than one for a
    /// member whose clock is as far ahead as allowed.
    pub fn until(&self, clock: Micros, length: Micros, own: Micros) -> Micros {
        let longest = own.min(self.wall).saturating_add(self.length).saturating_add(self.max_clock_offset);
        clock.saturating_add(length).min(longest)
    }
}

/// Why a question is not answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The member's wall clock is this far ahead of the authority's; negative: behind.
    Clock { ahead: Micros },
    /// The wall clock is right, but the effective clock is so far ahead that no grant reaches it.
    Ids { ahead: Micros },
    /// All numbers are in use; the first is free again at `earliest`, if nobody renews.
    NoneFree { earliest: Micros },
    /// Numbers may be in use that the book does not know of, for this long.
    Unsettled { left: Micros },
}

/// Everything that an authority knows.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// No other book has this number, and it is not 0.
    pub id: u64,
    pub rows: Vec<Row>,
    /// No grant begins before this.
    pub settles: Micros,
    /// The highest epoch that members knew of and the book did not.
    pub epoch: u64,
    /// The machine ids whose rows have changed.
    pub changed: Vec<u64>,
}

impl Book {
    /// Answers a question that came as `role`. `own` is the authority's clock; `random` is a number that nobody can guess,
    /// and another one each time. The answer may be sent when the changed rows, `settles` and `epoch` are durable.
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
        // A member that was ahead, and is right again, goes on above the ids that it has given.
        let ahead = clock.saturating_sub(own.min(limits.wall));
        if !is_release && ahead > limits.length.max(limits.max_clock_offset) {
            return Err(Refusal::Ids { ahead });
        }
        let row = match ask {
            Ask::Take { .. } => Some(self.take(question, role, own, random, limits)?),
            Ask::Renew { machine, epoch, .. } | Ask::Release { machine, epoch, .. } => {
                let known = self.row(machine).filter(|row| row.epoch == epoch).copied();
                // A grant that has ended, be it by another authority's clock, may be another member's by now, and this book
                // may not know. That clock is off from this one by at most twice what each may be off from the member's.
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

    /// A row for a member that has none. If the book gave one in this attempt already, it is given again.
    fn take(&self, question: &Question, role: u32, own: Micros, random: u64, limits: &Limits) -> Result<Row, Refusal> {
        let Question { holder, attempt, clock, .. } = *question;
        let same = |row: &&Row| row.open && row.holder == holder && row.role == role && row.attempt == attempt;
        if let Some(row) = self.rows.iter().find(same) {
            return Ok(*row);
        }
        // Free only by both clocks: while a grant lasts by the authority's own clock, nobody else was granted the number.
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

    /// Takes note of a grant that a member of this book holds and the book has lost.
    fn put_back(&mut self, question: &Question, role: u32, own: Micros, limits: &Limits) {
        let epoch = question.ask.epoch();
        let same = |row: &&Row| row.epoch == epoch && row.holder == question.holder && row.role == role;
        // For each number the book knows the last grant, so it has lost every later one.
        let is_lost = match question.ask {
            Ask::Renew { machine, until, .. } => {
                self.row(machine).is_none_or(|row| row.epoch < epoch || same(&row) && row.until < until)
            }
            _ => epoch > self.highest_epoch(),
        };
        if !is_lost {
            return;
        }
        // A member that holds nothing any more counts as evidence once, however often it asks.
        let highest = self.highest_epoch();
        self.epoch = highest.max(epoch.min(highest.saturating_add(MAX_SKIP)));
        // No grant is longer than this, unless settings have changed since.
        let longest = limits.until(Micros::MAX, 0, own);
        self.settles = self.settles.max(longest);
        let Ask::Renew { machine, from, until, .. } = question.ask else { return };
        let free = self.row(machine).is_none_or(|row| row.until <= from || same(&row));
        // No grant begins in the future, by whichever authority's clock.
        let is_possible = epoch <= self.epoch && from <= own.saturating_add(limits.max_clock_offset.saturating_mul(2));
        if !free || !is_possible || !limits.machines.contains(&machine) || Some(machine) == limits.own {
            return;
        }
        // A member that claims more than was ever granted is refused; its number is left alone while anyone may hold it.
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

/// The row after a renewal or a release by its holder; None: the asker does not hold it.
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
mod tests;
