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

fn ask_with(book: &mut Book, member: &mut Member, ask: Ask, clock: Micros, limits: &Limits) -> Result<Change, Refusal> {
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
    // A copy of its disk asks first, so the copy goes on.
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
    // A renewal that the book does not know tells as well.
    assert_eq!(renew(&mut restored.clone(), &mut known.clone(), now), Change::Renewed);
    let mut other = restored.clone();
    renew(&mut other, &mut known, now);
    assert!(other.settles > now + DAY);
    // Of two grants that it has lost, the later may come first.
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
    // The number that was claimed for too long is left alone for as long as any grant.
    assert_eq!(book.row(2).map(|row| (row.open, row.until)), Some((false, NOON + DAY + 10 * SECOND)));
}

#[test]
fn what_no_member_can_hold_is_not_put_back_and_the_next_is_granted() {
    let (mut book, mut liar) = (book(), Member { book: 7, ..server(2) });
    let mut member = server(1);
    take(&mut book, &mut member, NOON);
    // A number that another has, from when it ends on.
    let held = book.row(1).copied();
    let (from, until) = (NOON + DAY, NOON + DAY + SECOND);
    ask(&mut book, &mut liar, Ask::Renew { machine: 1, epoch: 2, from, until }, NOON);
    assert_eq!((liar.held, book.row(1).copied()), (None, held));
    for epoch in [u64::MAX, 1 << 63] {
        ask(&mut book, &mut liar, Ask::Renew { machine: 2, epoch, from: 0, until: NOON }, NOON);
        assert_eq!((liar.held, book.row(2)), (None, None));
    }
    let later = NOON + 2 * DAY;
    assert_eq!(take(&mut book, &mut server(1), later), (1, 2 * MAX_SKIP + 3, book.settles));
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
    // A grant that has ended may be another's by now.
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
        // For each grant ever made: how far it can have been used.
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
