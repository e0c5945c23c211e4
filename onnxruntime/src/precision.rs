//! The precision that a model file states.

use ort::session::Session;

/// Metadata key of a model file for the precision that it computes in, e.g. `INT8`. Without it that is the precision of
/// its inputs and outputs.
pub const PRECISION_KEY: &str = "quintet.precision";

/// The precision that the model file of this session states.
pub fn stated_precision(session: &Session) -> Option<String> {
    session.metadata().ok()?.custom(PRECISION_KEY)
}
