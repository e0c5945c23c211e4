//! The model repository in service: what is loaded when, and what clients may change about it.
//!
//! Loads run side by side, those of one model one after the other. A load is atomic: the versions that
//! are in service stay until the new ones are warm, and for good if these fail. An ensemble follows its models: when one
//! of them changes it is checked again, and is not ready for as long as it does not fit.

mod changes;
mod ensembles;
mod load;
mod repository;
mod retire;
mod steps;

pub use self::repository::{Mode, Options, Repository, not_controlled};
