//! What idgen promises, shown on real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;

mod blocks;
mod borrow;
mod clock;
mod concurrency;
mod controls;
mod copy;
mod crash;
mod doctor;
mod errors;
mod failover;
mod forms;
mod generators;
mod gossip;
mod grants;
mod hostile;
mod hosts;
mod liveness;
mod migration;
mod places;
mod repair;
mod strict;
mod synchronous;
mod worker;

use harness::checker::Rules;
use harness::clock::{SECOND, machine_wall};
use harness::history::{Call, Caller};

/// One id a call.
const NEXT: &str = "SELECT idgen_next()";

/// The ids are unique and in order, and have their server's machine id.
const IDENTITY: Rules = Rules { machine: true, honest: None };

/// Also their time is that of a right clock, with the defaults of idgen.horizon_lead and idgen.max_borrow.
const IDENTITY_AND_TIME: Rules = Rules { machine: true, honest: Some(&near) };

/// Ahead of the clock by a lead and the loans at most. After a crash behind it for a moment, which is less than a minute.
fn near(_: &Caller, call: &Call) -> std::ops::RangeInclusive<i64> {
    machine_wall(call.begin) - 60 * SECOND..=machine_wall(call.end) + 5 * SECOND
}
