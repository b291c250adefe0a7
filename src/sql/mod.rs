//! What SQL can call, by topic. Each function guards, calls and converts; sql/ says what it means.

mod ask;
mod forms;
mod ids;
mod repair;
mod status;

use crate::{
    error::{Error, OrRaise},
    mechanism::{Micros, SECOND, layout::Layout},
};
use pgrx::{pg_sys, prelude::*};

/// 2000-01-01, where a timestamptz counts from.
const POSTGRES_EPOCH: Micros = 946_684_800 * SECOND;

fn checked(layout: Layout, id: i64) -> u64 {
    match u64::try_from(id) {
        Err(_) => Error::NegativeId.raise(),
        Ok(id) if id > layout.max_id() => Error::IdTooLarge { max: layout.max_id() }.raise(),
        Ok(id) => id,
    }
}

fn timestamp(layout: Layout, id: i64) -> TimestampWithTimeZone {
    let at = layout.timestamp_of(checked(layout, id)).ok_or(Error::NoTime).or_raise();
    to_timestamptz(layout, at)
}

fn from_timestamptz(at: TimestampWithTimeZone) -> Micros {
    pg_sys::TimestampTz::from(at).saturating_add(POSTGRES_EPOCH)
}

fn to_timestamptz(layout: Layout, at: Micros) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(at.saturating_sub(POSTGRES_EPOCH))
        .map_err(|_| Error::OutsideLayout(layout))
        .or_raise()
}
