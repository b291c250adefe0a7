//! The long storm: a primary with a synchronous standby, clients of every kind, and random faults.

use crate::harness::checker::check;
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, IDGEN, Mode};
use crate::harness::history::{COPIED, History};
use crate::harness::load::{Load, Way};
use crate::harness::wait_until;
use crate::{IDENTITY, PLAIN};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The rows that these insert stay.
const WAYS: [Way; 10] = [
    Way::Query("SELECT idgen_next()"),
    Way::Query("SELECT idgen_next()"),
    Way::Query("SELECT idgen_next_many(2000)"),
    Way::Query("SELECT idgen_next() FROM generate_series(1, 500)"),
    Way::Query("INSERT INTO t SELECT FROM generate_series(1, 20) RETURNING id"),
    Way::Query("SELECT unnest(in_a_loop(100))"),
    Way::Query("SELECT id FROM (SELECT idgen_next() AS id FROM wide) x"),
    Way::Query("WITH a AS (INSERT INTO t DEFAULT VALUES RETURNING id) SELECT id FROM a"),
    Way::Pipeline("SELECT idgen_next()", 20),
    Way::Copy(200),
];

/// Generators by name, beside the server generator.
const GENERATORS: [(&str, &str); 4] = [
    ("snowflake", "'snowflake'"),
    (STREAMS, "'timestamp_machine_backend'"),
    ("counter_50", "'counter', flush_every => 50"),
    ("counter_1000", "'counter', flush_every => 1000"),
];

/// Between the sessions of this generator no order is promised.
const STREAMS: &str = "streams";

const SCHEMA: &str = "
    CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY);
    CREATE FUNCTION in_a_loop(n int) RETURNS bigint[] LANGUAGE plpgsql AS $$
        DECLARE ids bigint[] := '{}';
        BEGIN
            FOR i IN 1..n LOOP ids := ids || idgen_next(); END LOOP;
            RETURN ids;
        END $$;
    CREATE TABLE wide AS SELECT repeat('x', 500) AS x FROM generate_series(1, 2000);
    ALTER TABLE wide SET (parallel_workers = 2);
    ANALYZE wide;
    ALTER DATABASE postgres SET min_parallel_table_scan_size = 0;
    ALTER DATABASE postgres SET parallel_setup_cost = 0;
    ALTER DATABASE postgres SET parallel_tuple_cost = 0;";

const SETTINGS: &str = "
max_connections = 60
idgen.horizon_lead = '500ms'
idgen.max_borrow = '100ms'
idgen.wait_timeout = '2s'
checkpoint_timeout = '30s'
";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillPostmasterAndAll,
    StopImmediate,
    StopFast,
    KillBackend,
    KillCheckpointer,
    KillWalwriter,
    KillBackgroundWriter,
    KillWorker,
    TerminateWorker,
    StopWorkerAWhile,
    StopBackendAWhile,
    ClockAnHourAhead,
    ClockAnHourBehind,
    ClockJumps,
    ClockTenYearsAhead,
    Failover,
    StandbyAwayAWhile,
    CancelAndTerminate,
    ReloadSettings,
    Checkpoint,
}

const FAULTS: [Fault; 20] = [
    Fault::KillPostmasterAndAll,
    Fault::StopImmediate,
    Fault::StopFast,
    Fault::KillBackend,
    Fault::KillCheckpointer,
    Fault::KillWalwriter,
    Fault::KillBackgroundWriter,
    Fault::KillWorker,
    Fault::TerminateWorker,
    Fault::StopWorkerAWhile,
    Fault::StopBackendAWhile,
    Fault::ClockAnHourAhead,
    Fault::ClockAnHourBehind,
    Fault::ClockJumps,
    Fault::ClockTenYearsAhead,
    Fault::Failover,
    Fault::StandbyAwayAWhile,
    Fault::CancelAndTerminate,
    Fault::ReloadSettings,
    Fault::Checkpoint,
];

/// The two servers; they exchange their roles at each failover.
struct Pair {
    primary: Cluster,
    standby: Cluster,
}

