//! Hooks that say when a statement fires its triggers, and when it has fired them all; and the frames
//! in which row triggers collect what is written once for the whole statement.
//!
//! Nothing can be forgotten: a statement that ends well passes its hook, and one that fails takes
//! what it collected with it, with the frame it collected it in.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::thread::LocalKey;

use pgrx::pg_sys;

use vector_tools_core::error::Result;

/// The frames of the statements that are firing triggers; the innermost is the last.
pub type Frames<F> = LocalKey<RefCell<Vec<F>>>;

/// Takes the frame away however the statement ends.
struct FrameGuard<F: 'static> {
    frames: &'static Frames<F>,
    depth: usize,
}

impl<F> Drop for FrameGuard<F> {
    fn drop(&mut self) {
        self.frames.with_borrow_mut(|frames| frames.truncate(self.depth));
    }
}

/// Runs a part of a statement that fires its triggers, and then writes what they collected.
pub fn in_frame<F: Default>(
    frames: &'static Frames<F>,
    work: impl FnOnce(),
    write: impl FnOnce(F) -> Result<()>,
) -> Result<()> {
    let depth = frames.with_borrow_mut(|frames| {
        frames.push(F::default());
        frames.len() - 1
    });
    let _guard = FrameGuard { frames, depth };
    work();
    let frame = frames.with_borrow_mut(|frames| frames.get_mut(depth).map(std::mem::take));
    frame.map_or(Ok(()), write)
}

/// Hands the frame of the innermost statement to `add`, if there is one; it is away meanwhile, since
/// writing may run other triggers.
///
/// # Errors
/// Those of `add`, and the value itself where no statement is firing triggers.
pub fn add_to_frame<F: Default, T>(
    frames: &'static Frames<F>,
    value: T,
    add: impl FnOnce(F, T) -> Result<F>,
) -> Result<Option<T>> {
    let Some(frame) = frames.with_borrow_mut(|frames| frames.last_mut().map(std::mem::take)) else {
        return Ok(Some(value));
    };
    let frame = add(frame, value)?;
    frames.with_borrow_mut(|frames| {
        if let Some(place) = frames.last_mut() {
            *place = frame;
        }
    });
    Ok(None)
}

/// What the features do around statements. They hand it over when the library is loaded, so that nothing here knows them.
pub struct Features {
    /// Runs a part of a statement that fires its triggers, in a frame of each feature.
    pub in_frames: fn(&mut dyn FnMut()),
    /// Called before a TRUNCATE.
    pub begin_truncate: fn(),
    /// Called before a COMMIT PREPARED.
    pub begin_commit_of_prepared: fn(),
}

static FEATURES: OnceLock<Features> = OnceLock::new();

fn in_frames(work: impl FnOnce()) {
    let mut work = Some(work);
    let mut once = || work.take().into_iter().for_each(|work| work());
    match FEATURES.get() {
        Some(features) => (features.in_frames)(&mut once),
        None => once(),
    }
}

/// Calls the hook that was there before, or else what PostgreSQL does without hooks; errors of C become panics at the
/// boundary.
macro_rules! pass_on {
    ($previous:ident, $standard:ident, $($argument:ident),+) => {
        match $previous {
            Some(previous) => pg_sys::ffi::pg_guard_ffi_boundary(|| previous($($argument),+)),
            None => pg_sys::$standard($($argument),+),
        }
    };
}

static mut PREVIOUS_FINISH: pg_sys::ExecutorFinish_hook_type = None;
static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Puts the hooks in, after those that are there.
pub fn watch_statements(features: Features) {
    // The library is loaded once in a process.
    let _ = FEATURES.set(features);
    // SAFETY: called once, while the library is loaded, in a process of one thread.
    unsafe {
        PREVIOUS_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(finish_statement);
        PREVIOUS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(run_utility);
    }
}

/// The triggers of INSERT, UPDATE, DELETE and MERGE run here; a statement that only reads has none,
/// and shall not pay for them.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn finish_statement(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the argument is passed on as it came.
    let finish = || unsafe { pass_on!(PREVIOUS_FINISH, standard_ExecutorFinish, query) };
    // SAFETY: a statement that is being executed has its plan.
    let has_triggers = unsafe {
        (*query).operation != pg_sys::CmdType::CMD_SELECT || (*(*query).plannedstmt).hasModifyingCTE
    };
    if has_triggers {
        in_frames(finish);
    } else {
        finish();
    }
}

/// Those of COPY and TRUNCATE run here.
#[pgrx::pg_guard]
#[allow(clippy::too_many_arguments, reason = "the signature of the hook")]
unsafe extern "C-unwind" fn run_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const std::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the arguments are passed on as they came.
    let run = || unsafe {
        pass_on!(
            PREVIOUS_UTILITY,
            standard_ProcessUtility,
            statement,
            text,
            read_only_tree,
            context,
            parameters,
            environment,
            destination,
            completion
        )
    };
    // SAFETY: a utility statement has its parse tree.
    match unsafe { (*(*statement).utilityStmt).type_ } {
        pg_sys::NodeTag::T_CopyStmt => in_frames(run),
        pg_sys::NodeTag::T_TransactionStmt => {
            // SAFETY: the node is what its tag says.
            let kind = unsafe { (*(*statement).utilityStmt.cast::<pg_sys::TransactionStmt>()).kind };
            if kind == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED {
                FEATURES.get().into_iter().for_each(|features| (features.begin_commit_of_prepared)());
            }
            run();
        }
        pg_sys::NodeTag::T_TruncateStmt => {
            FEATURES.get().into_iter().for_each(|features| (features.begin_truncate)());
            run();
        }
        _ => run(),
    }
}
