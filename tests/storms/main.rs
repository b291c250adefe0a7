//! Storms: many faults of many kinds on real servers under load; the clients' histories are checked against every promise.
//!
//! `soak` is one long storm of random faults, as long as STORM_SECONDS says; each other storm has one kind of fault. The
//! modules `steps` and `no_horizon` need a library built with the feature `faults` or `no_horizon`, and are ignored unless
//! asked for: see the Makefile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;

mod abuse;
mod catalog;
mod clocks;
mod copies;
mod disk;
mod failovers;
mod no_horizon;
mod resources;
mod soak;
mod steps;

use harness::checker::Rules;

/// One id a call.
const NEXT: &str = "SELECT idgen_next()";

/// The ids are unique and in order, and have their server's machine id.
const IDENTITY: Rules = Rules { machine: true, honest: None };

/// The ids are unique and in order.
const PLAIN: Rules = Rules { machine: false, honest: None };
