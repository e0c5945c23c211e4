//! Writes the ResNet family as ONNX into a Triton model repository.
//!
//! ```no_run
//! use quintet_models::{Arch, Batching, Graph, Variant, Weights, repository};
//!
//! let graph = Graph::new(&Weights::from_seed(Arch::ResNet18, 0))?;
//! repository::write("models".as_ref(), &graph, Variant::Fp32, &Batching::up_to(32)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod atomic;
pub mod cli;
mod fetch;
mod graph;
mod hex;
pub mod onnx;
pub mod passthrough;
mod quantize;
mod reference;
pub mod repository;
mod session;
mod timing;
mod variant;
mod verify;
mod weights;

pub use arch::{Arch, CLASSES, IMAGE_SIDE};
pub use graph::Graph;
pub use repository::{Batching, RepositoryError};
pub use variant::{MEAN, STD, Variant};
pub use weights::{Weights, WeightsError};
