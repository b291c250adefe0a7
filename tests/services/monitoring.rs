//! Prometheus over servers that break: each alert of `examples/monitoring/` fires, and clears.

use crate::daemon::{Daemon, Network, all_here, command, directory, unpacked, write};
use crate::harness::clock::{HOUR, SECOND};
use crate::harness::cluster::{Cluster, IDGEN, Mode, assert_refused, program, run};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::{wait_at_most, wait_until};
use postgres::NoTls;
use postgres::error::SqlState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The hosts of the example: its exporters are beside these servers.
const PRIMARY: usize = 1;
const STANDBY: usize = 2;
const AUTHORITY: usize = 3;
const MEMBER: usize = 4;

/// What takes minutes there takes seconds here.
const SHORTER: [(&str, &str); 7] = [
    ("for: 30s", "for: 1s"),
    ("for: 1m", "for: 1s"),
    ("for: 5m", "for: 1s"),
    ("for: 10m", "for: 1s"),
    ("[5m]", "[4s]"),
    ("[1h]", "[4s]"),
    ("$__rate_interval", "4s"),
];

const PATIENCE: Duration = Duration::from_secs(40);

fn shorter(text: &str) -> String {
    SHORTER.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/monitoring").join(name)
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What stands between two words, each time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split(after).next().unwrap_or_default()).collect()
}

struct Watch {
    dir: PathBuf,
    network: Network,
    address: String,
    daemons: Vec<Daemon>,
    /// The alerts that have fired.
    seen: BTreeSet<String>,
    /// The queries of the dashboard's panels that have returned nothing yet.
    empty: BTreeSet<String>,
}

