//! Strict ids: all callers of a server that wait for one generator go into the next round trip to the authority.
//!
//! ```text
//! caller --wait--> waiting --next--> in flight, as tickets of one request --answered--> served
//!                     ^                  |
//!                     +------------------+ too few stamps, or the connection was lost
//! ```
//!
//! An answer was made after its request was sent, so after the calls of the tickets in it began. The order rests on that: an
//! answer serves those tickets alone, never a caller that came later, and what is left over becomes a gap.

use super::Micros;
pub use crate::mechanism::allocator::Run;
use std::collections::VecDeque;

/// How many requests may be in flight. One alone would make a caller wait for up to two round trips.
const DEPTH: std::ops::RangeInclusive<usize> = 2..=16;

/// For each such part of the round trip one more request may be in flight; more would only make smaller batches.
const PACE: Micros = 250;

/// One wait of one caller. A slot's next wait has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub slot: u32,
    pub generation: u32,
    /// How many stamps the caller wants, at least 1.
    pub want: u32,
}

/// What is sent: `want` stamps of `generator`, answered under `number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub number: u64,
    pub generator: u32,
    pub want: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    generator: u32,
    sent: Micros,
    tickets: Vec<Ticket>,
}

/// The callers of one server that wait for strict ids, and the requests of its one connection.
#[derive(Debug, Default)]
pub struct Tickets {
    waiting: VecDeque<(u32, Ticket)>,
    flights: VecDeque<Flight>,
    number: u64,
    /// The shortest round trip of late. It falls at once and rises slowly.
    round_trip: Micros,
    /// Lists of tickets for reuse, so that a request allocates nothing.
    spare: Vec<Vec<Ticket>>,
}

impl Tickets {
    /// A caller waits. To be called once for each slot and generation.
    pub fn wait(&mut self, generator: u32, ticket: Ticket) {
        self.waiting.push_back((generator, ticket));
    }

    /// A caller no longer waits. If its ticket is in flight, `deliver` will get stamps for it that nobody takes.
    pub fn cancel(&mut self, slot: u32, generation: u32) {
        self.waiting.retain(|(_, ticket)| (ticket.slot, ticket.generation) != (slot, generation));
    }

    /// How many callers wait for a request, and how many requests are in flight.
    pub fn len(&self) -> (usize, usize) {
        (self.waiting.len(), self.flights.len())
    }

    /// Whether there is nothing to send and nothing to hear.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// How many requests may be in flight.
    pub fn depth(&self) -> usize {
        usize::try_from(1 + self.round_trip / PACE).unwrap_or(1).clamp(*DEPTH.start(), *DEPTH.end())
    }

    /// The request to be sent now, if any: with every ticket that waits for the same generator as the first. `now` may be of
    /// any clock that does not go back.
    pub fn next(&mut self, now: Micros) -> Option<Request> {
        if self.flights.len() >= self.depth() {
            return None;
        }
        let generator = self.waiting.front()?.0;
        let mut tickets = self.spare.pop().unwrap_or_default();
        self.waiting.retain(|(of, ticket)| {
            if *of == generator {
                tickets.push(*ticket);
            }
            *of != generator
        });
        self.number += 1;
        let want = tickets.iter().map(|ticket| u64::from(ticket.want)).sum();
        self.flights.push_back(Flight { number: self.number, generator, sent: now, tickets });
        Some(Request { number: self.number, generator, want })
    }

    /// Takes the answer to a request, in whatever order the answers come. `deliver` hands stamps to a caller, at most as many
    /// as it wanted; if the caller is gone, they become a gap. Tickets that get none are asked for again.
    pub fn answered(&mut self, number: u64, run: Run, now: Micros, mut deliver: impl FnMut(Ticket, Run)) {
        let Some(mut flight) = self.land(number) else { return };
        let sample = (now - flight.sent).max(0);
        // Down at once, up slowly: a queue at the authority is no distance, and deeper flights would feed it.
        let slowly = self.round_trip + self.round_trip / 16 + 1;
        self.round_trip = if self.round_trip == 0 { sample } else { sample.min(slowly) };

        let (mut first, end) = (run.first, run.first.saturating_add(run.count));
        let mut served = 0;
        while first < end && served < flight.tickets.len() {
            let ticket = flight.tickets[served];
            let count = u64::from(ticket.want).min(end - first);
            deliver(ticket, Run { first, count, ..run });
            first += count;
            served += 1;
        }
        flight.tickets.drain(..served);
        self.again(flight);
    }

