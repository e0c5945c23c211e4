//! What a model file states of itself.

use ort::session::Session;

/// Metadata key of a model file for the precision that it computes in, e.g. `INT8`. Without it that is the precision of
/// its inputs and outputs.
pub const PRECISION_KEY: &str = "quintet.precision";

/// Metadata key of a model file for the source of its weights: `seed 0` if they are random, or `sha256:...` of their file.
pub const WEIGHTS_KEY: &str = "quintet.weights";

/// The precision that the model file of this session states.
pub fn stated_precision(session: &Session) -> Option<String> {
    session.metadata().ok()?.custom(PRECISION_KEY)
}

/// The source of the weights that the model file of this session states.
pub fn stated_weights(session: &Session) -> Option<String> {
    session.metadata().ok()?.custom(WEIGHTS_KEY)
}
