//! Whether ONNX Runtime's idle threads spin.

use serde::{Deserialize, Serialize};

/// Whether threads that wait for their part of an operator occupy a core meanwhile, to start it sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IntraOpSpin {
    /// If there are more cores than threads
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

impl IntraOpSpin {
    /// Whether the threads of a pool of this size spin on this many cores. A spinning thread must not take the core of a
    /// transport or of another service, so by default there must be one that the pool leaves free.
    pub fn spins(self, intra_op_threads: usize, cores: usize) -> bool {
        match self {
            Self::Auto => intra_op_threads < cores,
            Self::On => true,
            Self::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_by_itself_only_where_a_core_stays_free() {
        let spins = |choice: IntraOpSpin| [(1, 2), (2, 2), (4, 2)].map(|(threads, cores)| choice.spins(threads, cores));
        assert_eq!(spins(IntraOpSpin::Auto), [true, false, false]);
        assert_eq!((spins(IntraOpSpin::On), spins(IntraOpSpin::Off)), ([true; 3], [false; 3]));
    }
}