    /// The authority refused a request for good: `deliver` tells its callers.
    pub fn failed(&mut self, number: u64, mut deliver: impl FnMut(Ticket)) {
        if let Some(mut flight) = self.land(number) {
            flight.tickets.drain(..).for_each(&mut deliver);
            self.spare.push(flight.tickets);
        }
    }

    /// The connection is gone, with every request in flight: their tickets are asked for again.
    pub fn lost(&mut self) {
        while let Some(flight) = self.flights.pop_back() {
            self.again(flight);
        }
        self.round_trip = 0;
    }

    fn land(&mut self, number: u64) -> Option<Flight> {
        let place = self.flights.iter().position(|flight| flight.number == number)?;
        self.flights.remove(place)
    }

    /// Puts the tickets that are left of a flight before all others.
    fn again(&mut self, mut flight: Flight) {
        while let Some(ticket) = flight.tickets.pop() {
            self.waiting.push_front((flight.generator, ticket));
        }
        self.spare.push(flight.tickets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ticket(slot: u32, want: u32) -> Ticket {
        Ticket { slot, generation: 1, want }
    }

    fn run(first: u64, count: u64) -> Run {
        Run { first, count, machine: 5 }
    }

    /// For each slot that was served, its first stamp and how many it got.
    fn answer(tickets: &mut Tickets, number: u64, run: Run, now: Micros) -> Vec<(u32, u64, u64)> {
        let mut served = vec![];
        tickets.answered(number, run, now, |ticket, run| served.push((ticket.slot, run.first, run.count)));
        served
    }

    #[test]
    fn all_who_wait_go_into_one_request_and_a_thousand_ids_are_one_too() {
        let mut tickets = Tickets::default();
        (0..64).for_each(|slot| tickets.wait(3, ticket(slot, 1)));
        tickets.wait(3, ticket(64, 1000));
        assert_eq!(tickets.next(0), Some(Request { number: 1, generator: 3, want: 1064 }));
        tickets.wait(3, ticket(65, 1));
        assert_eq!(tickets.next(0).map(|request| request.want), Some(1));
        tickets.wait(3, ticket(66, 1));
        assert_eq!(tickets.next(0), None, "two in flight");
        let served = answer(&mut tickets, 1, run(100, 1064), 50);
        assert_eq!((served[0], served[64], served.len()), ((0, 100, 1), (64, 164, 1000), 65));
        assert_eq!(tickets.next(50).map(|request| request.want), Some(1));
    }

    #[test]
    fn an_answer_serves_its_own_tickets_also_late_and_the_rest_is_a_gap() {
        let mut tickets = Tickets { round_trip: 10 * PACE, ..Tickets::default() };
        tickets.wait(0, ticket(1, 1));
        tickets.next(0).unwrap();
        tickets.wait(0, ticket(2, 1));
        tickets.next(1).unwrap();
        assert_eq!(answer(&mut tickets, 2, run(20, 5), 9), [(2, 20, 1)]);
        tickets.wait(0, ticket(3, 1));
        assert_eq!(answer(&mut tickets, 1, run(10, 5), 99), [(1, 10, 1)]);
        assert_eq!(answer(&mut tickets, 1, run(10, 5), 99), [], "twice");
        assert_eq!(tickets.len(), (1, 0));
    }

    #[test]
    fn who_got_nothing_is_asked_for_again_before_all_others() {
        let mut tickets = Tickets::default();
        (0..3).for_each(|slot| tickets.wait(0, ticket(slot, 2)));
        tickets.next(0).unwrap();
        tickets.wait(0, ticket(9, 2));
        assert_eq!(answer(&mut tickets, 1, run(10, 3), 1), [(0, 10, 2), (1, 12, 1)]);
        assert_eq!(tickets.next(1), Some(Request { number: 2, generator: 0, want: 4 }));
        assert_eq!(answer(&mut tickets, 2, run(20, 4), 3), [(2, 20, 2), (9, 22, 2)]);
    }

    #[test]
    fn the_queue_of_a_connection_dies_with_it_and_its_callers_are_asked_for_again() {
        let mut tickets = Tickets { round_trip: 10 * PACE, ..Tickets::default() };
        for slot in 0..2 {
            tickets.wait(0, ticket(slot, 1));
            tickets.next(0).unwrap();
        }
        tickets.lost();
        assert_eq!(answer(&mut tickets, 1, run(10, 1), 1), [], "an answer of the old connection");
        assert_eq!(tickets.next(1), Some(Request { number: 3, generator: 0, want: 2 }));
        assert_eq!(answer(&mut tickets, 3, run(20, 2), 2), [(0, 20, 1), (1, 21, 1)]);
    }

    #[test]
    fn requests_are_for_one_generator_and_a_cancelled_caller_is_not_asked_for() {
        let mut tickets = Tickets { round_trip: 10 * PACE, ..Tickets::default() };
        [7, 8, 7].iter().enumerate().for_each(|(slot, of)| tickets.wait(*of, ticket(slot as u32, 1)));
        tickets.cancel(2, 1);
        assert_eq!(tickets.next(0), Some(Request { number: 1, generator: 7, want: 1 }));
        assert_eq!(tickets.next(0), Some(Request { number: 2, generator: 8, want: 1 }));
        assert_eq!(tickets.next(0), None);
    }

    #[test]
    fn two_are_in_flight_on_a_short_way_and_up_to_sixteen_on_a_long_one() {
        for (round_trip, depth) in [(18, 2), (58, 2), (1000, 5), (100_000, 16)] {
            let mut tickets = Tickets::default();
            tickets.wait(0, ticket(0, 1));
            tickets.next(0).unwrap();
            answer(&mut tickets, 1, run(1, 1), round_trip);
            assert_eq!(tickets.depth(), depth, "round trip {round_trip}");
        }
    }

    proptest! {
        /// Any number of callers, answers in any order and of any size, refusals, and connections that die. No stamp goes to
        /// two callers or to one that did not wait, and each id is above all that were delivered before its caller came.
        #[test]
        fn each_caller_is_served_in_order_and_nobody_is_forgotten(
            steps in proptest::collection::vec((0u8..8, 0u64..8, 1u32..5), 1..300),
        ) {
            let mut tickets = Tickets { round_trip: 4 * PACE, ..Tickets::default() };
            let (mut came, mut delivered_to, mut stamp) = (BTreeMap::new(), 0, 0u64);
            // The authority answers in the order of arrival; answers then take any time.
            let mut answers: Vec<(u64, Run)> = vec![];
            let mut sent = vec![];
            for (slot, (what, pick, want)) in steps.into_iter().enumerate() {
                match what {
                    0..=2 => {
                        tickets.wait(0, ticket(slot as u32, want));
                        came.insert(slot as u32, delivered_to);
                    }
                    3 | 4 => sent.extend(tickets.next(slot as i64)),
                    5 if !sent.is_empty() => {
                        let request = sent.remove(pick as usize % sent.len());
                        let count = request.want.saturating_sub(pick / 2);
                        answers.push((request.number, run(stamp + 1, count)));
                        stamp += count;
                    }
                    6 if !answers.is_empty() => {
                        let (number, run) = answers.remove(pick as usize % answers.len());
                        let mut highest = delivered_to;
                        let mut failed = None;
                        tickets.answered(number, run, slot as i64, |ticket, run| {
                            let above = came.remove(&ticket.slot).is_some_and(|above| run.first > above);
                            if !above || run.count > u64::from(ticket.want) {
                                failed = Some((ticket, run));
                            }
                            highest = highest.max(run.first + run.count - 1);
                        });
                        prop_assert_eq!(failed, None);
                        delivered_to = highest;
                    }
                    7 if pick == 0 => tickets.lost(),
                    _ => (),
                }
            }
            tickets.lost();
            prop_assert_eq!(tickets.len().0, came.len());
        }
    }
}
