//! The member worker: the one connection of this server to its authority. Over it go machine ids, strict ids and
//! blocks, each decided in `protocol`; [`super::link`] sends, hears and waits.
//!
//! It runs while `idgen.authority` is set, and is launched by the worker of the horizon.

use super::{bounds, link::Link};
use crate::{
    postgres::settings,
    shared::{self, Shared},
};
use pgrx::{pg_sys, prelude::*};

/// Launches the worker, if it is not there.
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

/// Works until there is no authority any more, with 0, or the process is told to end, with 1.
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
