use super::*;
use crate::protocol::SECOND;
use proptest::prelude::*;

const DAY: Micros = 86_400 * SECOND;
const NOON: Micros = 1_800_000_000 * SECOND;
const ME: Incarnation = Incarnation { system: 7, timeline: 1, nonce: 3 };

/// The answer to what the member asks next.
fn answer(member: &mut Member, said: Said) -> Answer {
    let ask = member.ask(NOON).unwrap_or(Ask::Take { epoch: 0 });
    Answer { book: 9, attempt: member.question(ask, NOON, NOON, 5).attempt, said }
}

fn open(until: Micros) -> Said {
    Said::Open { machine: 4, epoch: 1, from: NOON, until, token: until as u64 }
}

#[test]
fn a_member_renews_at_half_the_length_and_asks_until_it_is_answered() {
    let mut member = Member::new(ME);
    assert_eq!(member.ask(NOON), Some(Ask::Take { epoch: 0 }));
    let taken = answer(&mut member, open(NOON + DAY));
    assert_eq!(member.accept(&taken, NOON), Change::Taken);
    assert_eq!(member.ask(NOON + DAY / 2 - 1), None);
    let half = NOON + DAY / 2;
    let renewal = Some(Ask::Renew { machine: 4, epoch: 1, from: NOON, until: NOON + DAY });
    assert_eq!((member.ask(half), member.ask(half + 1)), (renewal, renewal));
    let renewed = answer(&mut member, open(half + DAY));
    assert_eq!(member.accept(&renewed, half), Change::Renewed);
    assert_eq!((member.ask(half), member.held.unwrap().until), (None, half + DAY));
    member.release(half);
    assert_eq!(member.ask(half), Some(Ask::Release { machine: 4, epoch: 1, reached: half }));
    let closed = answer(&mut member, Said::Closed);
    assert_eq!(member.accept(&closed, half), Change::Nothing);
    assert_eq!(member.ask(half), Some(Ask::Take { epoch: 1 }));
}

#[test]
fn an_answer_that_comes_late_brings_nothing_back() {
    let mut member = Member::new(ME);
    let taken = answer(&mut member, open(NOON + DAY));
    assert_eq!(member.accept(&taken, NOON), Change::Taken);
    member.release(NOON);
    let late = Answer { attempt: 77, ..taken };
    assert_eq!((member.accept(&taken, NOON), member.accept(&late, NOON)), (Change::Nothing, Change::Nothing));
    member.released = None;
    let again = answer(&mut member, open(NOON + DAY));
    assert_eq!(member.accept(&again, NOON), Change::Nothing, "an epoch that it had");
    assert_eq!(member.held, None);
}

#[test]
fn a_grant_is_kept_over_a_restart_and_dropped_by_another_incarnation() {
    let mut member = Member::new(ME);
    let taken = answer(&mut member, open(NOON + DAY));
    member.accept(&taken, NOON);
    assert_eq!(Member::start(ME, Some(member.clone())), member);
    for other in [Incarnation { timeline: 2, ..ME }, Incarnation { nonce: 4, ..ME }] {
        assert_eq!(Member::start(other, Some(member.clone())), Member::new(other));
    }
    let refused = answer(&mut member, Said::NotHeld);
    assert_eq!(member.accept(&refused, NOON), Change::Dropped);
}

proptest! {
    #[test]
    fn questions_and_answers_are_read_as_they_were_written(
        n in any::<(u64, u32, u64, u64, u64, i64, i64)>(), kind in 0u8..3,
    ) {
        let (machine, epoch) = (n.0, n.2);
        let (from, until) = ((n.5 & i64::MAX).min(n.6 & i64::MAX), (n.5 & i64::MAX).max(n.6 & i64::MAX));
        let question = Question {
            holder: Incarnation { system: n.0, timeline: n.1, nonce: n.2 },
            book: n.3,
            token: n.4,
            attempt: n.0,
            clock: n.5,
            wall: n.6,
            ask: match kind {
                0 => Ask::Take { epoch },
                1 => Ask::Renew { machine, epoch, from, until },
                _ => Ask::Release { machine, epoch, reached: until },
            },
        };
        prop_assert_eq!(question.to_string().parse(), Ok(question));
        let said = match kind {
            0 => Said::NotHeld,
            1 => Said::Closed,
            _ => Said::Open { machine, epoch, from, until, token: n.4 },
        };
        let answer = Answer { book: n.3, attempt: n.4, said };
        prop_assert_eq!(answer.to_string().parse(), Ok(answer));
    }

    #[test]
    fn what_is_no_question_is_refused_in_words(text in "(idgen1 )?[0-9a-z -]{0,80}") {
        let read = text.parse::<Question>();
        prop_assert!(read.is_ok() || read.is_err_and(|why| !why.is_empty()));
    }

    #[test]
    fn a_grant_that_ends_before_it_begins_or_begins_before_1970_is_no_question(from in any::<i64>(), until in any::<i64>()) {
        let text = format!("idgen1 1 1 1 1 1 1 1 1 renew 5 1 {from} {until}");
        prop_assert_eq!(text.parse::<Question>().is_ok(), from >= 0 && until >= from);
    }
}
