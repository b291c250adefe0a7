//! The slot in which a caller waits for strict ids, when its last ticket is answered late.

use loom::{model::Builder, thread};
use std::panic::catch_unwind;

fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = there() {
            return found;
        }
        thread::yield_now();
    }
}

/// `slots!("text" => "other text", ...)`: the slot as it stands, with texts replaced.
macro_rules! slots {
    ($($from:tt => $to:tt),*) => {
        copy::protocol! { protocol, "slot.rs": "std::sync::atomic" => "loom::sync::atomic" $(, "slot.rs": $from => $to)* }
        use protocol::{slot::Slot, tickets::Run};

        /// A caller gives its first call up, whose ticket the worker has, and makes another. The worker answers that, and only
        /// then the first: what the caller gets is of the call that it was for.
        fn play() {
            let slot: &'static Slot = Box::leak(Box::default());
            let first = slot.wait(0, 1);
            let (_, early) = slot.take(0).unwrap();
            let caller = thread::spawn(move || {
                drop(first);
                let waiting = slot.wait(0, 1);
                let run = until(|| waiting.result());
                assert!(run.first == 2, "another's: {run:?}");
            });
            let (_, late) = until(|| slot.take(0));
            for ticket in [late, early] {
                slot.answer(ticket, Run { first: u64::from(ticket.generation), count: 1, machine: 0 });
            }
            caller.join().unwrap();
        }

        pub fn explore() -> Result<(), String> {
            let mut builder = Builder::new();
            builder.preemption_bound.get_or_insert(4);
            catch_unwind(|| builder.check(play)).map_err(|claim| *claim.downcast::<String>().unwrap())
        }
    };
}

mod real {
    use super::*;
    slots!();
}

#[test]
fn a_late_answer_leaves_the_result_of_the_next_call_alone() {
    assert_eq!(real::explore(), Ok(()));
}

mod answered_unseen {
    use super::*;
    slots!("self.word.load(Relaxed) != taken" => "false");
}

#[test]
fn without_a_look_at_the_generation_first_it_does_not() {
    assert!(answered_unseen::explore().unwrap_err().starts_with("another's"));
}
