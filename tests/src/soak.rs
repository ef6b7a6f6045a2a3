//! The long forms of tests: `make soak`.

/// What one of these figures is: the short form's, or the long one's where `PERSIST_SOAK` is set.
pub fn or<T>(short: T, long: T) -> T {
    match std::env::var_os("PERSIST_SOAK") {
        Some(value) if !value.is_empty() => long,
        _ => short,
    }
}
