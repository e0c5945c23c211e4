//! `--fail-on`: conditions that end `run`, `report` and `compare` with a status of their own.

use anyhow::ensure;
use clap::Args;

use crate::{
    analysis::conditions::Outcome,
    model::{
        condition::{Bound, Condition},
        report::Report,
        warning::Warning,
    },
    run::plan::Plan,
};

/// Exit status if a condition holds.
const STATUS: u8 = 3;

/// Conditions that fail a command.
#[derive(Debug, Args)]
pub struct FailOnArgs {
    /// Exit with status 3 if this holds; repeatable. error, warning: there is a warning of that severity or a worse one.
    /// refuted: a claim of --hypothesis is refuted. Or a figure with its bound, e.g. 'p99(onnx-grpc) > 20ms'.
    ///
    /// A figure is p50, mean, p95, p99, throughput or a part of the latency (infer, queue, network, ...) of a lane, at
    /// @ batch=N or @ concurrency=N [batch=1]; a bound has the unit us, ms or s, for throughput img/s or none. It fails
    /// if its whole 95 % interval is beyond the bound, or if it is not known (too few requests, or not measured). If the
    /// interval contains the bound, stderr says so and the command does not fail.
    #[arg(long, value_name = "CONDITION", help_heading = "Output")]
    pub fail_on: Vec<Condition>,
}

impl FailOnArgs {
    /// Checks that a plan measures what the conditions need.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check(&self, plan: &Plan, has_claims: bool) -> anyhow::Result<()> {
        for condition in &self.fail_on {
            match condition {
                Condition::Warned(_) => {}
                Condition::Refuted => ensure!(has_claims, "--fail-on refuted needs a claim: add --hypothesis"),
                Condition::Beyond(Bound { lane, load, .. }) => {
                    let mut stages = plan.stages.iter().filter(|stage| stage.load == *load);
                    let measured = stages.any(|stage| stage.blocks.iter().any(|block| block.variant.lane == *lane));
                    ensure!(measured, "--fail-on '{condition}': {lane} is not measured at {load}");
                }
            }
        }
        Ok(())
    }

    /// Judges the conditions by a result; what holds or is undecided goes to stderr. `Some` exit status if one fails.
    pub(crate) fn status(&self, name: &str, warnings: &[Warning], report: Option<&Report>) -> Option<u8> {
        let of = if name.is_empty() { String::new() } else { format!(" ({name})") };
        let mut status = None;
        for condition in &self.fail_on {
            match condition.judge(warnings, report) {
                Outcome::Fails(reason) => {
                    eprintln!("--fail-on '{condition}'{of}: {reason}");
                    status = Some(STATUS);
                }
                Outcome::Open(figure) => eprintln!("--fail-on '{condition}'{of} is undecided: {figure}"),
                Outcome::Passes => {}
            }
        }
        status
    }
}
