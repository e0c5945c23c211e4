//! What all rules share: what a warning is, and how those of many rules come together.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::model::{
    lane::Lane,
    warning::{Severity, Warning},
    words::list,
};

/// A rule on a report, or on its figures alone: the warnings that it gives rise to.
pub(crate) type Rule<T> = fn(&T) -> Vec<Warning>;

/// What all rules say, the worst first.
pub(crate) fn judge<T>(of: &T, rules: &[Rule<T>]) -> Vec<Warning> {
    by_severity(rules.iter().flat_map(|rule| rule(of)).collect())
}

/// The worst first, in their order otherwise.
pub fn by_severity(mut warnings: Vec<Warning>) -> Vec<Warning> {
    warnings.sort_by_key(|warning| Reverse(warning.severity));
    warnings
}

/// A finding.
pub(crate) fn warning(code: &str, severity: Severity, lanes: Vec<Lane>, message: String, remedy: &str) -> Warning {
    Warning { code: code.into(), severity, lanes, message, remedy: remedy.into() }
}

/// The loads of some cells of one lane, lane by lane: one warning names them all.
pub(crate) fn by_lane<T>(found: impl Iterator<Item = (Lane, T)>) -> BTreeMap<Lane, Vec<T>> {
    let mut lanes: BTreeMap<Lane, Vec<T>> = BTreeMap::new();
    for (lane, item) in found {
        lanes.entry(lane).or_default().push(item);
    }
    lanes
}

/// One warning for each lane with something to say about some of its cells.
pub(crate) fn each_lane(
    code: &str,
    severity: Severity,
    found: impl Iterator<Item = (Lane, String)>,
    message: impl Fn(String) -> String,
    remedy: &str,
) -> Vec<Warning> {
    let lanes = by_lane(found).into_iter();
    lanes.map(|(lane, cells)| warning(code, severity, vec![lane], message(list(cells)), remedy)).collect()
}

/// One warning for all lanes of which the same is said.
pub(crate) fn together(warnings: Vec<Warning>) -> Vec<Warning> {
    let mut once: Vec<Warning> = Vec::new();
    for warning in warnings {
        match once.iter_mut().find(|other| (&other.code, &other.message) == (&warning.code, &warning.message)) {
            Some(same) => same.lanes.extend(warning.lanes),
            None => once.push(warning),
        }
    }
    once
}
