//! Real PostgreSQL servers that tests start, kill, clone and promote, each with a wall clock of its own; and histories of
//! what their clients saw, with a checker that compares these with what idgen promises.
//!
//! The servers' programs are in the folder that the environment variable `PG_BINDIR` names (`tests/setup.sh` prints it).

// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod checker;
pub mod clock;
pub mod cluster;
pub mod history;
pub mod load;
mod pipeline;
pub mod proxy;
mod sort;

use std::time::{Duration, Instant};

/// Waits for something that comes soon, and fails if it does not come.
#[track_caller]
pub fn wait_until(what: &str, happened: impl FnMut() -> bool) {
    wait_at_most(Duration::from_secs(30), what, happened);
}

#[track_caller]
pub fn wait_at_most(time: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
