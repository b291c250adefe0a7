//! Copies of a server: each goes on above what it holds; a clone with the same machine id is an error of the user.

use crate::harness::checker::{Promise, check};
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, IDGEN, Mode, one, program, run};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::{IDENTITY, NEXT};
use std::fs::{self, File};
use std::path::PathBuf;

fn take(cluster: &Cluster, history: &History, server: &str) {
    Load::run(cluster, history, server, 2, NEXT, 200);
}

#[test]
fn a_base_backup_started_in_place_of_its_origin_goes_on_above_what_the_backup_holds() {
    let mut origin = Cluster::with_idgen("");
    let history = History::new();
    take(&origin, &history, "a");
    let mut copy = origin.copy();
    origin.stop(Mode::Fast);
    copy.clock.set(-HOUR);
    copy.start();
    take(&copy, &history, "a");
    check(&history, &IDENTITY).assert_clean();
}

/// The documentation says beside the command that a clone needs another machine id. This is the reason.
#[test]
fn a_clone_with_another_machine_id_shares_no_id_and_one_with_the_same_is_reported() {
    // After its restart the clone begins a lead ahead: with a short lead the two clocks meet soon.
    let origin = Cluster::with_idgen("idgen.horizon_lead = '100ms'");
    let (other, same) = (History::new(), History::new());
    let mut clone = origin.copy();
    clone.configure("idgen.machine_id = 2");
    clone.start();
    for history in [&other, &same] {
        let a = Load::start(&origin, history, "a", 1, "SELECT idgen_next_many(1000)");
        let b = Load::start(&clone, history, "b", 1, "SELECT idgen_next_many(1000)");
        a.flow(300);
        b.flow(300);
        a.finish();
        b.finish();
        clone.stop(Mode::Fast);
        clone.configure("idgen.machine_id = 1");
        clone.start();
    }
    check(&other, &IDENTITY).assert_clean();
    let report = check(&same, &IDENTITY);
    assert!(report.violations.contains_key(&Promise::Unique), "{report}");
}

#[test]
fn recovery_to_a_point_in_time_goes_on_above_its_clock() {
    let mut origin = Cluster::running(IDGEN);
    let archive = origin.data().join("archive");
    fs::create_dir(&archive).unwrap();
    let parent = fs::metadata(origin.data()).unwrap();
    std::os::unix::fs::chown(
        &archive,
        Some(std::os::unix::fs::MetadataExt::uid(&parent)),
        Some(std::os::unix::fs::MetadataExt::gid(&parent)),
    )
    .unwrap();
    origin.configure("archive_mode = on\narchive_command = 'cp %p archive/%f'");
    origin.stop(Mode::Fast);
    origin.start();
    let mut client = origin.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen; CREATE TABLE seen (id bigint)").unwrap();
    let mut before = origin.copy();
    let mut after = origin.copy();
    client.batch_execute("INSERT INTO seen SELECT idgen_next() FROM generate_series(1, 1000)").unwrap();
    let target: String = one(&mut client, "SELECT pg_create_restore_point('between')::text");
    client.batch_execute("INSERT INTO seen SELECT idgen_next() FROM generate_series(1, 1000)").unwrap();
    let highest: i64 = one(&mut client, "SELECT max(id) FROM seen");
    client.batch_execute("SELECT pg_switch_wal(); CHECKPOINT").unwrap();
    let rows_and_next = |copy: &mut Cluster, settings: &str| {
        copy.configure(&format!("archive_mode = off\nrestore_command = 'cp {}/%f %p'\n{settings}", archive.display()));
        File::create(copy.data().join("recovery.signal")).unwrap();
        copy.start();
        crate::harness::wait_until("recovery is over", || copy.one("SELECT NOT pg_is_in_recovery()"));
        let mut client = copy.connect("postgres");
        (one::<i64>(&mut client, "SELECT count(*) FROM seen"), one::<i64>(&mut client, NEXT))
    };
    let last: String = one(&mut client, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    client.batch_execute("SELECT idgen_next(); SELECT pg_switch_wal()").unwrap();
    crate::harness::wait_until("the archive has it all", || archive.join(&last).exists());
    drop(client);
    origin.stop(Mode::Fast);
    let recover = "recovery_target_action = 'promote'";
    let (rows, next) = rows_and_next(&mut before, &format!("{recover}\nrecovery_target_name = 'between'"));
    assert_eq!(rows, 1000, "to {target}");
    assert!(next > highest, "its clock is right: {next} after {highest}");
    // Up to the end of the archive, with the clock an hour back: the register tells how far the origin had gone.
    after.clock.set(-HOUR);
    let (rows, next) = rows_and_next(&mut after, recover);
    assert_eq!(rows, 2000);
    assert!(next > highest, "{next} after {highest}");
}

#[test]
fn a_dump_restored_elsewhere_goes_on_with_ids_of_that_server() {
    let origin = Cluster::with_idgen("");
    let mut client = origin.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('g', 'js_safe');
             CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY, other bigint DEFAULT idgen_next('g'));
             INSERT INTO t SELECT FROM generate_series(1, 100)",
        )
        .unwrap();
    let file = origin.data().join("dump");
    let socket = |cluster: &Cluster| cluster.data().parent().unwrap().display().to_string();
    run(program("pg_dump").args(["-U", "postgres", "-h"]).arg(socket(&origin)).arg("-f").arg(&file).arg("postgres"));
    let target = Cluster::running(&format!("{IDGEN}idgen.machine_id = 7"));
    let mut psql = program("psql");
    run(psql
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
        .arg(socket(&target))
        .arg("-f")
        .arg(&file));
    let mut client = target.connect("postgres");
    client.batch_execute("INSERT INTO t SELECT FROM generate_series(1, 100)").unwrap();
    let machines = "SELECT count(*) FROM t WHERE idgen_machine(id) = 7 AND idgen_machine(other, 'g') = 7";
    assert_eq!(one::<i64>(&mut client, machines), 100);
    assert_eq!(one::<i64>(&mut client, "SELECT count(DISTINCT id) + count(DISTINCT other) FROM t"), 400);
}

