//! Whether ONNX Runtime's idle threads spin.

use serde::{Deserialize, Serialize};

/// Whether threads that wait for their part of an operator occupy a core meanwhile, to start it sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IntraOpSpin {
    /// If there is a core for each thread
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

impl IntraOpSpin {
    /// Whether the threads of a pool of this size spin on this many cores. They do so while a model runs; with more threads than
    /// cores one would spin in the place of another that has work.
    pub fn spins(self, intra_op_threads: usize, cores: usize) -> bool {
        match self {
            Self::Auto => intra_op_threads <= cores,
            Self::On => true,
            Self::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_by_itself_only_where_each_thread_has_a_core() {
        let spins = |choice: IntraOpSpin| [(1, 2), (2, 2), (4, 2)].map(|(threads, cores)| choice.spins(threads, cores));
        assert_eq!(spins(IntraOpSpin::Auto), [true, true, false]);
        assert_eq!((spins(IntraOpSpin::On), spins(IntraOpSpin::Off)), ([true; 3], [false; 3]));
    }
}
