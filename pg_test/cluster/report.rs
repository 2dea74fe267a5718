//! Saying what was left out.

use std::io::Write;

/// Tells that a test, or a part of it, did not run, whether or not the output is captured.
pub fn skipped(test: &str, reason: &str) {
    // A message that cannot be written changes no result.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}
