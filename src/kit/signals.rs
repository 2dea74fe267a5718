//! Keeping the server's signals away from threads that are not the backend's own.

/// Runs `work` with all signals blocked in this thread. Threads it starts inherit the block, so
/// that PostgreSQL's handlers only ever run in the backend's own thread.
pub fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    /// Puts the old mask back, on unwinding too.
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the mask was filled by pthread_sigmask.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    // SAFETY: both sets are local, and initialised before they are read.
    let _restore = unsafe {
        let mut all = std::mem::zeroed();
        let mut old = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        Restore(old)
    };
    work()
}
