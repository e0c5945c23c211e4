//! Ends the process while threads still run that cannot be stopped.

use std::io::Write as _;

/// Ends the process with this status at once. The usual end runs the destructors of ONNX Runtime's global objects, while
/// a thread that loads or runs a model may still use them.
pub(super) fn now(status: u8) -> ! {
    // What cannot be written is lost in any case.
    let _ = std::io::stdout().flush();
    // SAFETY: `_exit` does not return and owns no memory of this process.
    unsafe { libc::_exit(status.into()) }
}
