//! The members' clocks, on which the order of strict ids does not depend.

use crate::authorities::Authorities;
use crate::harness::checker::check;
use crate::harness::clock::HOUR;
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::{NEXT, UNIQUE};

#[test]
fn strict_ids_are_in_one_order_and_go_on_while_members_clocks_leap_an_hour_ahead_and_behind() {
    let authorities = Authorities::new(1, "idgen.ordering = strict");
    let members = [0, 1].map(|_| authorities.member("idgen.ordering = strict"));
    let history = History::new();
    let mut load = Load::none();
    for member in &members {
        load.add(member, &history, "all", "postgres", 4, NEXT);
    }
    for step in 0..12 {
        members[0].clock.set(HOUR * [1, -1, 0][step % 3]);
        members[1].clock.set(HOUR * [-1, 1, -2, 2][step % 4]);
        load.flow(300);
    }
    load.finish();
    let report = check(&history, &UNIQUE);
    report.assert_clean();
    assert!(report.failures.is_empty(), "{report}");
}