impl Pair {
    fn new() -> Pair {
        let primary = Cluster::running(&format!("{IDGEN}{SETTINGS}"));
        let mut client = primary.connect("postgres");
        client.batch_execute(&format!("CREATE EXTENSION idgen; {SCHEMA} {COPIED}")).unwrap();
        for (name, arguments) in GENERATORS {
            client.batch_execute(&format!("SELECT idgen_create_generator('{name}', {arguments})")).unwrap();
        }
        let mut standby = primary.standby("s");
        standby.start();
        primary.reconfigure("synchronous_standby_names = 'FIRST 1 (s)'");
        Pair { primary, standby }
    }

    /// The standby becomes the primary, the old primary ends, and a copy of the new one becomes its standby.
    fn fail_over(&mut self, random: &mut StdRng) {
        let offset = random.random_range(-HOUR..HOUR);
        self.standby.clock.set(offset);
        // Without synchronous standbys until it has one: the setting that it inherited would make it wait.
        self.primary.kill();
        self.standby.configure("synchronous_standby_names = ''");
        crate::harness::cluster::signal(self.standby.pid(), libc::SIGHUP);
        self.standby.promote();
        let mut next = self.standby.standby("s");
        next.clock.set(offset);
        next.start();
        std::mem::swap(&mut self.primary, &mut self.standby);
        self.standby = next;
        self.primary.reconfigure("synchronous_standby_names = 'FIRST 1 (s)'");
    }

