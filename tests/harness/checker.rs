//! Reads a history and finds what breaks a promise. It knows the layout of ids by itself, not from idgen.

use super::clock::SECOND;
use super::history::{Call, Caller, History};
use super::sort::{CHUNK, sorted};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;

/// 2025-01-01 00:00:00 UTC, in nanoseconds since the Unix epoch.
const EPOCH: i64 = 1_735_689_600 * SECOND;

/// The beginning of the millisecond that an id of the server generator names, in nanoseconds since the Unix epoch.
pub fn time_of(id: i64) -> i64 {
    EPOCH + (id >> 22) * 1_000_000
}

pub fn machine_of(id: i64) -> i64 {
    id >> 12 & 1023
}

pub type Bounds<'a> = dyn Fn(&Caller, &Call) -> RangeInclusive<i64> + 'a;

/// What is asked of a history, besides that its ids are unique and in order on each server.
#[derive(Default)]
pub struct Rules<'a> {
    /// The ids have the server generator's layout, and the machine id of their caller.
    pub machine: bool,
    /// For each call, the range in which its timestamps must lie, in nanoseconds since the Unix epoch.
    pub honest: Option<&'a Bounds<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    Unique,
    Ordered,
    Machine,
    Honest,
}

/// The calls that break a promise, the earlier one first where there are two.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub calls: Vec<Call>,
    /// How many more there are.
    pub more: u64,
}

#[derive(Default)]
pub struct Report {
    /// Calls that returned ids; a call counts once for each run of its ids.
    pub calls: u64,
    pub ids: u64,
    pub lowest: i64,
    pub highest: i64,
    /// The longest of the calls, in nanoseconds.
    pub longest: i64,
    /// Calls that returned none, by SQLSTATE.
    pub failures: BTreeMap<String, u64>,
    /// The first violation of each promise.
    pub violations: BTreeMap<Promise, Violation>,
    callers: Vec<Caller>,
}

pub fn check(history: &History, rules: &Rules) -> Report {
    check_in_chunks(history, rules, CHUNK)
}

fn check_in_chunks(history: &History, rules: &Rules, chunk: usize) -> Report {
    let mut report = Report { callers: history.callers(), ..Report::default() };
    let by = |key| sorted(history.calls(), key, chunk, history.dir());
    report.sweep_by_id(by(|call| call.first), rules);
    report.sweep_by_time(by(|call| call.begin), by(|call| call.end));
    report
}