impl Watch {
    /// The exporters, each beside its server, and Prometheus.
    fn start(servers: &[(usize, &Cluster)]) -> Watch {
        let (network, dir) = (Network::new(), directory());
        let config = network.adapt("monitoring/prometheus.yml", &[("15s", "500ms")]);
        write(&dir.join("prometheus.yml"), &config);
        write(&dir.join("alerts.yaml"), &shorter(&network.adapt("monitoring/alerts.yaml", &[])));
        for (name, more) in [
            ("queries.yaml", &[("cache_seconds: 60", "cache_seconds: 1"), ("> 30", "> 3")][..]),
            ("queries-authority.yaml", &[]),
        ] {
            write(&dir.join(name), &network.adapt(&format!("monitoring/{name}"), more));
        }
        let address = format!("{}:9090", network.address(9));
        let empty: BTreeSet<String> = between(&read(&example("dashboard.json")), "\"expr\": \"", "\",\n")
            .into_iter()
            .map(str::to_owned)
            .collect();
        assert!(empty.len() > 16, "the dashboard is read in another way than it is written: {empty:?}");
        let mut watch = Watch { dir, network, address, daemons: vec![], seen: BTreeSet::new(), empty };
        for (host, server) in servers {
            watch.export(server, &format!("{}:9187", watch.network.address(*host)), "queries.yaml");
            if *host == AUTHORITY {
                watch.export(server, &format!("{}:9188", watch.network.address(*host)), "queries-authority.yaml");
            }
        }
        let path = |name: &str| watch.dir.join(name).display().to_string();
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("tsdb")),
            format!("--web.listen-address={}", watch.address),
        ];
        let prometheus = Daemon::start("prometheus", &watch.dir, &arguments.each_ref().map(String::as_str), &[]);
        watch.daemons.push(prometheus);
        watch
    }

    fn export(&mut self, server: &Cluster, address: &str, queries: &str) {
        let socket = server.socket();
        let source =
            format!("user=idgen_monitor host={} dbname=postgres sslmode=disable", socket.parent().unwrap().display());
        let arguments = [
            format!("--web.listen-address={address}"),
            format!("--extend.query-path={}", self.dir.join(queries).display()),
            "--disable-default-metrics".into(),
            "--disable-settings-metrics".into(),
        ];
        self.daemons.push(Daemon::start(
            "prometheus-postgres-exporter",
            &self.dir,
            &arguments.each_ref().map(String::as_str),
            &[("DATA_SOURCE_NAME".into(), source)],
        ));
    }

    /// What Prometheus answers, in JSON.
    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn has_data(&self, query: &str) -> bool {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("query?query={encoded}")).unwrap();
        assert!(answer.contains(r#""status":"success""#), "{query}: {answer}");
        !answer.contains(r#""result":[]"#)
    }

    /// The alerts that are pending or fire, with the host of their server if they are about one, and whether they fire.
    fn alerts(&self) -> BTreeMap<String, bool> {
        let answer = self.ask("alerts").unwrap();
        assert!(!answer.contains("error expanding template"), "{answer}");
        let named = |alert: &str| {
            let label =
                |name: &str| between(alert, &format!("\"{name}\":\""), "\"").first().map(|text| text.to_string());
            let host = label("instance").map(|instance| instance.split([':', '.']).nth(3).unwrap().to_owned());
            let name = [label("alertname"), host].into_iter().flatten().collect::<Vec<String>>().join(" ");
            (name, label("state").unwrap() == "firing")
        };
        let mut alerts = BTreeMap::new();
        for (name, fires) in answer.split("{\"labels\":").skip(1).map(named) {
            *alerts.entry(name).or_default() |= fires;
        }
        alerts
    }

    /// Waits until each of these has fired, at one time or another.
    #[track_caller]
    fn fires(&mut self, expected: &[&str]) {
        let start = Instant::now();
        let mut missing: BTreeSet<&str> = expected.iter().copied().collect();
        while !missing.is_empty() {
            let alerts = self.alerts();
            missing.retain(|name| alerts.get(*name) != Some(&true));
            assert!(start.elapsed() < PATIENCE, "these alerts do not fire: {missing:?}; there are {alerts:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        self.seen.extend(expected.iter().map(|name| name.split(' ').next().unwrap().to_owned()));
        self.look();
        eprintln!("monitoring: {:.1} s to {}", start.elapsed().as_secs_f64(), expected.join(", "));
    }

    /// Waits until nothing is pending or fires.
    #[track_caller]
    fn clears(&mut self) {
        let start = Instant::now();
        loop {
            let alerts = self.alerts();
            if alerts.is_empty() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "these alerts do not clear: {alerts:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        self.look();
        eprintln!("monitoring: {:.1} s to clear", start.elapsed().as_secs_f64());
    }

    /// Asks what the panels of the dashboard do.
    fn look(&mut self) {
        let as_asked = |query: &String| shorter(&query.replace("\\\"", "\"").replace("$instance", ".*"));
        let empty: Vec<String> = self.empty.iter().filter(|query| !self.has_data(&as_asked(query))).cloned().collect();
        self.empty = empty.into_iter().collect();
    }
}

/// As `role.sql` says.
fn let_it_be_watched(server: &Cluster) {
    let file = directory().join("role.sql");
    write(&file, &read(&example("role.sql")));
    let mut psql = program("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]);
    run(psql.arg(server.socket().parent().unwrap()).arg("-f").arg(file));
}

fn server(settings: &str) -> Cluster {
    let mut server = Cluster::prepared(&format!("{IDGEN}{settings}"));
    server.longest_life = Duration::from_secs(300);
    server.start();
    server.create_extensions();
    let_it_be_watched(&server);
    server
}

fn sql(server: &Cluster, text: &str) {
    server.connect("postgres").batch_execute(text).unwrap();
}

/// The names of all alerts.
fn alerts() -> BTreeSet<String> {
    between(&read(&example("alerts.yaml")), "- alert: ", "\n").into_iter().map(str::to_owned).collect()
}

#[test]
fn each_alert_fires_when_what_it_is_about_breaks_and_clears_when_that_is_repaired() {
    let programs = [("prometheus", "--version"), ("prometheus-postgres-exporter", "--version")];
    if !all_here("monitoring", &programs) {
        return;
    }
    let primary =
        server("idgen.max_generators = 4\nidgen.horizon_lead = 1s\nidgen.wait_timeout = 200ms\ntrack_functions = all");
    let mut standby = primary.standby("standby");
    standby.longest_life = Duration::from_secs(300);
    standby.start();
    primary.reconfigure("synchronous_standby_names = 'standby'");
    let mut authority = server(
        "idgen.machine_id = 0\nidgen.authority_database = postgres\nidgen.grant_length = 12s\nidgen.max_clock_offset = 2s",
    );
    sql(&authority, "SELECT idgen_authority.reserve_machine(1)");
    let mut member = server(&format!("idgen.machine_id = -1\nidgen.authority = '{}'", authority.conninfo()));
    let peers = [&primary, &authority, &member].map(Cluster::conninfo).join("; ");
    for server in [&primary, &authority, &member] {
        server.reconfigure(&format!("idgen.peers = '{peers}'"));
    }
    sql(
        &primary,
        "CREATE TABLE orders (id bigint DEFAULT idgen_next() PRIMARY KEY, item text);
         SELECT idgen_create_generator('invoice_no', 'counter'), idgen_create_generator('slow', 'timestamp_machine');
         SELECT idgen_next('slow')",
    );
    let mut monitor = primary.connection("postgres").user("idgen_monitor").connect(NoTls).unwrap();
    for denied in ["SELECT FROM orders", "SELECT idgen_accept_clock()", "SELECT pg_read_file('postgresql.conf')"] {
        assert_refused(&mut monitor, denied, SqlState::INSUFFICIENT_PRIVILEGE, "");
    }
    let history = History::new();
    let mut load = Load::none();
    load.rest = Duration::from_millis(20);
    for query in
        ["SELECT idgen_next()", "SELECT idgen_next('invoice_no')", "INSERT INTO orders DEFAULT VALUES RETURNING id"]
    {
        load.add(&primary, &history, "primary", "postgres", 1, query);
    }

    let servers = [(PRIMARY, &primary), (STANDBY, &standby), (AUTHORITY, &authority), (MEMBER, &member)];
    let mut watch = Watch::start(&servers);
    wait_until("Prometheus is there", || watch.ask("query?query=1").is_ok_and(|answer| answer.contains("success")));
    wait_at_most(PATIENCE, "all servers are measured", || {
        watch.has_data("count(idgen_server_info) == 4 and count(idgen_machine_ids_used) == 3")
    });
    watch.clears();

    // The standby is away, and back as another one.
    standby.stop(Mode::Fast);
    watch.fires(&[
        "IdgenServerDown 2",
        "IdgenNoSynchronousStandby 1",
        "IdgenNoIds 1",
        "IdgenRefusals 1",
        "IdgenCallsWait 1",
    ]);
    let places = if Cluster::version() >= 18 { "max_active_replication_origins" } else { "max_replication_slots" };
    standby.configure(&format!("idgen.machine_id = 9\n{places} = 5"));
    standby.start();
    watch.fires(&["IdgenStandbyMachineId 2", "IdgenStandbyFewerPlaces 2"]);
    standby.stop(Mode::Fast);
    standby.configure(&format!("idgen.machine_id = 1\n{places} = 10"));
    standby.start();
    watch.clears();

    // What runs out, and what cannot be measured.
    sql(
        &primary,
        "SELECT pg_replication_origin_create('o' || n), pg_replication_origin_advance('o' || n, '0/1') FROM generate_series(1, 9) n;
         SELECT idgen_create_generator('ending', timestamp_bits => 40, sequence_bits => 12,
             epoch => clock_timestamp() + interval '100 days' - (1::bigint << 40) * interval '1 ms');
         SELECT idgen_create_generator('short', 'counter'), idgen_create_generator('other', 'snowflake');
         ALTER SEQUENCE short MAXVALUE 1000;
         SELECT idgen_next('short'), idgen_next('other')",
    );
    sql(&member, "REVOKE EXECUTE ON FUNCTION pg_show_replication_origin_status() FROM idgen_monitor");
    let in_the_way = member.data().join("idgen_grant.tmp");
    fs::create_dir(&in_the_way).unwrap();
    sql(&authority, "SELECT idgen_authority.reserve_machine(n) FROM generate_series(20, 960) n");
    sql(&primary, "SET idgen.wait_timeout = '20s'; SELECT count(*) FROM idgen_next_many('slow', 3000)");
    watch.fires(&[
        "IdgenOriginPlacesFull 1",
        "IdgenGeneratorsFull 1",
        "IdgenLayoutEnds 1",
        "IdgenCounterEnds 1",
        "IdgenFinding 1",
        "IdgenCallsSleep 1",
        "IdgenQueriesFail 4",
        "IdgenNotKept 4",
        "IdgenMachineIdsFew 3",
    ]);
    sql(
        &primary,
        "SELECT pg_replication_origin_drop('o' || n) FROM generate_series(1, 9) n; DROP SEQUENCE ending, short, other",
    );
    sql(&member, "GRANT EXECUTE ON FUNCTION pg_show_replication_origin_status() TO idgen_monitor");
    fs::remove_dir(&in_the_way).unwrap();
    sql(&authority, "SELECT idgen_authority.unreserve_machine(n, clock_timestamp()) FROM generate_series(20, 960) n");
    watch.clears();

    // A clock that leaps, is left behind, and comes back.
    primary.clock.set(48 * HOUR);
    watch.fires(&["IdgenClockHeld 1", "IdgenClockStepped 1", "IdgenPeerClock 3", "IdgenPeerClock 4"]);
    primary.clock.set(0);
    watch.clears();
    primary.clock.set(11 * SECOND);
    wait_until("ids follow it", || {
        primary.one("SELECT effective_clock > clock_timestamp() - interval '1 s' FROM idgen_status()")
    });
    primary.clock.set(0);
    watch.fires(&["IdgenClockAhead 1"]);

    // The member is lost, and the authority's book restored without it.
    member.stop(Mode::Immediate);
    watch.fires(&["IdgenMemberLost 3"]);
    member.start();
    watch.clears();
    sql(&authority, "DELETE FROM idgen_authority.book");
    watch.fires(&["IdgenBookUnsettled 3"]);
    sql(&authority, "SELECT idgen_authority.confirm_book()");
    watch.clears();

    // The authority is away, and comes back with the machine id of the primary.
    authority.stop(Mode::Fast);
    watch.fires(&[
        "IdgenServerDown 3",
        "IdgenAuthorityAway 4",
        "IdgenGrantEnds 4",
        "IdgenPeerAway 1",
        "IdgenPeerAway 4",
    ]);
    authority.configure("idgen.machine_id = 1");
    authority.start();
    watch.fires(&["IdgenMachineIdTwice"]);
    authority.stop(Mode::Fast);
    authority.configure("idgen.machine_id = 0");
    authority.start();
    watch.clears();

    load.finish();
    assert_eq!(watch.seen, alerts(), "alerts without a test");
    assert!(watch.empty.is_empty(), "panels without data: {:?}", watch.empty);
}

#[test]
fn the_rules_pass_their_own_tests_with_their_own_times() {
    if !all_here("monitoring, promtool", &[("promtool", "--version")]) {
        return;
    }
    let dir = directory();
    for name in ["alerts.yaml", "alerts_test.yaml"] {
        write(&dir.join(name), &read(&example(name)));
    }
    let tested =
        command("promtool").unwrap().args(["test", "rules"]).arg(dir.join("alerts_test.yaml")).output().unwrap();
    assert!(tested.status.success(), "{}{}", text(&tested.stdout), text(&tested.stderr));
    let names = read(&example("alerts_test.yaml"));
    assert!(alerts().iter().all(|name| names.contains(&format!("{{alertname=\"{name}\"}}"))));
}

#[test]
fn where_an_alert_points_to_there_is_a_section() {
    let rules = read(&example("alerts.yaml"));
    let places = between(&rules, "runbook: ", "\n");
    assert!(places.len() > alerts().len() / 2);
    for place in places {
        let (page, section) = place.split_once('#').unwrap();
        let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
        let headings = page.lines().filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")));
        let mut addresses = headings.map(|heading| heading.to_lowercase().replace(' ', "-").replace(',', ""));
        assert!(addresses.any(|address| address == section), "{place}");
    }
}

#[test]
fn the_dashboard_is_what_its_script_makes() {
    let library = unpacked().map(|usr| usr.join("../../grafana")).unwrap_or_default();
    let python = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &library).env("PYTHONDONTWRITEBYTECODE", "1").args(arguments).output()
    };
    if !python(&["-c", "import grafana_foundation_sdk"]).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: monitoring, dashboard: this machine has no python3 with grafana_foundation_sdk");
        return;
    }
    let checked = python(&[example("dashboard.py").to_str().unwrap(), "--check"]).unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}
