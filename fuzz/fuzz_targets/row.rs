#![no_main]

use std::cell::RefCell;

use persist_tests::fuzz::row::Rows;

thread_local!(static ROWS: RefCell<Rows> = RefCell::new(Rows::new()));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ROWS.with_borrow_mut(|rows| rows.check(bytes)));
