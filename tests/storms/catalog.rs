//! Everything that a catalog can go through, on a server with few places: no generator gives an id twice, no place is lost,
//! and privileges are those of nextval() at each moment.

use crate::harness::cluster::{Cluster, IDGEN, one};
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Each has at most one generator that exists, and one that is being made or dropped.
const SESSIONS: usize = 4;
const PLACES: usize = 2 * SESSIONS;

/// The ids that each instance gave; for a counter, each file of its sequence is an instance.
type Given = Mutex<HashMap<(u32, u32), HashSet<i64>>>;

struct Session<'a> {
    client: Client,
    user: Client,
    name: String,
    given: &'a Given,
    random: StdRng,
    prepared: u32,
}

impl Session<'_> {
    fn run(&mut self, sql: &str) {
        let sql = sql.replace('@', &self.name);
        self.client.batch_execute(&sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Takes ids; none of them was given before.
    fn take(&mut self) {
        let call = ["idgen_next", "idgen_next_many"][self.random.random_range(0..2)];
        let count = if call == "idgen_next" { "" } else { ", 30" };
        let sql = format!(
            "SELECT c.oid, c.relfilenode, {call}('{0}'{count}) FROM pg_class c WHERE c.oid = '{0}'::regclass",
            self.name
        );
        let rows = self.client.query(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let mut given = self.given.lock().unwrap();
        for row in &rows {
            let fresh = given.entry((row.get(0), row.get(1))).or_default().insert(row.get(2));
            assert!(fresh, "{} gave {} twice", self.name, row.get::<_, i64>(2));
        }
    }

    /// A role may take ids exactly if it could call nextval().
    fn compare_privilege(&mut self) {
        let may: bool = one(
            &mut self.client,
            &format!("SELECT has_sequence_privilege('{0}_user', '{0}', 'USAGE, UPDATE')", self.name),
        );
        let result = self.user.query_one(&format!("SELECT idgen_next('{}')", self.name), &[]);
        match result {
            Ok(_) => assert!(may, "{} was given an id without the privilege", self.name),
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
                assert!(!may, "{} was refused with the privilege", self.name);
            }
        }
    }

    /// Prepares the transaction that was begun, and ends it in either way.
    fn prepare(&mut self, commit: bool) {
        self.prepared += 1;
        let end = if commit { "COMMIT" } else { "ROLLBACK" };
        self.run(&format!("PREPARE TRANSACTION '@ {}'", self.prepared));
        self.run(&format!("{end} PREPARED '@ {}'", self.prepared));
    }

    fn create(&mut self) {
        let preset = ["js_safe", "counter", "snowflake"][self.random.random_range(0..3)];
        self.run(&format!("SELECT idgen_create_generator('@', '{preset}')"));
    }

    /// One round, after which the generator is as it was before.
    fn step(&mut self) {
        let commit = self.random.random::<bool>();
        let end = if commit { "COMMIT" } else { "ROLLBACK" };
        match self.random.random_range(0..12) {
            0 => {
                self.run("BEGIN; DROP SEQUENCE @");
                self.run(end);
                if commit {
                    self.create();
                }
            }
            1 => {
                self.run("BEGIN; DROP SEQUENCE @");
                self.prepare(commit);
                if commit {
                    self.create();
                }
            }
            2 => {
                self.run("DROP SEQUENCE @");
                self.run("BEGIN");
                self.create();
                self.take();
                self.prepare(commit);
                if !commit {
                    self.create();
                }
            }
            3 => {
                self.run("DROP SEQUENCE @");
                self.run("BEGIN");
                self.create();
                self.run("SELECT count(safely('@')) FROM big");
                self.run(end);
                if !commit {
                    self.create();
                }
            }
            4 => {
                self.run("BEGIN; SAVEPOINT a; ALTER SEQUENCE @ RENAME TO @_other; SELECT idgen_next('@_other'); ROLLBACK TO a");
                self.take();
                self.run(end);
            }
            5 => {
                self.run("BEGIN; ALTER SEQUENCE @ RENAME TO @_other; SELECT idgen_next('@_other'); ALTER SEQUENCE @_other RENAME TO @");
                self.run(end);
            }
            6 => self.run("GRANT USAGE ON SEQUENCE @ TO @_user"),
            7 => self.run("REVOKE ALL ON SEQUENCE @ FROM @_user"),
            8 => {
                self.run(if commit { "ALTER SEQUENCE @ OWNER TO @_user" } else { "ALTER SEQUENCE @ OWNER TO postgres" })
            }
            9 => self.run(if commit {
                "GRANT @_group TO @_user; GRANT UPDATE ON SEQUENCE @ TO @_group"
            } else {
                "REVOKE @_group FROM @_user"
            }),
            10 => {
                // A RESTART makes another file, in which a counter starts over.
                self.run("BEGIN; ALTER SEQUENCE @ OWNED BY NONE; ALTER SEQUENCE @ CACHE 1");
                self.take();
                self.run(end);
            }
            _ => {
                self.run("BEGIN READ ONLY");
                self.take();
                self.run("SELECT count(safely('@')) FROM big");
                self.run(end);
            }
        }
        self.take();
        self.compare_privilege();
    }
}

#[test]
fn no_id_comes_twice_no_place_is_lost_and_privileges_are_nextvals_whatever_the_catalog_goes_through() {
    // With a build that drops every cache all the time, a step takes seconds.
    let settings = std::env::var("SETTINGS").unwrap_or_default();
    let fewest = if settings.contains("debug_discard_caches") { 4 } else { 20 };
    let seed = std::env::var("STORM_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let length = std::env::var("STORM_SECONDS")
        .map_or(Duration::from_secs(12), |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let longest_life = 2 * length + Duration::from_secs(120);
    let mut primary = Cluster::prepared(&format!(
        "{IDGEN}idgen.max_generators = {PLACES}\nmax_prepared_transactions = 20\nidgen.horizon_lead = '500ms'\nmax_worker_processes = 20\n{settings}"
    ));
    primary.longest_life = longest_life;
    primary.start();
    primary.create_extensions();
    let mut admin = primary.connect("postgres");
    admin
        .batch_execute(
            "CREATE TABLE big AS SELECT FROM generate_series(1, 2000);
             CREATE FUNCTION safely(regclass) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN idgen_next($1); END $$;
             ALTER DATABASE postgres SET parallel_setup_cost = 0;
             ALTER DATABASE postgres SET parallel_tuple_cost = 0;
             ALTER DATABASE postgres SET min_parallel_table_scan_size = 0",
        )
        .unwrap();
    for number in 0..SESSIONS {
        let roles = "CREATE ROLE @_user LOGIN; CREATE ROLE @_group; GRANT CREATE ON SCHEMA public TO @_user";
        admin.batch_execute(&roles.replace('@', &format!("g{number}"))).unwrap();
    }
    let mut standby = primary.standby("s");
    standby.longest_life = longest_life;
    standby.start();
    let given = Given::default();
    std::thread::scope(|scope| {
        for number in 0..SESSIONS {
            let (primary, given, standby) = (&primary, &given, &standby);
            scope.spawn(move || {
                let name = format!("g{number}");
                let client = primary.connect("postgres");
                let user = primary.connection("postgres").user(&format!("{name}_user")).connect(NoTls).unwrap();
                let random = StdRng::seed_from_u64(seed + number as u64);
                let mut session = Session { client, user, name, given, random, prepared: 0 };
                session.create();
                let began = Instant::now();
                let mut steps = 0;
                while began.elapsed() < length {
                    session.step();
                    steps += 1;
                    if steps % 20 == 0 {
                        // On the standby no id is given, and no place taken.
                        let there =
                            standby.connect("postgres").query(&format!("SELECT idgen_next('{}')", session.name), &[]);
                        assert!(there.is_err());
                    }
                }
                println!("{} steps of {}", steps, session.name);
                assert!(steps > fewest, "too little happened");
            });
        }
    });
    // Every place is free again, here and on the promoted standby.
    primary.wait_for_replay(&standby);
    standby.promote();
    for server in [&primary, &standby] {
        let mut client = server.connect("postgres");
        for number in 0..SESSIONS {
            client.batch_execute(&format!("SELECT idgen_next('g{number}'); SELECT idgen_next(idgen_create_generator('more{number}', 'js_safe'))")).unwrap();
        }
        let error =
            client.batch_execute("SELECT idgen_next(idgen_create_generator('one_too_many', 'js_safe'))").unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CONFIGURATION_LIMIT_EXCEEDED));
    }
    println!("{} instances", given.lock().unwrap().len());
}
