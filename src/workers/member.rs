//! The member worker, with this server's one connection to its authority. Machine ids, strict ids and blocks go over it, each
//! decided in `protocol`; [`super::link`] sends, hears and waits.
//!
//! The worker runs while `idgen.authority` is set; the horizon's worker launches it.

use super::{bounds, link::Link};
use crate::{
    postgres::settings,
    shared::{self, Shared},
};
use pgrx::{pg_sys, prelude::*};

/// Launches the worker, if it does not run.
pub fn launch(shared: &Shared) {
    shared.member.process.launch("idgen member", "idgen_member_main");
}

/// Where the worker's process begins.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn idgen_member_main(_arg: pg_sys::Datum) {
    if let Ok(shared) = shared::shared() {
        shared.member.process.live(None, || run(shared));
    }
}

/// Works until there is no authority any more (0), or until the process is told to end (1).
fn run(shared: &'static Shared) -> i32 {
    let mut link = Link::new(shared);
    loop {
        let Some(authority) = settings::authority() else {
            bounds::follow_grant(shared, None);
            return 0;
        };
        link.follow(&authority);
        if let Err(why) = link.work() {
            link.lose(&why);
        }
        if !link.wait() {
            return 1;
        }
    }
}
