//! What SQL can do to this server: repairs by superusers, and the questions of its peers.

use super::{checked, from_timestamptz};
use crate::{
    error::{Error, OrRaise},
    mechanism::layout::SERVER,
    postgres::{clock, process::AtExit, settings},
    protocol::gossip::Now,
    shared::{self, Shared, horizon::Repair, member::Member, serving, waiting},
};
use pgrx::{pg_sys, prelude::*};

#[pg_extern]
fn idgen_accept_clock() {
    waiting::repair(primary(), Repair::AcceptClock).or_raise();
}

#[pg_extern]
fn idgen_raise_horizon(at: TimestampWithTimeZone) {
    SERVER.ids_at(from_timestamptz(at)).ok_or(Error::OutsideLayout(SERVER)).or_raise();
    waiting::repair(primary(), Repair::RaiseHorizon(from_timestamptz(at))).or_raise();
}

/// The answer to a peer's question.
#[pg_extern]
fn idgen_gossip(cluster: &[u8], message: &[u8]) -> Option<String> {
    let shared = primary();
    if settings::cluster().as_bytes() != cluster {
        Error::OtherCluster.raise();
    }
    let (now, reach) = (clock::both(), shared.places.gossip_reach());
    shared.gossip.answer(&String::from_utf8_lossy(message), Now { boot: now.boot, wall: now.wall, reach }).or_raise()
}

#[pg_extern]
fn idgen_take_over() {
    let shared = primary();
    if shared.gossip.process.pid().is_none() {
        Error::NoPeers.raise();
    }
    waiting::wait_until_done(shared, || shared.gossip.ask_take_over()).or_raise();
}

#[pg_extern]
fn idgen_observe(id: i64) {
    let shared = primary();
    let reach = SERVER.tick_end(SERVER.stamp_of(checked(SERVER, id)));
    if reach > clock::both().wall.saturating_add(settings::max_clock_offset()) {
        Error::ObservedTooFarAhead.raise();
    }
    shared.places.observe(reach, clock::boot());
    // Durable before this returns, so that it holds over a crash and a failover too.
    waiting::wait_for_horizon(shared, reach).or_raise();
}

#[pg_extern]
fn idgen_release_machine() {
    let shared = primary();
    if settings::MACHINE_ID.get() >= 0 || settings::authority().is_none() {
        Error::NotGranted.raise();
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn leave(_code: i32, member: pg_sys::Datum) {
        // SAFETY: that of the shared words below.
        unsafe { (*member.cast_mut_ptr::<Member>()).call_release_off() };
    }
    /// A session that goes before the machine id is given back calls that off.
    struct Wanted<'a> {
        member: &'a Member,
        _leave: AtExit,
    }
    impl Drop for Wanted<'_> {
        fn drop(&mut self) {
            self.member.call_release_off();
        }
    }
    let wanted = Wanted { member: &shared.member, _leave: AtExit::new(leave, &shared.member) };
    shared.member.want_release(true);
    let released = waiting::wait_for_move(shared, || Ok(shared.member.is_released().then_some(())));
    drop(wanted);
    released.map_err(|_| Error::ReleaseTimeout).or_raise();
}

#[pg_extern]
fn idgen_take_machine() {
    primary().member.want_release(false);
}

/// The shared words, on a server that is not in recovery.
fn primary() -> &'static Shared {
    let shared = shared::shared().or_raise();
    serving::check_not_in_recovery().or_raise();
    shared
}
