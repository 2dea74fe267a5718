//! Running one ONNX session from several threads at once, so that there is one copy of its weights.
//!
//! ONNX Runtime says of `Run` that several threads may call it on one session (its C API, and its
//! high-level design document), and with its CPU provider servers have relied on that for years.
//! `ort` asks for `&mut Session` all the same, because other providers have had faults there. Only
//! the CPU provider is used here, and nothing else is done to a session once it is built; its arena
//! takes its own lock, and memory patterns, which a session would learn while it runs, are off.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};

use ort::AsPointer;
use ort::session::{RunOptions, Session};
use ort::value::{DynValue, Tensor};

/// Runs `session` once and returns its output of the given name.
///
/// # Errors
/// Those of ONNX Runtime.
pub fn run(
    session: &Session,
    inputs: &[(&CString, Tensor<i64>)],
    output: &CStr,
    options: &RunOptions,
) -> ort::Result<DynValue> {
    let names: Vec<_> = inputs.iter().map(|(name, _)| name.as_ptr()).collect();
    let values: Vec<_> = inputs.iter().map(|(_, value)| value.ptr()).collect();
    let inner = session.inner();
    let mut result = ptr::null_mut();
    // SAFETY: the session, the options, the names and the values outlive the call, the arrays have
    // the lengths that are given, and Run may be called from several threads (see above), which
    // is why the session needs no exclusive reference.
    let status = unsafe {
        (ort::api().Run)(
            inner.ptr().cast_mut(),
            options.ptr(),
            names.as_ptr(),
            values.as_ptr(),
            values.len(),
            &output.as_ptr(),
            1,
            &mut result,
        )
    };
    // SAFETY: the status comes from the call above and is used once.
    unsafe { ort::Error::result_from_status(status) }?;
    let result = NonNull::new(result).ok_or_else(|| ort::Error::new("no output"))?;
    // SAFETY: the value is the one that Run made, it has no other owner, and it was made with the
    // session's allocator.
    Ok(unsafe { DynValue::from_ptr(result, Some(session.allocator())) })
}