    fn raise(&mut self, fault: Fault, random: &mut StdRng) {
        let a_while = Duration::from_millis(random.random_range(50..400));
        match fault {
            Fault::KillPostmasterAndAll => {
                self.primary.kill();
                self.primary.start();
            }
            Fault::StopImmediate => {
                self.primary.stop(Mode::Immediate);
                self.primary.start();
            }
            Fault::StopFast => {
                self.primary.stop(Mode::Fast);
                self.primary.start();
            }
            Fault::KillBackend => self.kill_child("[local]"),
            Fault::KillCheckpointer => self.kill_child("checkpointer"),
            Fault::KillWalwriter => self.kill_child("walwriter"),
            Fault::KillBackgroundWriter => self.kill_child("background writer"),
            Fault::KillWorker => self.kill_child("idgen horizon"),
            Fault::TerminateWorker => {
                let ended = self.signal_child("idgen horizon", libc::SIGTERM);
                // Restarted a second later by the wall clock; an hour later, if that is set back meanwhile.
                wait_until("there is a new worker", || {
                    self.primary.child("idgen horizon").is_some_and(|pid| pid != ended)
                });
            }
            Fault::StopWorkerAWhile => self.stop_child_a_while("idgen horizon", a_while),
            Fault::StopBackendAWhile => self.stop_child_a_while("[local]", a_while),
            Fault::ClockAnHourAhead => self.primary.clock.set(HOUR),
            Fault::ClockAnHourBehind => self.primary.clock.set(-HOUR),
            Fault::ClockJumps => {
                for _ in 0..10 {
                    self.primary.clock.set(random.random_range(-HOUR..HOUR));
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            Fault::ClockTenYearsAhead => {
                self.primary.clock.set(10 * 8766 * HOUR);
                std::thread::sleep(a_while);
                self.primary.clock.set(0);
            }
            Fault::Failover => self.fail_over(random),
            Fault::StandbyAwayAWhile => {
                self.standby.stop(Mode::Fast);
                std::thread::sleep(a_while);
                self.standby.start();
            }
            Fault::CancelAndTerminate => {
                let mut client = self.primary.connect("postgres");
                for i in 0..20 {
                    let how = if i % 4 == 0 { "terminate" } else { "cancel" };
                    let query = format!(
                        "SELECT pg_{how}_backend(pid) FROM pg_stat_activity
                         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
                    );
                    client.batch_execute(&query).unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Fault::ReloadSettings => {
                let lead = random.random_range(100..2000);
                let borrow = random.random_range(0..500);
                self.primary.reconfigure(&format!("idgen.horizon_lead = {lead}\nidgen.max_borrow = {borrow}"));
            }
            Fault::Checkpoint => self.primary.connect("postgres").batch_execute("CHECKPOINT").unwrap(),
        }
    }

    /// A worker that was terminated just before is back after a second; one that is just ending cannot be signalled.
    fn signal_child(&self, title: &str, number: i32) -> u32 {
        let mut signalled = None;
        wait_until("the process is there", || {
            // SAFETY: a system call that touches no memory.
            signalled = self.primary.child(title).filter(|pid| unsafe { libc::kill(*pid as i32, number) } == 0);
            signalled.is_some()
        });
        signalled.unwrap()
    }

    fn kill_child(&mut self, title: &str) {
        let killed = self.signal_child(title, libc::SIGKILL);
        self.primary.wait_for_crash_restart(killed);
    }

    fn stop_child_a_while(&mut self, title: &str, a_while: Duration) {
        let stopped = self.signal_child(title, libc::SIGSTOP);
        std::thread::sleep(a_while);
        // SAFETY: a system call that touches no memory; the process may have ended since it was stopped.
        unsafe { libc::kill(stopped as i32, libc::SIGCONT) };
    }
}

/// The faults must leave nothing behind: with a right clock and all processes running, no call fails.
fn assert_calm(pair: &Pair) {
    pair.primary.clock.set(0);
    pair.standby.clock.set(0);
    wait_until("the primary gives ids", || {
        pair.primary.try_connect("postgres").is_ok_and(|mut client| client.query_one(crate::NEXT, &[]).is_ok())
    });
    let names = GENERATORS.iter().map(|(name, _)| format!("SELECT idgen_next('{name}')"));
    for query in names.chain([crate::NEXT.into()]) {
        let history = History::new();
        let mut load = Load::none();
        load.add(&pair.primary, &history, "calm", "postgres", 4, &query);
        load.flow(1000);
        load.finish();
        let report = check(&history, &PLAIN);
        assert!(report.failures.is_empty(), "after the storm, {query}: {report}");
    }
}

/// Short in the suite; `make soak MINUTES=30` makes it long. A failure names the seed: STORM_SEED repeats it.
#[test]
fn ids_stay_unique_and_ordered_through_a_long_storm_of_random_faults() {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let (seconds, seed) = (setting("STORM_SECONDS", 45), setting("STORM_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::new();
    pair.primary.longest_life = Duration::from_secs(seconds + 600);
    pair.standby.longest_life = pair.primary.longest_life;
    let history = History::new();
    let generators = GENERATORS.map(|(name, _)| (name, History::new()));
    let (began, mut faults) = (Instant::now(), BTreeMap::<Fault, u32>::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        wait_until("the primary gives ids", || {
            pair.primary.try_connect("postgres").is_ok_and(|mut client| client.query_one(crate::NEXT, &[]).is_ok())
        });
        let mut load = Load::start(&pair.primary, &history, "pair", 2, *WAYS.choose(&mut random).unwrap());
        for _ in 0..2 {
            load.add(&pair.primary, &history, "pair", "postgres", 1, *WAYS.choose(&mut random).unwrap());
        }
        for (name, history) in generators.choose_multiple(&mut random, 2) {
            for ids in
                ["idgen_next('{}') FROM generate_series(1, 70)", "idgen_next_many('{}', 300)", "idgen_next('{}')"]
            {
                let server = if *name == STREAMS { history.callers().len().to_string() } else { "pair".into() };
                let query = format!("SELECT {}", ids.replace("{}", name));
                load.add(&pair.primary, history, &server, "postgres", 1, &query);
            }
        }
        load.flow(random.random_range(20..200));
        let fault = *FAULTS.choose(&mut random).unwrap();
        *faults.entry(fault).or_default() += 1;
        println!("{:4} s: {fault:?}", began.elapsed().as_secs());
        pair.raise(fault, &mut random);
        load.finish();
    }
    assert_calm(&pair);
    let report = check(&history, &IDENTITY);
    println!("seed {seed}, {} s, {} faults of {} kinds", seconds, faults.values().sum::<u32>(), faults.len());
    faults.iter().for_each(|(fault, times)| println!("  {times:4} {fault:?}"));
    println!("{report}");
    report.assert_clean();
    for (name, history) in &generators {
        let report = check(history, &PLAIN);
        println!("{name}: {report}");
        report.assert_clean();
    }
}
