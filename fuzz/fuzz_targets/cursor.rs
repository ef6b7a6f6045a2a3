#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| persist_tests::fuzz::cursor::check(bytes));
