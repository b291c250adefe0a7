//! A process is killed at each step from the authority's allocating to the member's answering. Needs the feature `faults`.

use crate::harness::checker::check;
use crate::harness::cluster::Cluster;
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{UNIQUE, longest_life};
use std::fs;

const AUTHORITY: [&str; 6] =
    ["allocate:taken", "lease:logged", "lease:durable", "grant:written", "grant:logged", "grant:durable"];
const MEMBER: [&str; 3] = ["member:asked", "member:heard", "member:kept"];

const STRICT: &str = "SELECT idgen_next('s')";
const BLOCK: &str = "SELECT idgen_next('b')";
const SERVER: &str = "SELECT idgen_next()";

#[test]
#[ignore = "needs the feature faults"]
fn no_id_comes_twice_or_late_when_a_process_is_killed_at_any_step_between_authority_and_caller() {
    let mut authority = Cluster::with_idgen(
        "idgen.machine_id = 0\nidgen.authority_database = postgres\nidgen.grant_length = 2s\nidgen.max_block_size = 100",
    );
    let mut member = Cluster::with_idgen(&format!(
        "idgen.machine_id = -1\nidgen.max_block_size = 100\nidgen.authority = '{}'",
        authority.conninfo()
    ));
    (authority.longest_life, member.longest_life) = (longest_life(), longest_life());
    for server in [&authority, &member] {
        let make = "SELECT idgen_create_generator('s', 'snowflake', ordering => 'strict'),
            idgen_create_generator('b', 'counter', ordering => 'block')";
        server.connect("postgres").batch_execute(make).unwrap();
    }
    let queries = [STRICT, BLOCK, SERVER];
    let histories = queries.map(|_| History::new());
    let steps = AUTHORITY.iter().map(|point| (&authority, *point)).chain(MEMBER.iter().map(|point| (&member, *point)));
    for (server, point) in steps {
        let loads: Vec<Load> = queries
            .iter()
            .zip(&histories)
            .map(|(query, history)| Load::start(&member, history, "all", 2, *query))
            .collect();
        loads.iter().for_each(|load| load.flow(20));
        let file = server.data().join("idgen_fault");
        fs::write(&file, format!("{point} kill")).unwrap();
        wait_until("a process comes to the point", || !file.exists());
        wait_until("ids of each kind go on", || {
            let Ok(mut client) = member.try_connect("postgres") else { return false };
            queries.iter().all(|query| client.query_one(*query, &[]).is_ok())
        });
        loads.into_iter().for_each(Load::finish);
    }
    for history in &histories {
        check(history, &UNIQUE).assert_clean();
    }
}
