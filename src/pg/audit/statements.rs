//! Hooks that say when a statement fires its triggers, and when it has fired them all.

use pgrx::pg_sys;

use super::buffer;
use crate::pg::report::OrReport;

static mut PREVIOUS_FINISH: pg_sys::ExecutorFinish_hook_type = None;
static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Puts the hooks in, after those that are there.
pub fn watch_statements() {
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
    // SAFETY: the arguments are passed on as they came; errors of C become panics at the boundary.
    let finish = || unsafe {
        match PREVIOUS_FINISH {
            Some(previous) => pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query)),
            None => pg_sys::standard_ExecutorFinish(query),
        }
    };
    // SAFETY: a statement that is being executed has its plan.
    let has_triggers = unsafe {
        (*query).operation != pg_sys::CmdType::CMD_SELECT || (*(*query).plannedstmt).hasModifyingCTE
    };
    if has_triggers {
        buffer::in_frame(finish).or_report();
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
    // SAFETY: as above; a utility statement has its parse tree.
    let run = || unsafe {
        match PREVIOUS_UTILITY {
            Some(run) => pg_sys::ffi::pg_guard_ffi_boundary(|| {
                run(
                    statement,
                    text,
                    read_only_tree,
                    context,
                    parameters,
                    environment,
                    destination,
                    completion,
                );
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                parameters,
                environment,
                destination,
                completion,
            ),
        }
    };
    // SAFETY: as above.
    match unsafe { (*(*statement).utilityStmt).type_ } {
        pg_sys::NodeTag::T_CopyStmt => buffer::in_frame(run).or_report(),
        pg_sys::NodeTag::T_TruncateStmt => {
            buffer::begin_truncate();
            run();
        }
        _ => run(),
    }
}
