//! Locks of the whole cluster that say which workers there are.
//!
//! They are advisory locks of the database 0, where no session can take one, and held by the process, so
//! that an error does not give them back and its end does, whichever it is.

use pgrx::pg_sys;

use crate::pg::settings;

/// Sets these locks apart from those of others who had the same idea.
const CLASS: u32 = 0x7665_6374;
/// Advisory locks of sessions have 1 and 2 here.
const DATABASE: u16 = 3;
const SLOT: u16 = 4;

const MODE: i32 = pg_sys::ExclusiveLock as i32;

/// A lock that one process of the cluster can hold.
#[derive(Clone, Copy)]
pub struct ClusterLock {
    tag: pg_sys::LOCKTAG,
}

impl ClusterLock {
    /// That of the worker of a database.
    pub fn of_database(database: pg_sys::Oid) -> ClusterLock {
        ClusterLock::new(database.to_u32(), DATABASE)
    }

    fn of_slot(slot: u32) -> ClusterLock {
        ClusterLock::new(slot, SLOT)
    }

    fn new(object: u32, kind: u16) -> ClusterLock {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: 0,
            locktag_field2: CLASS,
            locktag_field3: object,
            locktag_field4: kind,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        ClusterLock { tag }
    }

    /// Takes the lock if nobody has it.
    pub fn try_acquire(&self) -> bool {
        // SAFETY: a complete tag; the lock belongs to the process, so it needs no transaction.
        let result = unsafe { pg_sys::LockAcquire(&self.tag, MODE, true, true) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    /// Gives the lock back.
    pub fn release(&self) {
        // SAFETY: as above; one that is not held is a WARNING.
        unsafe { pg_sys::LockRelease(&self.tag, MODE, true) };
    }

    /// Whether this process has the lock still, or has it again: `pg_advisory_unlock_all()` in the trigger
    /// of some table gives it back.
    pub fn is_kept(&self) -> bool {
        // SAFETY: as above.
        match unsafe { pg_sys::LockAcquire(&self.tag, MODE, true, true) } {
            pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => false,
            pg_sys::LockAcquireResult::LOCKACQUIRE_OK => true,
            _ => {
                self.release();
                true
            }
        }
    }

    /// Whether nobody has the lock, or is about to have it.
    pub fn is_free(&self) -> bool {
        // SAFETY: looks at the lock table, under its own lock.
        unsafe { pg_sys::LockWaiterCount(&self.tag) == 0 }
    }

    /// Sets the latch of the process that has the lock; tells whether there is one. Raises no error,
    /// since it is called when a transaction has been committed already.
    pub fn tell_holder(&self) -> bool {
        if self.is_free() {
            return false;
        }
        // One look into the lock table while the worker is in a transaction; the whole of the table while
        // it waits, which is when its first new row comes.
        self.tell_holder_in_transaction() || self.tell_any_holder()
    }

    fn tell_holder_in_transaction(&self) -> bool {
        let mut count = 0;
        // SAFETY: the array has `count` elements and goes away with the transaction's memory. The process may be
        // gone by now: another one that has its place is woken in vain.
        unsafe {
            let holders = pg_sys::GetLockConflicts(&self.tag, MODE, &mut count);
            for place in 0..count as usize {
                set_latch(process_of(&*holders.add(place)));
            }
        }
        count > 0
    }

    fn tell_any_holder(&self) -> bool {
        // SAFETY: a copy of the lock table in the transaction's memory.
        let locks = unsafe {
            let data = pg_sys::GetLockStatusData();
            std::slice::from_raw_parts((*data).locks, (*data).nelements as usize)
        };
        let is_holder = |lock: &&pg_sys::LockInstanceData| {
            same_tag(&lock.locktag, &self.tag) && lock.holdMask & (1 << MODE) != 0
        };
        let Some(holder) = locks.iter().find(is_holder) else { return false };
        // SAFETY: looks for a running process; none is found for one that is starting, which needs not be
        // woken (see `pg::worker`).
        unsafe { set_latch(pg_sys::BackendPidGetProc(holder.pid)) };
        true
    }
}

/// The place of a transaction's process in the table of processes, or NULL.
///
/// # Safety
/// The transaction must be one that PostgreSQL has named.
#[cfg(not(feature = "pg16"))]
unsafe fn process_of(transaction: &pg_sys::VirtualTransactionId) -> *mut pg_sys::PGPROC {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::ProcNumberGetProc(transaction.procNumber) }
}

/// The place of a transaction's process in the table of processes, or NULL.
///
/// # Safety
/// The transaction must be one that PostgreSQL has named.
#[cfg(feature = "pg16")]
unsafe fn process_of(transaction: &pg_sys::VirtualTransactionId) -> *mut pg_sys::PGPROC {
    unsafe extern "C-unwind" {
        // sinvaladt.h, which pgrx leaves out.
        fn BackendIdGetProc(backend: pg_sys::BackendId) -> *mut pg_sys::PGPROC;
    }
    // SAFETY: the caller's promise.
    unsafe { BackendIdGetProc(transaction.backendId) }
}

/// Sets the latch of a process, if it is there.
///
/// # Safety
/// `process` must be NULL or a place in the table of processes.
unsafe fn set_latch(process: *mut pg_sys::PGPROC) {
    // SAFETY: the latch is in shared memory as long as the server runs.
    unsafe {
        if !process.is_null() {
            pg_sys::SetLatch(&mut (*process).procLatch);
        }
    }
}

fn same_tag(one: &pg_sys::LOCKTAG, other: &pg_sys::LOCKTAG) -> bool {
    let fields = |tag: &pg_sys::LOCKTAG| {
        (
            (tag.locktag_field1, tag.locktag_field2, tag.locktag_field3),
            (tag.locktag_field4, tag.locktag_type, tag.locktag_lockmethodid),
        )
    };
    fields(one) == fields(other)
}

/// How many more workers there may be.
pub fn free_slots() -> usize {
    (0..settings::max_workers()).filter(|slot| ClusterLock::of_slot(*slot).is_free()).count()
}

/// The place of a worker: its database and a slot.
pub struct Place {
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

impl Place {
    /// The place of a database, which is not taken yet.
    pub fn of(database: pg_sys::Oid) -> Place {
        Place { database, slot: None }
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
