//! Writes the answers of a search for the highest rate within a bound.

use std::fmt::Write as _;

use crate::{
    analysis::stats::fewest_for_verdict,
    model::slo::{Answer, Goal, Verdict},
    report::table::NOTHING,
};

/// The answers as tables.
pub fn table(answers: &[Answer], goal: Goal) -> String {
    let shown = |rate: Option<f64>| rate.map_or(NOTHING.into(), |rate| format!("{rate:.1}"));
    let mut text = format!(
        "# Highest rate with p99 within {} ms ({} arrivals)\n\n\
         | Lane | highest rate that met the bound (req/s) | lowest rate that missed it (req/s) | client-limited at (req/s) |\n\
         |---|---:|---:|---:|\n",
        goal.bound_ms(),
        goal.arrivals
    );
    for Answer { lane, highest_per_s, fails_at_per_s, client_limited_at_per_s, .. } in answers {
        let [highest, fails, limited] =
            [highest_per_s, fails_at_per_s, client_limited_at_per_s].map(|rate| shown(*rate));
        let _ = writeln!(text, "| {lane} | {highest} | {fails} | {limited} |");
    }
    text += "\n## Probes\n\n| Lane | offered (req/s) | achieved (req/s) | requests | p99 (ms) | p99 at most (ms) | \
             client's lag p99 (ms) | failed or not sent | bound met |\n|---|---:|---:|---:|---:|---:|---:|---:|---|\n";
    for (lane, probe) in answers.iter().flat_map(|answer| answer.probes.iter().map(|probe| (answer.lane, probe))) {
        let _ = writeln!(
            text,
            "| {lane} | {:.1} | {:.1} | {} | {} | {} | {} | {} | {} |",
            probe.rate_per_s,
            probe.achieved_per_s,
            probe.requests,
            shown(probe.p99_ms),
            shown(probe.p99_at_most_ms),
            probe.lag_p99_ms.map_or(NOTHING.into(), |ms| format!("{ms:.2}")),
            probe.lost,
            match probe.verdict {
                Verdict::Met => "yes",
                Verdict::Missed => "no",
                Verdict::Undecided => "undecided",
                Verdict::ClientLate => "client late",
            }
        );
    }
    let _ = writeln!(
        text,
        "\nThe true p99 is at most the value given with 99 % probability. A verdict needs {} requests, or so many above \
         the bound that chance cannot be the cause; --longest-window allows longer probes. Where the client sent late, a \
         missed bound does not count: the rate is tried once more, then the lane is client-limited there.",
        fewest_for_verdict(0.99)
    );
    text
}
