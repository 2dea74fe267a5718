//! The places of workers, and who wants their database.

use pgrx::pg_sys;

use crate::kit::cluster_lock::ClusterLock;
use crate::settings;

/// How many more workers there may be.
pub fn free_slots() -> usize {
    (0..settings::max_workers()).filter(|slot| ClusterLock::of_slot(*slot).is_free()).count()
}

/// The place of a worker: its database and a slot.
pub struct WorkerSlot {
    /// The database.
    pub database: pg_sys::Oid,
    slot: Option<u32>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The database has a worker.
    Database,
    /// There are as many as may be.
    Slots,
}

impl WorkerSlot {
    /// The place of a database, which is not taken yet.
    pub fn of(database: pg_sys::Oid) -> WorkerSlot {
        WorkerSlot { database, slot: None }
    }

    /// Takes the place.
    ///
    /// # Errors
    /// What is taken.
    pub fn take(&mut self) -> Result<(), Taken> {
        if !ClusterLock::of_database(self.database).try_acquire() {
            return Err(Taken::Database);
        }
        self.slot = (0..settings::max_workers()).find(|slot| ClusterLock::of_slot(*slot).try_acquire());
        if self.slot.is_some() {
            return Ok(());
        }
        ClusterLock::of_database(self.database).release();
        Err(Taken::Slots)
    }

    /// Gives the place up.
    pub fn give_up(&mut self) {
        if let Some(slot) = self.slot.take() {
            ClusterLock::of_slot(slot).release();
            ClusterLock::of_database(self.database).release();
        }
    }

    /// Whether it is taken, and there may be so many workers still.
    pub fn is_kept(&self) -> bool {
        let Some(slot) = self.slot else { return false };
        slot < settings::max_workers()
            && ClusterLock::of_database(self.database).is_kept()
            && ClusterLock::of_slot(slot).is_kept()
    }
}

/// Whether somebody wants the database for himself, to drop, rename or copy it. PostgreSQL waits for others to
/// leave for five seconds, and tells only autovacuum to.
pub fn is_database_wanted(database: pg_sys::Oid) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // What every session takes while it connects.
    let mode = pg_sys::RowExclusiveLock as i32;
    // SAFETY: a complete tag, given back at once.
    unsafe {
        let result = pg_sys::LockAcquire(&tag, mode, true, true);
        let is_wanted = result == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
        if !is_wanted {
            pg_sys::LockRelease(&tag, mode, true);
        }
        is_wanted
    }
}
