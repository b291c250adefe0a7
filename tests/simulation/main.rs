//! The protocols of src/protocol/ in a deterministic simulation of servers, an authority that fails over or is set back, and
//! a network that loses, delays, repeats and reorders, all from a seed; and mutants of them, each of which must be caught.
//!
//! `SIMULATION_SEED=N` replays one world of 50 servers; `SIMULATION_SEEDS=N` runs N worlds. The table of
//! docs/many-servers.md is printed by `cargo test --release --test simulation table -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

copy::mechanism! { mechanism }

use mechanism::{Micros, SECOND};

// For cargo fmt, which does not look into included files.
#[cfg(any())]
mod authority;
#[cfg(any())]
mod world;

/// The plan of a world.
#[derive(Clone, Copy)]
pub struct Plan {
    seed: u64,
    servers: usize,
    length: Micros,
    /// The time between rounds of gossip.
    interval: Micros,
    /// The longest time that a message takes unless it is slow, that a caller pauses, and within which all servers start.
    delay: Micros,
    pause: Micros,
    spread: Micros,
    /// Only calls and gossip happen; the last server starts late, with the number of the first.
    calm: bool,
    /// Only clocks go wrong and are set right.
    clocks: bool,
    /// The authority may be set back to an earlier time. Without this, it may in one of four worlds.
    set_back: bool,
    duplicate: bool,
    fault: Option<Fault>,
}

/// A rule that is left out around the protocols.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    AnswerBeforeStandby,
    KeepDrag,
    /// `FIRST 1 (a, b)`, and nobody fences the old authority.
    UnsafeNames,
    /// An authority grants right after its start.
    NoGrace,
}

/// A world in which everything happens.
fn storm(seed: u64, servers: usize) -> Plan {
    Plan {
        seed,
        servers,
        length: 12 * SECOND,
        interval: SECOND / 2,
        delay: 20_000,
        pause: SECOND / 2,
        spread: SECOND,
        calm: false,
        clocks: false,
        set_back: false,
        duplicate: false,
        fault: None,
    }
}

