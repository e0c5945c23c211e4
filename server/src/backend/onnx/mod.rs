//! ONNX Runtime as a backend: sessions on the first provider that works, and the runs themselves.

mod assignment;
mod instance;
mod provider;
mod session;
mod tuning;
mod values;

pub use provider::Provider;
pub use session::{LoadError, LoadOptions, LoadedSession, load};
pub use tuning::{GraphLevel, Tuning, check_tensorrt};
