//! A disk for the WAL that is full: the process that needs the next segment ends PostgreSQL by a PANIC, and idgen with it.

use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, IDGEN, run};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::Client;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// A few segments of WAL.
const SIZE: &str = "size=80m,mode=0700";

/// Puts a small disk under the server's WAL, seen only by this thread and the processes and threads that it starts: the disk
/// is gone with the last of them.
fn give_small_disk(wal: &Path) -> io::Result<()> {
    let checked = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let text = |bytes: &[u8]| CString::new(bytes).unwrap();
    let (root, none, tmpfs, wal, size) =
        (text(b"/"), text(b"none"), text(b"tmpfs"), text(wal.as_os_str().as_bytes()), text(SIZE.as_bytes()));
    // SAFETY: system calls that read only these strings.
    unsafe {
        checked(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        checked(libc::mount(none.as_ptr(), root.as_ptr(), std::ptr::null(), private, std::ptr::null()))?;
        checked(libc::mount(none.as_ptr(), wal.as_ptr(), tmpfs.as_ptr(), 0, size.as_ptr().cast()))
    }
}

/// Fills the rest of the disk.
fn fill(ballast: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn panics(cluster: &Cluster) -> Vec<String> {
    let full = |line: &&str| line.contains("PANIC") && line.contains("No space left on device");
    cluster.log().lines().filter(full).map(String::from).collect()
}

/// The first process that meets the full disk is, by turns, a session that writes rows and idgen's worker with its next move.
#[test]
fn no_id_is_given_twice_when_the_disk_of_the_wal_is_full_and_ids_go_on_when_there_is_space() {
    let mut cluster = Cluster::prepared(IDGEN);
    cluster.configure("idgen.horizon_lead = '200ms'\nidgen.max_borrow = '50ms'\nidgen.wait_timeout = '500ms'");
    let (wal, kept) = (cluster.data().join("pg_wal"), cluster.data().join("kept"));
    run(Command::new("cp").arg("-a").arg(&wal).arg(&kept));
    if let Err(error) = give_small_disk(&wal) {
        // Not by a macro: this line must be seen although the test passes.
        writeln!(io::stderr(), "SKIPPED, the disk of the WAL full: a small one cannot be mounted here ({error})")
            .unwrap();
        return;
    }
    run(Command::new("cp").arg("-a").arg(kept.join(".")).arg(&wal));
    cluster.start();
    cluster
        .connect("postgres")
        .batch_execute("CREATE EXTENSION idgen; CREATE TABLE t (id bigint DEFAULT idgen_next(), x text)")
        .unwrap();
    let ballast = wal.join("ballast");
    let history = History::new();
    for round in 0..4 {
        let mut load = Load::start(&cluster, &history, "a", 2, NEXT);
        load.add(&cluster, &history, "a", "postgres", 1, "SELECT idgen_next_many(1000)");
        if round % 2 == 0 {
            load.add(
                &cluster,
                &history,
                "a",
                "postgres",
                1,
                "INSERT INTO t SELECT FROM generate_series(1, 100) RETURNING id",
            );
        }
        load.flow(100);
        fill(&ballast);
        if round % 2 == 1 {
            // The rest of each segment goes to waste; the first record in the next one is the worker's.
            let switch = |mut client: Client| client.batch_execute("SELECT pg_switch_wal()");
            wait_until("no segment is left", || cluster.try_connect("postgres").and_then(switch).is_err());
        }
        cluster.wait_for_end();
        load.finish();
        assert!(panics(&cluster).len() > round, "round {round}: {}", cluster.log());
        assert!(cluster.try_start().is_err(), "the server starts without space");
        fs::remove_file(&ballast).unwrap();
        cluster.start();
        wait_until("ids go on", || cluster.connect("postgres").query_one(NEXT, &[]).is_ok());
        cluster.connect("postgres").batch_execute("CHECKPOINT").unwrap();
    }
    Load::run(&cluster, &history, "a", 2, NEXT, 100);
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    // Calls without an answer went down with the server; the others were told of the disk, or that the horizon did not move.
    assert!(report.failures.keys().all(|code| ["", "53100", "57P03"].contains(&code.as_str())), "{report}");
    assert!(panics(&cluster).iter().any(|panic| panic.contains("idgen horizon")), "{:?}", panics(&cluster));
}
