//! The machine id that an authority grants to this server: when it is asked for, kept on disk, followed by the bounds and
//! given back. `protocol/grants.rs` decides what questions and answers mean; [`super::link`] sends and hears them.

use super::{bounds, kept, said::Said};
use crate::{
    mechanism::{Micros, SECOND},
    postgres::{clock, faults, random, settings},
    protocol::grants::{Answer, Ask, Change, Member, Question},
    shared::Shared,
};
use std::sync::atomic::Ordering::*;

pub struct Held {
    shared: &'static Shared,
    member: Member,
    /// Whether a question is open, and when the next may be asked.
    is_asked: bool,
    ask_at: Micros,
    /// Since when the authority refuses, if it does.
    refused: Option<Micros>,
    /// When to keep the state again, after that failed.
    keep_at: Micros,
    /// Whether the bounds no longer follow the held grant, because it is to be given back.
    is_withdrawn: bool,
    /// Whether this connection was asked if it knows the grant: it may lead to another authority than before.
    is_known: bool,
}

impl Held {
    /// Goes on from the state that this server kept.
    pub fn start(shared: &'static Shared) -> Self {
        let member = Member::start(kept::incarnation(), kept::kept());
        if settings::MACHINE_ID.get() < 0 {
            bounds::follow_grant(shared, member.held);
        }
        Held {
            shared,
            member,
            is_asked: false,
            ask_at: 0,
            refused: None,
            keep_at: Micros::MAX,
            is_withdrawn: false,
            is_known: false,
        }
    }

    /// Does what is due without the authority.
    pub fn work(&mut self, said: &Said) {
        self.release(said);
        if clock::boot() >= self.keep_at {
            self.keep();
        }
    }

    /// Gives the machine id back if that is wanted, once no id can be given under it any more, and the authority is there to be
    /// told: until then it can be called off.
    fn release(&mut self, said: &Said) {
        let wanted = self.shared.member.release.load(SeqCst);
        if self.is_withdrawn != wanted && self.member.held.is_some() {
            // If this is called off before the grant is given back, the bounds may follow it again.
            bounds::follow_grant(self.shared, self.member.held.filter(|_| !wanted));
        }
        self.is_withdrawn = wanted;
        if !wanted {
            return;
        }
        if self.member.held.is_some() {
            let now = clock::boot();
            let is_connected = self.shared.member.connected.load(Relaxed);
            if is_connected && self.shared.grant.applied() == 0 && now >= self.ask_at {
                let mut released = self.member.clone();
                // Ids were permitted up to the horizon, and streams of backends may have gone so far.
                released.release(self.shared.horizon.durable());
                // A restart that still had the grant would give out ids beside its next holder.
                if kept::keep(&released) {
                    self.member = released;
                } else {
                    self.ask_at = now + SECOND;
                    // Also if this is called off: then the grant that is held must be kept.
                    self.keep_at = now + kept::KEEP_AGAIN;
                    said.complain("the machine id is kept while idgen_grant in the data directory cannot be written");
                }
            }
        } else if self.member.released.is_none() {
            self.shared.member.released.store(true, Release);
            self.shared.horizon.wake_waiting();
        }
    }

    /// The question that is due now; from then on it is open.
    pub fn next(&mut self, now: Micros) -> Option<Question> {
        let ask = self.due(now)?;
        (self.is_asked, self.is_known) = (true, true);
        Some(self.member.question(ask, self.shared.horizon.now(), clock::both().wall, random::number()))
    }

    fn due(&self, now: Micros) -> Option<Ask> {
        // The effective clock is known once the horizon has moved.
        let may_ask = settings::MACHINE_ID.get() < 0
            && !self.is_asked
            && now >= self.ask_at
            && self.shared.horizon.started() != 0
            && (self.member.held.is_some() || self.shared.grant.applied() == 0);
        if !may_ask {
            return None;
        }
        let ask = self.member.ask(self.shared.horizon.now()).or_else(|| {
            let is_unknown = !self.is_known && !cfg!(feature = "copied_grants");
            let held = self.member.held.filter(|_| is_unknown)?;
            Some(held.renewal())
        })?;
        let is_resting = self.shared.member.release.load(SeqCst) && !matches!(ask, Ask::Release { .. });
        (!is_resting).then_some(ask)
    }

    /// Takes the answer to the open question.
    pub fn answered(&mut self, answer: &Answer, now: Micros) {
        (self.is_asked, self.ask_at, self.refused) = (false, now + SECOND / 10, None);
        if self.member.accept(answer, self.shared.horizon.now()) != Change::Nothing {
            self.keep();
            faults::point("member:kept");
            bounds::follow_grant(self.shared, self.member.held.filter(|_| !self.is_withdrawn));
        }
    }

    /// The authority refused the open question, and writes that into its log: it is asked ever less often.
    pub fn refused(&mut self, now: Micros) {
        let lasts = now - *self.refused.get_or_insert(now);
        (self.is_asked, self.ask_at) = (false, now + (lasts / 8).clamp(SECOND / 2, 5 * SECOND));
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        (self.is_asked, self.is_known) = (false, false);
    }

    /// Keeps the state on disk; if that fails, it is tried again after a while.
    fn keep(&mut self) {
        self.keep_at = if kept::keep(&self.member) { Micros::MAX } else { clock::boot() + kept::KEEP_AGAIN };
    }
}
