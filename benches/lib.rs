//! Measurements; docs/benchmarks.md has what they gave.
