//! Locks of the whole cluster, which no session can take by SQL.
//!
//! They are advisory locks of the database 0: those of sessions are of their own database. So nobody but the extension
//! holds one, whoever knows its number.

use pgrx::pg_sys;

use vector_tools_core::sql::lock::CallLock;

/// Sets these locks apart from those of others who had the same idea.
const CLASS: u32 = 0x7665_6374;
/// Advisory locks of sessions have 1 and 2 here.
const DATABASE: u16 = 3;
const SLOT: u16 = 4;
const STATISTICS: u16 = 5;
const CALL: u16 = 6;

const MODE: i32 = pg_sys::ExclusiveLock as i32;

/// A lock that one process of the cluster can hold. It belongs to the process, so that an error does not give it back and
/// its end does, whichever it is.
#[derive(Clone, Copy)]
pub struct ClusterLock {
    tag: pg_sys::LOCKTAG,
}

impl ClusterLock {
    /// That of the worker of a database.
    pub fn of_database(database: pg_sys::Oid) -> ClusterLock {
        ClusterLock::new(database.to_u32(), DATABASE)
    }

    /// That of one of the workers that there may be.
    pub fn of_slot(slot: u32) -> ClusterLock {
        ClusterLock::new(slot, SLOT)
    }

    /// That of the process which counts the words of a table in a database.
    pub fn of_statistics(database: pg_sys::Oid) -> ClusterLock {
        ClusterLock::new(database.to_u32(), STATISTICS)
    }

    fn new(object: u32, kind: u16) -> ClusterLock {
        ClusterLock { tag: tag(CLASS, object, kind) }
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

fn tag(class: u32, object: u32, kind: u16) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: class,
        locktag_field3: object,
        locktag_field4: kind,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
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

/// Takes the lock, which others may have first, and keeps it until the transaction ends. A cancel, lock_timeout
/// and the detection of deadlocks end the wait. What the others have changed in the catalogue is known
/// afterwards: PostgreSQL looks for it when it takes a lock on a table, but not on one that is locked already.
pub fn acquire_lock(lock: CallLock) {
    acquire(lock, false);
    // SAFETY: called where statements run, which is where PostgreSQL calls it too.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Takes the lock until the transaction ends, where nobody has it; tells whether that is so.
pub fn try_acquire_lock(lock: CallLock) -> bool {
    acquire(lock, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

fn acquire(lock: CallLock, only_now: bool) -> pg_sys::LockAcquireResult::Type {
    // SAFETY: a variable of this process.
    let key = lock.key_in(unsafe { pg_sys::MyDatabaseId.to_u32() });
    let mode = if lock.is_shared { pg_sys::ShareLock } else { pg_sys::ExclusiveLock };
    // SAFETY: a complete tag; called in a transaction, which the lock ends with.
    unsafe { pg_sys::LockAcquire(&tag((key >> 32) as u32, key as u32, CALL), mode as i32, false, only_now) }
}
