//! Values as texts that lose nothing.

use pgrx::pg_sys;

use crate::kit::rights::with_pinned_path;
use crate::kit::spi::with_settings;

/// Runs `work` so that numbers, dates and intervals are written whole, whatever the session has
/// set: a log must not lose what its writer would like to hide, and a key must name its row.
pub fn with_lossless_output<T>(work: impl FnOnce() -> T) -> T {
    const SHORTEST_EXACT: i32 = 1;
    // SAFETY: variables of this process.
    let (digits, dates, intervals) =
        unsafe { (pg_sys::extra_float_digits, pg_sys::DateStyle, pg_sys::IntervalStyle) };
    let as_wanted = digits >= SHORTEST_EXACT
        && dates == pg_sys::USE_ISO_DATES as i32
        && intervals == pg_sys::INTSTYLE_POSTGRES as i32;
    if as_wanted {
        return work();
    }
    let settings = [
        (c"extra_float_digits", SHORTEST_EXACT.to_string()),
        (c"DateStyle", "ISO".to_owned()),
        (c"IntervalStyle", "postgres".to_owned()),
    ];
    with_settings(&settings, work)
}

/// Runs `work` so that functions that types call mean names of pg_catalog, and money is written in one currency: a log
/// must not have what its writer makes of a value.
pub fn with_pinned_output<T>(work: impl FnOnce() -> T) -> T {
    with_pinned_path(|| with_settings(&[(c"lc_monetary", "C".to_owned())], work))
}
