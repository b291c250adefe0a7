//! The negative control: idgen without its horizon is reported. Needs the feature `no_horizon`.

use crate::harness::checker::{Promise, check};
use crate::harness::clock::HOUR;
use crate::harness::cluster::Cluster;
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::{IDENTITY, NEXT};

#[test]
#[ignore = "needs the feature no_horizon"]
fn idgen_without_its_horizon_is_reported_to_break_the_order_after_a_kill() {
    let mut cluster = Cluster::with_idgen("");
    let history = History::new();
    for _ in 0..2 {
        let load = Load::start(&cluster, &history, "a", 2, NEXT);
        load.flow(300);
        cluster.clock.set(-HOUR);
        cluster.kill();
        load.finish();
        cluster.start();
    }
    let report = check(&history, &IDENTITY);
    println!("{report}");
    assert!(report.violations.contains_key(&Promise::Ordered), "{report}");
}

/// The function that many blogs have copied, as they show it.
#[test]
fn a_clock_and_a_sequence_modulo_1024_are_reported_to_repeat_ids() {
    let mut cluster = Cluster::with_idgen("");
    cluster
        .connect("postgres")
        .batch_execute(
            "CREATE SEQUENCE s;
             CREATE FUNCTION copied() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
                 RETURN ((floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1735689600000) << 22)
                     | (1 << 12) | (nextval('s') % 1024);
             END $$",
        )
        .unwrap();
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 2, "SELECT copied() FROM generate_series(1, 5000)");
    load.flow(40);
    cluster.clock.set(-HOUR);
    load.flow(20);
    cluster.kill();
    load.finish();
    cluster.start();
    let report = check(&history, &IDENTITY);
    println!("{report}");
    assert!(report.violations.contains_key(&Promise::Ordered), "{report}");
}
