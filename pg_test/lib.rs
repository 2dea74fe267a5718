//! Tests on real servers: `cluster` and `docs`. The others beside them belong to the packages that they test.