/// `simulated!(name, "file.rs": "text" => "other text", ...)`: the protocols, with texts replaced, in a world of their own.
macro_rules! simulated {
    ($(#[$attribute:meta])* $name:ident $(, $file:tt: $from:tt => $to:tt)*) => {
        $(#[$attribute])*
        mod $name {
            use super::mechanism;
            copy::protocol! { protocol $(, $file: $from => $to)* }
            include!("world.rs");
            include!("authority.rs");
        }
    };
}

simulated!(real);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs worlds of this many servers; every promise must hold, and enough must have happened.
fn storms(seeds: std::ops::Range<u64>, servers: usize) {
    let started = std::time::Instant::now();
    let mut all = real::Counts::default();
    for seed in seeds.clone() {
        let mut world = real::World::new(storm(seed, servers));
        if let Some(broken) = world.run() {
            panic!(
                "{broken}\nreplay: SIMULATION_SEED={seed} SIMULATION_SERVERS={servers} cargo test --release --test simulation replay"
            );
        }
        let counts = world.counts;
        all.ids += counts.ids;
        all.strict += counts.strict;
        all.blocks += counts.blocks;
        all.grants += counts.grants;
        all.promotions += counts.promotions;
        all.restored += counts.restored;
        all.clones += counts.clones;
        all.messages += counts.messages;
    }
    println!(
        "{} worlds of {servers} servers in {:.1} s: {all:?}",
        seeds.end - seeds.start,
        started.elapsed().as_secs_f32()
    );
    let n = seeds.end - seeds.start;
    let happened = [all.ids > n * 100, all.strict > n * 10, all.blocks > n * 10, all.grants > n, all.promotions > n];
    assert!(n < 10 || happened == [true; 5], "too little happened");
}

#[test]
fn many_worlds_of_fifty_servers_keep_every_promise() {
    storms(0..number("SIMULATION_SEEDS").unwrap_or(1000), 50);
}

#[test]
fn ten_worlds_of_a_thousand_servers_keep_every_promise() {
    storms(0..number("SIMULATION_SEEDS").map_or(10, |seeds| seeds / 1000), 1000);
}

/// Members, servers with numbers by setting and their authority boot before their clocks are set, leap and pause.
fn clocks(seed: u64) -> Plan {
    Plan { clocks: true, ..storm(seed, 10) }
}

#[test]
fn ids_are_given_within_a_second_of_the_last_clock_being_set_right() {
    let mut ids = 0;
    for seed in 0..1000 {
        let mut world = real::World::new(clocks(seed));
        if let Some(broken) = world.run() {
            panic!("seed {seed} {broken}");
        }
        ids += world.counts.ids;
    }
    assert!(ids > 50_000, "{ids}");
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 0..5 {
        let mut worlds = [(); 2].map(|_| real::World::new(storm(seed, 50)));
        assert_eq!(worlds[0].run(), worlds[1].run());
        assert_eq!(worlds[0].counts, worlds[1].counts);
    }
}

#[test]
fn replay() {
    if let Some(seed) = number("SIMULATION_SEED") {
        storms(seed..seed + 1, number("SIMULATION_SERVERS").unwrap_or(50) as usize);
    }
}

/// Runs worlds until one breaks a promise whose message contains `claim`.
macro_rules! caught {
    ($world:ident, $fault:expr, $claim:literal) => {
        let broken = (0..10_000).find_map(|seed| {
            let plan = Plan { fault: $fault, set_back: seed % 2 == 1, ..storm(seed, 20) };
            $world::World::new(plan).run().filter(|broken| broken.contains($claim)).map(|broken| (seed, broken))
        });
        let (seed, broken) = broken.expect("not caught");
        println!("caught by seed {seed} {broken}");
    };
}

/// `faulty!(name, FAULT, "claim")`: with the fault, the claim must fail.
macro_rules! faulty {
    ($name:ident, $fault:expr, $claim:literal) => {
        #[test]
        fn $name() {
            caught!(real, Some($fault), $claim);
        }
    };
}

faulty!(answered_before_the_standby_had_it, Fault::AnswerBeforeStandby, "overlaps");
faulty!(given_a_block_before_the_standby_had_it, Fault::AnswerBeforeStandby, "both used the block");
faulty!(first_of_two_standbys_without_fencing, Fault::UnsafeNames, "overlaps");
faulty!(granted_before_the_members_have_shown_what_they_hold, Fault::NoGrace, "overlaps");
faulty!(drag_kept_in_the_clock, Fault::KeepDrag, "the clock of server");

/// `mutant!(name, "claim", "file.rs": "text" => "other text")`: with the texts replaced, the claim must fail.
macro_rules! mutant {
    ($name:ident, $claim:literal, $file:tt: $from:tt => $to:tt) => {
        simulated!(#[allow(dead_code, clippy::all)] $name, $file: $from => $to);

        #[test]
        fn $name() {
            caught!($name, None, $claim);
        }
    };
}

mutant!(old_grant_kept_over_promotion, "both gave ids",
    "grants.rs": "kept.filter(|kept| kept.me == me)" => "kept");
mutant!(renewed_after_its_end_while_another_may_have_it, "overlaps",
    "book.rs": "row.open && row.until <= ended" => "false");
mutant!(granted_not_from_the_old_until, "overlaps",
    "book.rs": "from: until(&machine)," => "from: 0,");
mutant!(lost_grant_not_put_back, "overlaps",
    "book.rs": "if book == self.id {" => "if false {");
mutant!(lease_not_waited_for, "strict id too low",
    "lease.rs": "if self.from <= boot {" => "{");
mutant!(served_beyond_the_lease, "strict id too low",
    "lease.rs": "LEASE / 10 * 9" => "LEASE * 10");
mutant!(late_ticket_served, "strict id too low",
    "tickets.rs": "flight.number == number" => "flight.number >= number");
mutant!(repeated_block_accepted, "counted",
    "blocks.rs": "block.first <= self.highest || " => "");
mutant!(followed_however_far, "was dragged",
    "gossip.rs": "message.reach <= limit" => "message.reach <= limit.max(Micros::MAX)");
mutant!(stopped_by_what_is_told, "was stopped by",
    "gossip.rs": "        self.learn(&claim, at, true, asked.is_some());" => "        self.learn(&claim, at, true, true); self.dispute(&claim, now.boot); if let Some(peer) = self.peers.get_mut(&claim.by) { peer.answered = Some(at); }");
mutant!(bound_stated_from_the_answer, "below one of",
    "gossip.rs": "peer.covered.max(asked)" => "peer.covered.max(Some(now.boot))");

simulated!(#[allow(dead_code, clippy::all)] judged_by_its_ids,
    "book.rs": "let off = wall.saturating_sub(limits.wall);" => "let off = clock.saturating_sub(limits.wall);");

#[test]
fn a_member_judged_by_its_ids_stays_without_any_when_its_clock_is_right() {
    let broken = (0..50).find_map(|seed| judged_by_its_ids::World::new(clocks(seed)).run());
    assert!(broken.is_some_and(|broken| broken.contains("has no id")));
}

/// A calm world: gossip every 100 ms, messages on their way for up to 1 ms, and the last server with the number of the first.
fn calm(servers: usize, length: Micros) -> Plan {
    Plan { length, interval: SECOND / 10, delay: 1000, calm: true, duplicate: true, ..storm(1, servers) }
}

#[test]
fn a_machine_id_given_twice_is_found_and_turned_round_within_five_intervals_and_one_more_for_each_sixteen_servers() {
    for servers in [2, 3, 5, 50, 200] {
        let limit = (5 + servers as Micros / 16) * SECOND / 10;
        let (found, turned, _) = real::World::new(calm(servers, 10 * SECOND)).measure();
        assert!(found.is_some_and(|found| found <= limit), "{servers} servers: found after {found:?} us");
        assert!(turned.is_some_and(|turned| turned <= limit), "{servers} servers: turned after {turned:?} us");
    }
}

#[test]
#[ignore = "prints a table for docs/many-servers.md"]
fn table() {
    println!(
        "| servers | messages a server a second | machine id given twice: found after | taken over after | order bound: middle | 99 of 100 | worst |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for servers in [5, 50, 1000] {
        let mut world = real::World::new(calm(servers, 20 * SECOND));
        let (found, turned, mut bounds) = world.measure();
        let messages = world.counts.gossip / servers as u64 / 20;
        bounds.sort_unstable();
        let ms = |micros: Micros| match micros {
            Micros::MAX => "unknown".into(),
            _ => format!("{} ms", (micros + 500) / 1000),
        };
        let (found, turned) = (found.map_or("-".into(), ms), turned.map_or("-".into(), ms));
        let [middle, most, worst] =
            [bounds.len() / 2, bounds.len() * 99 / 100, bounds.len() - 1].map(|place| ms(bounds[place]));
        println!("| {servers} | {messages} | {found} | {turned} | {middle} | {most} | {worst} |");
    }
}
