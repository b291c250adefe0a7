//! Blocks of a dense counter, leased for good ahead of need from the authority: ids without a machine id. While one block is
//! in use the next one is already there, so nobody waits at the edge of a block while the authority answers.

use super::{Micros, SECOND};
use std::ops::RangeInclusive;

/// A block that is used up sooner than this is too small to outlast a stall of the authority.
const SHORT: Micros = 2 * SECOND;

/// A block that lasts longer than this is more than a crash should lose.
const LONG: Micros = 20 * SECOND;

/// Numbers `first .. first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub first: u64,
    pub count: u64,
}

/// The blocks of one generator on one server, in one life of its shared memory: a block from an earlier life is a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The last number accepted.
    highest: u64,
    /// How large the next block is to be.
    size: u64,
    /// When the block in use was begun.
    since: Option<Micros>,
    next: Option<Block>,
}

impl Blocks {
    /// No block is held yet.
    pub fn new(sizes: &RangeInclusive<u64>) -> Blocks {
        Blocks { highest: 0, size: *sizes.start(), since: None, next: None }
    }

    /// How many numbers to ask the authority for; None while there is a next block. If an answer never came, the question is
    /// asked again; if both answers come, each block is used or a gap.
    pub fn want(&self) -> Option<u64> {
        self.next.is_none().then_some(self.size)
    }

    /// Takes an answer, whenever it comes. False: it is stale or repeated, and its block is a gap.
    pub fn accept(&mut self, block: Block) -> bool {
        let last = block.first.saturating_add(block.count).saturating_sub(1);
        if block.first <= self.highest || last < block.first || self.next.is_some() {
            return false;
        }
        (self.highest, self.next) = (last, Some(block));
        true
    }

    /// Called when the block in use is used up: gives the next one, if it is there. The next size follows from how long the
    /// last block lasted, within `sizes`.
    pub fn advance(&mut self, now: Micros, sizes: &RangeInclusive<u64>) -> Option<Block> {
        let next = self.next.take()?;
        if let Some(since) = self.since {
            self.size = match now.saturating_sub(since) {
                ..SHORT => self.size.saturating_mul(2),
                SHORT..=LONG => self.size,
                _ => self.size / 2,
            };
        }
        self.size = self.size.clamp(*sizes.start(), *sizes.end());
        self.since = Some(now);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: RangeInclusive<u64> = 100..=1000;

    fn block(first: u64, count: u64) -> Block {
        Block { first, count }
    }

    #[test]
    fn one_is_in_use_while_the_next_is_there() {
        let mut blocks = Blocks::new(&SIZES);
        assert_eq!((blocks.advance(0, &SIZES), blocks.want()), (None, Some(100)));
        assert!(blocks.accept(block(1, 100)));
        assert_eq!(blocks.want(), None);
        assert_eq!(blocks.advance(0, &SIZES), Some(block(1, 100)));
        assert_eq!(blocks.want(), Some(100), "ahead of need");
        assert_eq!(blocks.advance(1, &SIZES), None);
    }

    #[test]
    fn the_size_doubles_while_blocks_last_too_short_and_halves_while_too_long() {
        let mut blocks = Blocks::new(&SIZES);
        let (mut first, mut now) = (1, 0);
        let mut lasts = |lasting: Micros| {
            assert!(blocks.accept(block(first, 1000)));
            (first, now) = (first + 1000, now + lasting);
            blocks.advance(now, &SIZES);
            blocks.want().unwrap()
        };
        lasts(0);
        let sizes = [1, 1, 1, 1, SHORT, LONG, LONG + 1, LONG + 1, LONG + 1, LONG + 1].map(&mut lasts);
        assert_eq!(sizes, [200, 400, 800, 1000, 1000, 1000, 500, 250, 125, 100]);
    }

    #[test]
    fn stale_and_repeated_blocks_are_gaps() {
        let mut blocks = Blocks::new(&SIZES);
        assert!(blocks.accept(block(41, 10)) && blocks.advance(0, &SIZES).is_some());
        assert!(!blocks.accept(block(50, 10)), "at or below the highest");
        assert!(!blocks.accept(block(51, 0)), "empty");
        assert!(!blocks.accept(block(u64::MAX, 2)), "beyond the end");
        assert!(blocks.accept(block(51, 10)) && !blocks.accept(block(61, 10)), "one ahead");
        assert_eq!(blocks.advance(0, &SIZES), Some(block(51, 10)));
        assert!(!blocks.accept(block(51, 10)), "repeated");
    }

    proptest! {
        #[test]
        fn no_number_is_used_twice_whatever_comes(
            answers in proptest::collection::vec((0u64..200, 0u64..20, any::<bool>()), 1..100),
        ) {
            let (mut blocks, mut used) = (Blocks::new(&SIZES), 0);
            for (now, (first, count, advances)) in answers.into_iter().enumerate() {
                blocks.accept(block(first, count));
                if advances && let Some(block) = blocks.advance(now as i64, &SIZES) {
                    prop_assert!(block.first > used && block.count > 0);
                    used = block.first + block.count - 1;
                }
                prop_assert!(SIZES.contains(&blocks.size));
            }
        }
    }
}
