//! Who has a queued call, in every order in which its caller and whoever works on it can meet. Loom goes through all
//! of them, and through what the orderings of memory allow. The number of a test is that of the table of failures.
//!
//! The file of the ticket is compiled here once more, with loom's atomics in place of the standard library's.

// Shadows it for the whole crate: what says `std` below, in the ticket too, means loom's.
extern crate loom as std;

#[path = "../../persist-core/src/layer/ticket.rs"]
#[expect(unreachable_pub, reason = "public in the crate that it is a file of")]
mod ticket;

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use ticket::Ticket;

#[test]
fn x8_a_call_is_taken_or_withdrawn_once_and_never_both() {
    loom::model(|| {
        let ticket = Ticket::default();
        let takers = [(); 2].map(|()| {
            let ticket = ticket.clone();
            thread::spawn(move || ticket.take())
        });
        let withdrawn = ticket.withdraw();
        let taken = takers.map(|taker| taker.join().unwrap());
        let owners = [withdrawn, taken[0], taken[1]];
        assert_eq!(owners.into_iter().filter(|owns| *owns).count(), 1, "{owners:?}");
        assert_eq!(ticket.is_withdrawn(), withdrawn);
    });
}

/// What the writers tell a caller whose patience may run out at any moment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Stored,
    NotApplied,
    Unknown,
}

#[test]
fn x8_what_is_told_not_applied_was_never_sent() {
    // Not loom's: they count over all orders.
    static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    loom::model(|| {
        let ticket = Ticket::default();
        let (store, reply) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(false)));
        let flush = {
            let (ticket, store, reply) = (ticket.clone(), Arc::clone(&store), Arc::clone(&reply));
            thread::spawn(move || {
                if ticket.take() {
                    *store.lock().unwrap() += 1;
                    *reply.lock().unwrap() = true;
                }
            })
        };
        let answered = *reply.lock().unwrap();
        let told = match answered {
            true => Told::Stored,
            false if ticket.withdraw() => Told::NotApplied,
            false => Told::Unknown,
        };
        SEEN[told as usize].fetch_add(1, Relaxed);
        if told == Told::Stored {
            assert_eq!(*store.lock().unwrap(), 1, "stored before it was told");
        }
        flush.join().unwrap();
        let stored = *store.lock().unwrap() == 1;
        assert_eq!(stored, told != Told::NotApplied, "{told:?}");
    });
    let seen = SEEN.each_ref().map(|seen| seen.load(Relaxed));
    assert!(seen.iter().all(|seen| *seen > 0), "every end was met: {seen:?}");
    println!("orders that end as stored, not applied and unknown: {seen:?}");
}
