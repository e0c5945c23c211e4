//! The model repository in service: when models are loaded, and how clients may change that.
//!
//! Models load in parallel; loads of one model run one after the other. A load is atomic: the versions in service stay
//! until the new ones are warm, and remain if these fail. When a model of an ensemble changes, the ensemble is checked
//! again, and it is not ready while it does not fit.

mod changes;
mod ensembles;
mod load;
mod repository;
mod retire;
mod steps;

pub use self::repository::{Mode, Options, Repository, not_controlled};
