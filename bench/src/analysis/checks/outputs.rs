//! Rules about outputs: only lanes that compute the same can be compared.

use super::rule::{Evidence, Finding, Rule};
use crate::model::warning::Severity;

/// Two lanes computed different things.
pub const DIFFER: Rule = Rule {
    code: "outputs-differ",
    severity: Severity::Error,
    meaning: "Two lanes gave different outputs for the same image.",
    remedy: "Lanes that compute different things cannot be compared: serve the same weights and precision.",
    imported: None,
    find: differ,
};

fn differ(evidence: &Evidence) -> Vec<Finding> {
    let pairs = evidence.report.map_or(&[][..], |report| &report.outputs.pairs);
    let differing = pairs.iter().filter(|pair| !pair.agree).map(|pair| {
        let difference = match pair.max_abs_difference {
            Some(difference) => {
                let [a, b] = pair.precisions;
                let tolerance = pair
                    .tolerance
                    .map_or(String::new(), |tolerance| format!("; tolerance {tolerance:.0e} of that for {a} and {b}"));
                format!("by up to {difference:.3e} (largest element {:.3e}{tolerance})", pair.scale)
            }
            None => "in shape, or are not finite".into(),
        };
        let message = format!("the outputs of {} and {} differ {difference}", pair.a, pair.b);
        Finding { lanes: vec![pair.a, pair.b], message }
    });
    differing.collect()
}

/// Nothing shows that lanes computed the same.
pub const NOT_COMPARED: Rule = Rule {
    code: "outputs-not-compared",
    severity: Severity::Error,
    meaning: "A lane gave no outputs to compare; imported figures never include a comparison.",
    remedy: "Check that the model takes what is sent (--data), and read the server's log.",
    imported: Some((
        Severity::Note,
        "Compare the lanes' outputs before timing, and include the client's preprocessing in the latency.",
    )),
    find: not_compared,
};

fn not_compared(evidence: &Evidence) -> Vec<Finding> {
    let Some(report) = evidence.report else {
        let message = "nothing shows that the lanes computed the same outputs, or how long the client prepared the \
                       requests"
            .into();
        return vec![Finding { lanes: evidence.summary.lanes(), message }];
    };
    let missing = report.outputs.missing.iter().map(|missing| Finding {
        lanes: vec![missing.lane],
        message: format!("{} gave no outputs to compare: {}", missing.lane, missing.reason),
    });
    missing.collect()
}
