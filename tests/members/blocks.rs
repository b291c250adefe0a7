//! Blocks of a counter, while the member that leases them and the authority fail.

use crate::authorities::{Authorities, Failover};
use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, Mode};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::{UNIQUE, storm_length};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Instant;

const MAKE: &str = "SELECT idgen_create_generator('b', 'counter', ordering => 'block')";
const NEXT: &str = "SELECT idgen_next('b')";

const KINDS: usize = 4;

#[test]
fn blocks_stay_unique_and_rise_on_each_server_while_members_and_the_authority_fail_again_and_again() {
    let seed = std::env::var("STORM_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let mut authorities = Authorities::new(1, "");
    authorities.primary().connect("postgres").batch_execute(MAKE).unwrap();
    let mut members = [0, 1].map(|_| authorities.member("idgen.min_block_size = 10\nidgen.wait_timeout = '10s'"));
    for member in &members {
        member.connect("postgres").batch_execute(MAKE).unwrap();
    }
    let history = History::new();
    let (began, mut faults) = (Instant::now(), 0);
    while faults < 2 * KINDS || began.elapsed() < storm_length().unwrap_or_default() {
        // On the authority too. A server is in order by itself; authorities before and after a failover are one.
        let load_on = |server: &Cluster, name: &str| {
            let mut load = Load::start(server, &history, name, 2, NEXT);
            load.add(server, &history, name, "postgres", 1, "SELECT idgen_next_many('b', 100)");
            load
        };
        let mut loads = vec![load_on(authorities.primary(), "authority")];
        for (number, member) in members.iter().enumerate() {
            loads.push(load_on(member, &format!("member {number}")));
        }
        loads.iter().for_each(|load| load.flow(random.random_range(20..2000)));
        let kind = if faults < 2 * KINDS { faults % KINDS } else { random.random_range(0..KINDS) };
        faults += 1;
        let which = random.random_range(0..members.len());
        match kind {
            0 => authorities.fail_over(Failover::Killed, 0, |_, _, _| {}),
            1 => authorities.fail_over(Failover::Switched, 0, |_, _, _| {}),
            2 => {
                members[which].kill();
                members[which].start();
            }
            _ => {
                members[which].stop(Mode::Fast);
                members[which].start();
            }
        }
        loads.into_iter().for_each(Load::finish);
    }
    let report = check(&history, &UNIQUE);
    println!("seed {seed}, {faults} faults\n{report}");
    report.assert_clean();
    let own = report.failures.keys().all(|code| ["", "57P01", "57P02", "57P03"].contains(&code.as_str()));
    assert!(own, "{report}");
}
