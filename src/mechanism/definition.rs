//! What a generator is, as one line of text: its layout, for a counter how many values are made durable at once, and the
//! order of its ids over several servers.

use super::layout::Layout;
use std::{fmt, str::FromStr};

/// Which ids an id of a generator is greater than.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Ids that this server returned before the call began.
    #[default]
    Server = 0,
    /// The same, and ids of connected peers that are older than the bound that `idgen_peers()` shows.
    Gossip = 1,
    /// Ids that any server returned before the call began: the authority gives them all.
    Strict = 2,
    /// As `Server`, for counters that have no machine id: the authority leases blocks of one sequence of numbers.
    Block = 3,
}

impl Order {
    const NAMES: [(Order, &str); 4] =
        [(Order::Server, "server"), (Order::Gossip, "gossip"), (Order::Strict, "strict"), (Order::Block, "block")];

    /// The order that has this number.
    pub fn from_number(number: u8) -> Order {
        Order::NAMES.into_iter().map(|(order, _)| order).find(|order| *order as u8 == number).unwrap_or_default()
    }

    fn parse(text: &str) -> Result<Order, String> {
        let named = Order::NAMES.into_iter().find(|(_, name)| *name == text).map(|(order, _)| order);
        named.ok_or_else(|| "order is not server, gossip, strict or block".into())
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Order::NAMES[*self as usize].1)
    }
}

/// The properties of a generator that never change. Text form: the text of the layout, then ` flush:NUMBER` for a counter,
/// then ` order:NAME` unless the order is `server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    pub layout: Layout,
    /// Of a counter: how many values a block has, 1 to 2^31; else 0. A crash skips at most the rest of the blocks in use.
    pub flush_every: u32,
    pub order: Order,
}

const MAX_FLUSH_EVERY: u32 = 1 << 31;

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout.fmt(f)?;
        if self.layout.is_counter() {
            write!(f, " flush:{}", self.flush_every)?;
        }
        if self.order == Order::Server { Ok(()) } else { write!(f, " order:{}", self.order) }
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Definition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, order) = match text.split_once(" order:") {
            Some((text, order)) => (text, Order::parse(order)?),
            None => (text, Order::Server),
        };
        let (layout, flush) = match text.split_once(" flush:") {
            Some((layout, flush)) => (layout.parse::<Layout>()?, Some(flush)),
            None => (text.parse::<Layout>()?, None),
        };
        let flush_every = match (layout.is_counter(), flush) {
            (false, None) => 0,
            (false, Some(_)) => return Err("only a counter has flush".into()),
            (true, None) => return Err("flush is missing".into()),
            (true, Some(flush)) => flush
                .parse()
                .ok()
                .filter(|every| (1..=MAX_FLUSH_EVERY).contains(every))
                .ok_or_else(|| format!("flush is not between 1 and {MAX_FLUSH_EVERY}"))?,
        };
        match (order, layout.is_counter()) {
            (Order::Strict | Order::Gossip, true) => Err("a counter has order server or block".into()),
            (Order::Strict | Order::Gossip, false) if layout.has_backend() => {
                Err("a layout with backend bits has order server".into())
            }
            (Order::Block, false) => Err("only a counter has order block".into()),
            (Order::Block, true) if layout.max_machine() != 0 => {
                Err("a counter of order block has no machine bits".into())
            }
            _ => Ok(Definition { layout, flush_every, order }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_a_definition() {
        for text in [
            "timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000",
            "timestamp:39 sequence:8 machine:16 epoch:1409529600000000 tick:10000",
            "counter:53 machine:10 flush:2147483648",
            "counter:63 flush:1",
            "counter:63 flush:1 order:block",
            "timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000 order:strict",
            "timestamp:63 epoch:0 tick:1 order:gossip",
        ] {
            assert_eq!(text.parse::<Definition>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_order_belongs_to_layouts_that_can_keep_it() {
        for (text, why) in [
            ("timestamp:41 epoch:0 tick:1000 order:block", "only a counter has order block"),
            ("counter:53 machine:10 flush:1 order:block", "a counter of order block has no machine bits"),
            ("counter:53 flush:1 order:strict", "a counter has order server or block"),
            ("timestamp:41 backend:5 epoch:0 tick:1000 order:strict", "a layout with backend bits has order server"),
            ("timestamp:41 epoch:0 tick:1000 order:any", "order is not server, gossip, strict or block"),
        ] {
            assert_eq!(text.parse::<Definition>().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn flush_belongs_to_counters_and_has_bounds() {
        for (text, why) in [
            ("timestamp:41 epoch:0 tick:1000 flush:50", "only a counter has flush"),
            ("counter:53 machine:10", "flush is missing"),
            ("counter:53 machine:10 flush:0", "flush is not between 1 and 2147483648"),
            ("counter:53 machine:10 flush:2147483649", "flush is not between 1 and 2147483648"),
            ("counter:53 machine:10 flush:x", "flush is not between 1 and 2147483648"),
        ] {
            assert_eq!(text.parse::<Definition>().unwrap_err(), why, "{text}");
        }
    }
}
