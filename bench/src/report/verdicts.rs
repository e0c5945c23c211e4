//! Builds the table of hypotheses, each with the claim that decides it.

use crate::{
    model::hypothesis::{Finding, Judged, Verdict},
    report::table::{NOTHING, Table, signed},
};

/// The verdicts, each with the claim that decides it.
pub(crate) fn hypotheses(findings: &[Finding]) -> Table {
    let row = |finding: &Finding| {
        let count = |verdict: Verdict| finding.claims.iter().filter(|claim| claim.verdict == verdict).count();
        let counts = [Verdict::Supported, Verdict::Equivalent, Verdict::Refuted, Verdict::Inconclusive]
            .map(|verdict| (count(verdict), verdict))
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, verdict)| format!("{count} {}", verdict.name()))
            .collect::<Vec<_>>();
        let (effect, needed) = decider(finding);
        let row = [finding.verdict.name().to_owned(), counts.join(", "), effect, needed];
        // The user's claim is code.
        let mark = if finding.name == "user" { "`" } else { "" };
        (format!("{}: {mark}{}{mark}", finding.name, finding.statement), row.to_vec())
    };
    let columns =
        ["Verdict", "Claims", "Deciding claim: left − right", "Needed for a verdict"].map(str::to_owned).to_vec();
    Table::new("Hypotheses", "Hypothesis", columns, findings.iter().map(row).collect())
        .note("A claim about p50 is decided by the Hodges-Lehmann estimate of the difference.")
}

/// The claim that decides a hypothesis with its effect, and what a verdict needs or took.
pub(crate) fn decider(finding: &Finding) -> (String, String) {
    let decider = finding.claims.iter().find(|claim| claim.verdict == finding.verdict);
    let effect = decider.map_or(NOTHING.to_owned(), |judged| {
        let effect = judged.effect.map_or(String::new(), |effect| {
            format!(": {} {}", signed(effect.difference, 2), judged.claim.metric.unit())
        });
        format!("`{}`{effect}", judged.claim)
    });
    let needed = decider
        .and_then(Judged::cost)
        .or_else(|| finding.reason.clone())
        .or_else(|| decider.and_then(|judged| judged.reason.clone()))
        .unwrap_or_else(|| NOTHING.into());
    (effect, needed)
}