#[test]
fn databases_copied_from_a_template_share_the_server_generator() {
    let cluster = Cluster::with_idgen("");
    let mut admin = cluster.connect("template1");
    admin.batch_execute("CREATE DATABASE copy TEMPLATE postgres").unwrap();
    let history = History::new();
    let mut load = Load::start(&cluster, &history, "a", 2, NEXT);
    load.add(&cluster, &history, "a", "copy", 2, NEXT);
    load.flow(2000);
    load.finish();
    check(&history, &IDENTITY).assert_clean();
}

/// pg_upgrade does not carry the register over. With a right clock ids go on above the old ones; where the clock was ahead, a
/// superuser says how far.
#[test]
fn pg_upgrade_goes_on_above_its_clock_and_above_a_raised_horizon() {
    let old_programs = PathBuf::from(std::env::var_os("PG_BINDIR").unwrap());
    let newer = |version: &str| old_programs.join("../..").join(version).join("bin");
    let Some(new_programs) = ["16", "18"].map(newer).into_iter().find(|bin| bin.join("pg_upgrade").exists()) else {
        println!("no newer PostgreSQL beside {}: not tried", old_programs.display());
        return;
    };
    if Cluster::version() >= 16 {
        return;
    }
    let mut old = Cluster::with_idgen("");
    old.clock.set(HOUR);
    let mut client = old.connect("postgres");
    client.batch_execute("CREATE TABLE seen AS SELECT idgen_next_many(1000) AS id").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
    client.batch_execute("INSERT INTO seen SELECT idgen_next_many(1000)").unwrap();
    let highest: i64 = one(&mut client, "SELECT max(id) FROM seen");
    drop(client);
    old.stop(Mode::Fast);
    let new_data = old.data().with_file_name("upgraded");
    // An absolute path replaces PG_BINDIR.
    let as_owner = |folder: &PathBuf, name: &str| program(&folder.join(name).display().to_string());
    run(as_owner(&new_programs, "initdb")
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
        .arg(&new_data));
    let mut file = fs::OpenOptions::new().append(true).open(new_data.join("postgresql.conf")).unwrap();
    std::io::Write::write_all(&mut file, format!("listen_addresses = ''\n{IDGEN}").as_bytes()).unwrap();
    let mut upgrade = as_owner(&new_programs, "pg_upgrade");
    upgrade
        .current_dir(old.data().parent().unwrap())
        .args(["-U", "postgres", "-b"])
        .arg(&old_programs)
        .arg("-B")
        .arg(&new_programs);
    run(upgrade.arg("-d").arg(old.data()).arg("-D").arg(&new_data));
    let socket = old.data().parent().unwrap().display().to_string();
    let pg_ctl = |action: &[&str]| {
        let mut command = as_owner(&new_programs, "pg_ctl");
        run(command
            .args(["-w", "-D"])
            .arg(&new_data)
            .arg("-o")
            .arg(format!("-k {socket}"))
            .args(["-l", "/dev/null"])
            .args(action));
    };
    pg_ctl(&["start"]);
    let mut client = old.connect("postgres");
    let below: i64 = one(&mut client, NEXT);
    client.batch_execute("SELECT idgen_raise_horizon(idgen_timestamp(max(id)) + interval '1 ms') FROM seen").unwrap();
    let above: i64 = one(&mut client, NEXT);
    drop(client);
    pg_ctl(&["stop", "-m", "fast"]);
    assert!(below < highest, "pg_upgrade carries the register now: {below}, {highest}");
    assert!(above > highest, "{above} after {highest}");
}