impl Report {
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "{self}");
        assert!(self.ids > 0, "the history has no ids");
    }

    /// In the order of the ids: an id that was given twice lies beside itself.
    fn sweep_by_id(&mut self, calls: impl Iterator<Item = Call>, rules: &Rules) {
        let mut highest: Option<Call> = None;
        for call in calls {
            if let Some(code) = call.failure() {
                *self.failures.entry(code).or_default() += 1;
                continue;
            }
            if highest.is_none() {
                self.lowest = call.first;
            }
            self.calls += 1;
            self.longest = self.longest.max(call.end - call.begin);
            self.ids += u64::from(call.count);
            if let Some(before) = highest.filter(|before| before.last() >= call.first) {
                let mut calls = [before, call];
                calls.sort_by_key(|call| call.begin);
                self.broken(Promise::Unique, &calls);
            }
            let caller = &self.callers[call.client as usize];
            let wrong_machine = |id| id < 0 || machine_of(id) != caller.machine;
            let wrong_machine = rules.machine && (wrong_machine(call.first) || wrong_machine(call.last()));
            let honest = rules.honest.map(|range| range(caller, &call));
            let within = |range: RangeInclusive<i64>| {
                range.contains(&time_of(call.first)) && range.contains(&time_of(call.last()))
            };
            if wrong_machine {
                self.broken(Promise::Machine, &[call]);
            }
            if !honest.is_none_or(within) {
                self.broken(Promise::Honest, &[call]);
            }
            if highest.is_none_or(|before| before.last() < call.last()) {
                highest = Some(call);
                self.highest = call.last();
            }
        }
    }

    /// In the order in which calls began: the ids of each lie above all that its server had returned by then.
    fn sweep_by_time(&mut self, begins: impl Iterator<Item = Call>, ends: impl Iterator<Item = Call>) {
        let servers: Vec<String> = self.callers.iter().map(|caller| caller.server.clone()).collect();
        let mut highest: HashMap<&str, Call> = HashMap::new();
        let mut ends = ends.filter(|call| call.count > 0).peekable();
        for call in begins.filter(|call| call.count > 0) {
            while let Some(returned) = ends.next_if(|other| other.end < call.begin) {
                let highest = highest.entry(&servers[returned.client as usize]).or_insert(returned);
                if highest.last() < returned.last() {
                    *highest = returned;
                }
            }
            if let Some(before) =
                highest.get(servers[call.client as usize].as_str()).filter(|before| before.last() >= call.first)
            {
                self.broken(Promise::Ordered, &[*before, call]);
            }
        }
    }

    fn broken(&mut self, promise: Promise, calls: &[Call]) {
        self.violations
            .entry(promise)
            .and_modify(|violation| violation.more += 1)
            .or_insert_with(|| Violation { calls: calls.to_vec(), more: 0 });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{} calls, {} ids, without an id by SQLSTATE: {:?}", self.calls, self.ids, self.failures)?;
        for (promise, violation) in &self.violations {
            writeln!(f, "not {promise:?} (and {} times more):", violation.more)?;
            for call in &violation.calls {
                let caller = &self.callers[call.client as usize];
                writeln!(
                    f,
                    "  ids {} to {} by client {} of {} on {}, machine id {}, from {} to {} ns",
                    call.first,
                    call.last(),
                    call.client,
                    caller.database,
                    caller.server,
                    caller.machine,
                    call.begin,
                    call.end
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres::error::SqlState;
    use proptest::prelude::*;

    /// A history of calls (client, begin, end, ids) by clients 0 and 1 of server a and 2 of server b, checked in chunks of two.
    fn report_of(calls: &[(usize, i64, i64, &[i64])], rules: &Rules) -> Report {
        let history = History::new();
        let mut clients = [("a", 1), ("a", 1), ("b", 2)].map(|(server, machine)| history.client(server, "d", machine));
        for (client, begin, end, ids) in calls {
            clients[*client].returned(*begin, *end, ids);
        }
        drop(clients);
        check_in_chunks(&history, rules, 2)
    }

    fn violations(calls: &[(usize, i64, i64, &[i64])], rules: &Rules) -> Vec<Promise> {
        report_of(calls, rules).violations.into_keys().collect()
    }

    const PLAIN: Rules = Rules { machine: false, honest: None };

    #[test]
    fn a_history_that_keeps_all_promises_is_clean() {
        let calls: &[(usize, i64, i64, &[i64])] =
            &[(0, 1, 4, &[10, 11, 14]), (1, 2, 3, &[12]), (1, 5, 6, &[15]), (0, 7, 8, &[20]), (2, 9, 10, &[1])];
        let report = report_of(calls, &PLAIN);
        report.assert_clean();
        assert_eq!((report.calls, report.ids, report.highest), (6, 7, 20));
    }

    #[test]
    fn an_id_given_twice_is_reported_with_both_calls() {
        let report = report_of(&[(0, 1, 2, &[1, 2, 3, 4]), (2, 5, 6, &[3]), (0, 7, 8, &[9])], &PLAIN);
        let violation = &report.violations[&Promise::Unique];
        assert_eq!((violation.calls[0].count, violation.calls[1].first, violation.more), (4, 3, 0));
    }

    #[test]
    fn an_id_inside_an_earlier_run_is_reported_also_when_a_shorter_run_lies_between() {
        assert_eq!(
            violations(&[(0, 1, 9, &[1, 2, 3, 4, 5]), (1, 1, 9, &[2]), (2, 1, 9, &[5])], &PLAIN),
            [Promise::Unique]
        );
        assert_eq!(
            report_of(&[(0, 1, 9, &[1, 2, 3, 4, 5]), (1, 1, 9, &[2]), (2, 1, 9, &[5])], &PLAIN).violations
                [&Promise::Unique]
                .more,
            1
        );
    }

    #[test]
    fn an_id_below_one_that_had_returned_is_reported_with_both_calls() {
        let report = report_of(&[(0, 1, 2, &[7]), (0, 3, 9, &[8]), (1, 4, 5, &[6])], &PLAIN);
        let violation = &report.violations[&Promise::Ordered];
        assert_eq!(violation.calls.iter().map(|call| call.first).collect::<Vec<_>>(), [7, 6]);
    }

    #[test]
    fn calls_that_overlap_may_return_in_any_order() {
        assert!(violations(&[(0, 1, 3, &[7]), (1, 3, 4, &[6]), (1, 5, 6, &[8])], &PLAIN).is_empty());
    }

    #[test]
    fn order_is_asked_of_each_server_by_itself() {
        assert!(violations(&[(0, 1, 2, &[7]), (2, 3, 4, &[6])], &PLAIN).is_empty());
    }

    #[test]
    fn another_machine_id_and_a_negative_id_are_reported() {
        let rules = Rules { machine: true, honest: None };
        let id = |machine: i64, sequence: i64| 5 << 22 | machine << 12 | sequence;
        assert!(violations(&[(0, 1, 2, &[id(1, 4094), id(1, 4095)]), (2, 1, 2, &[id(2, 0)])], &rules).is_empty());
        assert_eq!(violations(&[(2, 1, 2, &[id(1, 0)])], &rules), [Promise::Machine]);
        assert_eq!(violations(&[(0, 1, 2, &[id(1, 4095), id(2, 0)])], &rules), [Promise::Machine]);
        assert_eq!(violations(&[(0, 1, 2, &[id(1, 0) | i64::MIN])], &rules), [Promise::Machine]);
    }

    #[test]
    fn a_timestamp_outside_of_its_bounds_is_reported() {
        let at_3_to_4_ms = |_: &Caller, _: &Call| EPOCH + 3_000_000..=EPOCH + 4_000_000;
        let rules = Rules { machine: false, honest: Some(&at_3_to_4_ms) };
        assert!(violations(&[(0, 1, 2, &[3 << 22, (5 << 22) - 1])], &rules).is_empty());
        assert_eq!(violations(&[(0, 1, 2, &[(3 << 22) - 1])], &rules), [Promise::Honest]);
        assert_eq!(violations(&[(0, 1, 2, &[5 << 22])], &rules), [Promise::Honest]);
    }

    #[test]
    fn calls_without_an_id_are_counted_by_their_code() {
        let history = History::new();
        let mut client = history.client("a", "d", 1);
        client.failed(1, 2, Some(&SqlState::CANNOT_CONNECT_NOW));
        client.failed(3, 4, None);
        drop(client);
        let failures = check(&history, &PLAIN).failures;
        assert_eq!(failures.into_iter().collect::<Vec<_>>(), [(String::new(), 1), ("57P03".to_string(), 1)]);
    }

    #[test]
    #[ignore = "some minutes, and 13 GB of disk"]
    fn a_history_of_100_million_calls_is_read_in_bounded_memory_and_the_one_repeated_id_found() {
        const CALLS: i64 = 100_000_000;
        const CLIENTS: i64 = 32;
        let history = History::new();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| history.client("a", "d", 1)).collect();
        for call in 0..CALLS {
            // Each call overlaps with its neighbours.
            let id = if call == CALLS / 2 { 12_345_678 } else { call };
            clients[(call * 7 % CLIENTS) as usize].returned(call * 10, call * 10 + 25, &[id]);
        }
        drop(clients);
        let began = std::time::Instant::now();
        let report = check(&history, &PLAIN);
        let memory = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        println!("{CALLS} calls read in {} s, {peak}", began.elapsed().as_secs());
        assert_eq!(report.calls, CALLS as u64);
        let repeated = &report.violations[&Promise::Unique];
        assert_eq!((repeated.calls[0].first, repeated.calls[1].first, repeated.more), (12_345_678, 12_345_678, 0));
    }

    proptest! {
        /// Compares the sweeps with the promises, checked pair by pair.
        #[test]
        fn the_sweeps_find_what_a_comparison_of_all_pairs_finds(
            calls in proptest::collection::vec((0..3usize, 0..20i64, 0..6i64, 0..40i64, 1..4i64), 0..12)
        ) {
            let calls: Vec<(usize, i64, i64, Vec<i64>)> = calls
                .into_iter()
                .map(|(client, begin, length, first, count)| (client, begin, begin + length, (first..first + count).collect()))
                .collect();
            let server = |client: usize| client / 2;
            let pairs = || calls.iter().enumerate().flat_map(|(i, a)| calls.iter().enumerate().map(move |(j, b)| (i, a, j, b)));
            let repeated = pairs().any(|(i, a, j, b)| i != j && a.3.iter().any(|id| b.3.contains(id)));
            let disordered = pairs().any(|(_, a, _, b)| server(a.0) == server(b.0) && a.2 < b.1 && a.3.last() >= b.3.first());
            let mut expected = Vec::new();
            expected.extend(repeated.then_some(Promise::Unique));
            expected.extend(disordered.then_some(Promise::Ordered));
            let calls: Vec<(usize, i64, i64, &[i64])> = calls.iter().map(|(c, b, e, ids)| (*c, *b, *e, &ids[..])).collect();
            prop_assert_eq!(violations(&calls, &PLAIN), expected);
        }
    }
}
