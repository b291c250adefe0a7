//! Storms over several servers: an authority that fails over, members that take machine ids, strict ids and blocks from it,
//! and a network with faults between them. All clients' histories are checked against every promise.
//!
//! The storms last as long as STORM_SECONDS says. Their negative controls need a library built with the feature
//! `no_lease` or `copied_grants`, and some storms one with `faults`, and are ignored unless asked for: see the Makefile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;

mod authorities;
mod blocks;
mod clocks;
mod failovers;
mod grants;
mod network;
mod passwords;
mod steps;

use harness::checker::Rules;
use std::time::Duration;

/// One id a call.
const NEXT: &str = "SELECT idgen_next()";

/// The ids are unique, and in order on all servers that share one name.
const UNIQUE: Rules = Rules { machine: false, honest: None };

/// How long a storm lasts; None: the short form.
fn storm_length() -> Option<Duration> {
    std::env::var("STORM_SECONDS").ok().map(|seconds| Duration::from_secs(seconds.parse().unwrap()))
}

/// No server of a storm lives longer than this.
fn longest_life() -> Duration {
    storm_length().unwrap_or_default() * 2 + Duration::from_secs(300)
}
