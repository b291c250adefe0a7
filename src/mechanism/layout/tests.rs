use super::*;
use proptest::prelude::*;

/// Layouts with fields in any order.
fn layouts() -> impl Strategy<Value = Layout> {
    let fields = (1u32..=63, 0u32..=31, 0u32..=31, 0u32..=40)
        .prop_filter("at most 63 bits", |(t, m, b, s)| t + m + b + s <= 63)
        .prop_flat_map(|(t, m, b, s)| {
            let low = vec![("machine", m), ("backend", b), ("sequence", s)];
            (Just(t), Just(low).prop_shuffle(), 0..4_000_000_000 * SECOND, 1..=SECOND)
        });
    fields.prop_map(|(t, low, epoch, tick)| {
        let low: String = low.iter().filter(|f| f.1 > 0).map(|(name, bits)| format!("{name}:{bits} ")).collect();
        format!("timestamp:{t} {low}epoch:{epoch} tick:{tick}").parse().unwrap()
    })
}

#[test]
fn the_server_layout_is_the_documented_one() {
    let id = SERVER.id(1 << 12 | 7, 3);
    assert_eq!(id, 1 << 22 | 3 << 12 | 7);
    assert_eq!(SERVER.timestamp_of(id), Some(1_735_689_600_001_000));
    assert_eq!(SERVER.end(), 3_934_712_855_552_000, "2094-09-07 15:47:35.552 UTC");
    assert_eq!((SERVER.max_machine(), SERVER.sequence.max()), (1023, 4095));
    assert_eq!(SERVER.to_string(), "timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000");
}

#[test]
fn a_counter_is_a_stamp_with_the_machine_below() {
    let counter: Layout = "counter:53 machine:10".parse().unwrap();
    assert!(counter.is_counter());
    assert_eq!((counter.id(7, 3), counter.stamps()), (7 << 10 | 3, 1 << 53));
    assert_eq!((counter.stamp_of(7 << 10 | 3), counter.machine_of(7 << 10 | 3)), (7, 3));
    assert_eq!((counter.timestamp_of(7 << 10), counter.ids_at(7)), (None, None));
    assert_eq!(counter.to_string(), "counter:53 machine:10");
}

#[test]
fn a_wrong_text_is_refused_and_says_why() {
    for (text, why) in [
        ("", "the first field is neither timestamp nor counter"),
        ("timestamp", "\"timestamp\" is not of the form name:number"),
        ("timestamp:x", "\"x\" is not a number"),
        ("timestamp:-1", "\"-1\" is not a number"),
        ("timestamp:0 epoch:0 tick:1", "the fields do not have 1 to 63 bits in all"),
        ("timestamp:41 machine:10 sequence:13 epoch:0 tick:1", "the fields do not have 1 to 63 bits in all"),
        ("timestamp:18446744073709551615 epoch:0 tick:1", "the fields do not have 1 to 63 bits in all"),
        ("timestamp:41 machine:1 machine:1 epoch:0 tick:1", "\"machine\" is given twice"),
        ("timestamp:20 machine:32 epoch:0 tick:1", "machine and backend have at most 31 bits each"),
        ("timestamp:41 tick:1", "epoch is missing"),
        ("timestamp:41 epoch:0 tick:0", "tick is not between 1 and 1000000 microseconds"),
        ("counter:53 sequence:10", "\"sequence\" has no meaning here"),
        ("machine:10 timestamp:41 epoch:0 tick:1", "the first field is neither timestamp nor counter"),
    ] {
        assert_eq!(text.parse::<Layout>().unwrap_err(), why, "{text}");
    }
}

proptest! {
    #[test]
    fn an_id_decodes_to_what_it_was_made_of(l in layouts(), stamp: u64, machine: u64) {
        let (stamp, machine) = (stamp % l.stamps(), machine & l.max_machine());
        let id = l.id(stamp, machine);
        prop_assert!(id <= i64::MAX as u64);
        prop_assert_eq!((l.stamp_of(id), l.machine_of(id)), (stamp, machine));
        let backend = !machine & l.max_backend();
        let with_backend = id | l.backend_part(backend);
        prop_assert_eq!((l.stamp_of(with_backend), l.backend_of(with_backend)), (stamp, backend));
        prop_assert!(with_backend <= l.max_id());
    }

    #[test]
    fn text_and_words_keep_a_layout(l in layouts()) {
        prop_assert_eq!(l.to_string().parse(), Ok(l));
        prop_assert_eq!(Layout::from_words(l.to_words()), l);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z:0-9 ]{0,60}") {
        if let Ok(l) = text.parse::<Layout>() {
            prop_assert!(l.max_id() <= i64::MAX as u64);
        }
    }

    #[test]
    fn ids_are_ordered_as_their_stamps_on_every_machine(l in layouts(), a: u64, b: u64, machine: u64) {
        let (a, b, machine) = (a % l.stamps(), b % l.stamps(), machine & l.max_machine());
        prop_assert_eq!(a.cmp(&b), l.id(a, machine).cmp(&l.id(b, machine)));
    }

    #[test]
    fn the_bound_at_the_end_is_above_every_id_and_keeps_its_machine(l in layouts(), machine: u64) {
        let machine = machine & l.max_machine();
        let bound = l.id(l.stamps(), machine);
        prop_assert!(bound > l.id(l.stamps() - 1, l.max_machine()));
        prop_assert_eq!((l.stamp_of(bound), l.machine_of(bound)), (l.stamps(), machine));
    }

    #[test]
    fn stamps_below_a_horizon_are_in_ticks_that_end_by_it(l in layouts(), at in 0..8_000_000_000 * SECOND) {
        let first = l.stamp_at(at);
        prop_assert!(first == 0 || l.tick_end(first - 1) <= at);
        prop_assert!(first >= l.stamps() || at < l.tick_end(first));
    }

    #[test]
    fn later_horizons_never_mean_fewer_stamps(l in layouts(), a: i64, b: i64) {
        prop_assert!(l.stamp_at(a.min(b)) <= l.stamp_at(a.max(b)));
    }

    #[test]
    fn bounds_of_any_time_keep_what_is_since_and_what_is_up_to(l in layouts(), at: i64, id: u64) {
        let id = id & l.max_id();
        if let Some(of) = l.timestamp_of(id) {
            // The largest id of all is the nearest number where nothing is above it.
            let last = id == l.max_id() && id == i64::MAX as u64;
            let since = of >= at || at < l.tick_end(l.stamp_of(id));
            prop_assert!(last || (id >= l.min_id_at(at)) == since);
            prop_assert_eq!(id as i64 <= l.max_id_at(at), of <= at);
        }
    }

    #[test]
    fn the_ids_of_an_instant_enclose_its_tick(l in layouts(), at in 0..8_000_000_000 * SECOND, machine: u64) {
        match l.ids_at(at) {
            None => prop_assert!(at < l.epoch() || i128::from(at) >= l.end()),
            Some((min, max)) => {
                let id = l.id(l.stamp_at(at), machine & l.max_machine()) | l.backend_part(machine & l.max_backend());
                prop_assert!(min <= id && id <= max);
                prop_assert!(l.timestamp_of(min).unwrap() <= at && at < l.tick_end(l.stamp_of(max)));
                prop_assert_eq!(l.timestamp_of(min), l.timestamp_of(max));
            }
        }
    }
}
