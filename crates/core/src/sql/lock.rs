//! Locks by which calls of several sessions wait for each other. The server's side is in `pg::cluster_lock`.

use crate::hash::sha256_hex;

/// A lock that a call takes until its transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLock {
    key: i64,
    /// Whether several calls may have it at once, but none that does not share it.
    pub is_shared: bool,
}

impl CallLock {
    /// Its number in the cluster: two databases use the same keys.
    pub fn key_in(&self, database: u32) -> u64 {
        lock_key(&["database", &database.to_string(), &self.key.to_string()]) as u64
    }
}

/// The lock with this key; `is_shared` lets several in.
pub fn lock(key: i64, is_shared: bool) -> CallLock {
    CallLock { key, is_shared }
}

/// A key for a lock; each part goes in with its length, so that none can look like two.
pub fn lock_key(parts: &[&str]) -> i64 {
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let digest = sha256_hex(format!("vector_tools {text}").as_bytes());
    // Sixteen hexadecimal digits always are a number of 64 bits.
    u64::from_str_radix(&digest[..16], 16).unwrap_or(0) as i64
}

/// The lock that lets one call at a time change what a table, by its number in the catalogue, is governed by. Two that
/// have opened it could not both alter it.
pub fn definition_lock(table: u32) -> CallLock {
    lock(lock_key(&["definition", &table.to_string()]), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_and_names_have_locks_of_their_own() {
        let of = |table| definition_lock(table).key_in(5);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert_ne!(of(7), definition_lock(7).key_in(6), "expected another lock in another database");
        assert_ne!(lock_key(&["a", "bc"]), lock_key(&["ab", "c"]));
    }
}
