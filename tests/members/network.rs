//! The worst network between a member and its authority.

use crate::authorities::time_until;
use crate::harness::checker::check;
use crate::harness::clock::{SECOND, monotonic};
use crate::harness::cluster::{Cluster, IDGEN, assert_refused};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::proxy::{Door, Proxy, Way};
use crate::harness::wait_until;
use crate::{NEXT, UNIQUE};
use postgres::error::SqlState;
use std::thread;
use std::time::{Duration, Instant};

/// A generator of order `server`, under the machine id that the authority grants.
const MAKE: &str = "SELECT idgen_create_generator('own', 'snowflake')";
const NEXT_OWN: &str = "SELECT idgen_next('own')";
/// A member gives up a server that does not answer after two seconds.
const LONG: Duration = Duration::from_millis(2500);
const LONGEST_LIFE: Duration = Duration::from_secs(300);

fn server(settings: &str) -> Cluster {
    let mut server = Cluster::prepared(&format!("{IDGEN}idgen.ordering = strict\n{settings}"));
    server.longest_life = LONGEST_LIFE;
    server.start();
    server.create_extensions();
    server.connect("postgres").batch_execute(MAKE).unwrap();
    server
}

/// An authority, a member that reaches it through the proxy, and one that reaches it directly.
fn servers() -> (Cluster, Proxy, Cluster, Cluster) {
    let authority = server("idgen.machine_id = 0\nidgen.authority_database = postgres\nidgen.grant_length = 4s");
    let proxy = Proxy::to(&authority.socket());
    let member = |conninfo: &str| server(&format!("idgen.machine_id = -1\nidgen.authority = '{conninfo}'"));
    let (far, near) = (member(&proxy.conninfo()), member(&authority.conninfo()));
    (authority, proxy, far, near)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// A millisecond on each way.
    Delays,
    /// Nothing comes through on these ways; then it comes late, or never.
    Holds(&'static [Way]),
    Loses(&'static [Way]),
    /// As `Loses`, for longer than a grant lasts.
    OutlastsTheGrant,
    /// A client that connects gets no answer, or is refused.
    Meets(Door),
    Cuts,
    CutsInMessage(Way),
}

const BOTH: &[Way] = &[Way::ToServer, Way::ToClient];

const FAULTS: [Fault; 13] = [
    Fault::Delays,
    Fault::Holds(&[Way::ToServer]),
    Fault::Holds(&[Way::ToClient]),
    Fault::Holds(BOTH),
    Fault::Loses(&[Way::ToServer]),
    Fault::Loses(&[Way::ToClient]),
    Fault::Loses(BOTH),
    Fault::OutlastsTheGrant,
    Fault::Meets(Door::Silent),
    Fault::Meets(Door::Refuses),
    Fault::Cuts,
    Fault::CutsInMessage(Way::ToServer),
    Fault::CutsInMessage(Way::ToClient),
];

#[test]
fn strict_ids_and_grants_survive_every_fault_of_the_network_and_callers_go_on_when_it_is_over() {
    let (authority, proxy, far, near) = servers();
    let (strict, own) = (History::new(), History::new());
    let (mut far_load, mut near_load) = (Load::none(), Load::none());
    for load in [&mut far_load, &mut near_load] {
        load.rest = Duration::from_millis(2);
    }
    far_load.add(&far, &strict, "all", "postgres", 6, NEXT);
    near_load.add(&near, &strict, "all", "postgres", 2, NEXT);
    near_load.add(&authority, &strict, "all", "postgres", 1, NEXT);
    far_load.add(&far, &own, "far", "postgres", 1, NEXT_OWN);
    near_load.add(&near, &own, "near", "postgres", 1, NEXT_OWN);

    let mut caller = far.connect("postgres");
    for fault in FAULTS {
        far_load.flow(100);
        match fault {
            Fault::Delays => {
                proxy.delay(Duration::from_millis(1));
                far_load.flow(1000);
            }
            Fault::Holds(ways) | Fault::Loses(ways) => {
                ways.iter().for_each(|way| proxy.hold(*way));
                ends(&mut caller, &near_load, LONG);
                if let Fault::Loses(_) = fault {
                    proxy.cut();
                }
            }
            Fault::OutlastsTheGrant => {
                BOTH.iter().for_each(|way| proxy.hold(*way));
                ends(&mut caller, &near_load, LONG);
                wait_until("the grant has ended", || caller.query(NEXT_OWN, &[]).is_err());
                assert_refused(&mut caller, NEXT_OWN, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
                proxy.cut();
            }
            Fault::Meets(door) => {
                proxy.door(door);
                proxy.cut();
                ends(&mut caller, &near_load, LONG);
            }
            Fault::Cuts => (0..20).for_each(|_| {
                proxy.cut();
                far_load.flow(20);
            }),
            Fault::CutsInMessage(way) => (0..20).for_each(|_| {
                proxy.cut_in_message(way);
                far_load.flow(20);
            }),
        }
        proxy.clear_up();
        let over = Instant::now();
        let mut goes_on = |query: &str| {
            let answer = caller.query(query, &[]);
            if let Err(error) = &answer {
                let why: Option<String> = far.one("SELECT error FROM idgen_authority()");
                eprintln!("after {fault:?}: {error:?}, because {why:?}");
            }
            answer.is_ok()
        };
        let strict = time_until(over, "strict ids go on", || goes_on(NEXT));
        let own = time_until(over, "the server's own ids go on", || goes_on(NEXT_OWN));
        println!("{fault:?}: strict ids {} ms, own ids {} ms after it is over", strict.as_millis(), own.as_millis());
    }
    far_load.finish();
    near_load.finish();
    for history in [strict, own] {
        let report = check(&history, &UNIQUE);
        println!("{report}");
        report.assert_clean();
        assert!(report.failures.keys().all(|code| code == "57P03"), "{report}");
        assert!(report.longest < 7 * SECOND, "a call took {} ns, with a deadline of 5 seconds", report.longest);
    }
    let machines = [&far, &near].map(|member| member.one::<i32>("SELECT idgen_machine(idgen_next('own'), 'own')"));
    assert_ne!(machines[0], machines[1]);
}

/// For this long, a caller of strict ids on the far member fails at its own deadline, and the others get theirs.
fn ends(caller: &mut postgres::Client, others: &Load, how_long: Duration) {
    let began = Instant::now();
    caller.batch_execute("SET idgen.wait_timeout = '300ms'").unwrap();
    // Answers that were on the way may still come.
    wait_until("strict ids end", || caller.query(NEXT, &[]).is_err());
    while began.elapsed() < how_long {
        let asked = monotonic();
        assert_refused(caller, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
        assert!(monotonic() - asked < 2 * SECOND, "the deadline is 300 ms");
        others.flow(20);
    }
    caller.batch_execute("RESET idgen.wait_timeout").unwrap();
}

#[test]
fn every_waiting_caller_is_cancelled_at_once_and_everything_goes_on() {
    const CALLERS: usize = 30;
    let (_authority, proxy, far, _near) = servers();
    let history = History::new();
    let mut boss = far.connect("postgres");
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    for ways in [&[Way::ToServer][..], &[Way::ToClient], BOTH] {
        ways.iter().for_each(|way| proxy.hold(*way));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let mut client = far.connect("postgres");
                let mut recorder = history.client("all", "postgres", 0);
                client.batch_execute("SET idgen.wait_timeout = '60s'").unwrap();
                thread::spawn(move || {
                    let query = client.prepare(NEXT).unwrap();
                    let error = recorder.call(&mut client, &query).expect_err("nothing comes through");
                    let cancelled = monotonic();
                    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
                    // The same sessions must go on as soon as they can.
                    for _ in 0..20 {
                        recorder.call(&mut client, &query).unwrap();
                    }
                    cancelled
                })
            })
            .collect();
        let waiting = format!(
            "SELECT count(*) = {CALLERS} FROM pg_stat_activity
             WHERE query = '{NEXT}' AND state = 'active' AND wait_event_type = 'Extension'"
        );
        wait_until("all wait", || boss.query_one(&waiting, &[]).unwrap().get(0));
        let began = monotonic();
        boss.batch_execute(cancel).unwrap();
        thread::sleep(Duration::from_millis(200));
        proxy.clear_up();
        for caller in callers {
            let cancelled = caller.join().unwrap() - began;
            assert!(cancelled < SECOND, "cancelled after {cancelled} ns");
        }
    }
    // The same while ids flow, with a round trip so long that some calls are always under way.
    proxy.delay(Duration::from_millis(1));
    let load = Load::start(&far, &history, "all", 16, NEXT);
    for _ in 0..50 {
        load.flow(20);
        boss.batch_execute(cancel).unwrap();
    }
    load.flow(100);
    load.finish();
    let report = check(&history, &UNIQUE);
    println!("{report}");
    report.assert_clean();
    assert!(report.failures.keys().all(|code| code == "57014"), "{report}");
}
