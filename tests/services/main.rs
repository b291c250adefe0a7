//! What stands between idgen and its clients in the field: balancers, poolers, failover managers; and Prometheus, which watches
//! it: with the configuration files of `examples/`, at addresses of this machine only.
//!
//! A test whose programs are not here says so, and passes: `tests/setup.sh` brings them where that is possible.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;

mod client;
mod daemon;
mod failover;
mod load_balancing;
mod monitoring;

use harness::checker::Rules;

/// The ids are unique and in order, and have their server's machine id.
const IDENTITY: Rules = Rules { machine: true, honest: None };
