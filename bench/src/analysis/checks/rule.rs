//! The type of a rule, the evidence that rules look at, and their findings.

use std::collections::BTreeMap;

use crate::{
    analysis::summary::Summary,
    model::{
        cell::Cell,
        lane::Lane,
        load::Load,
        report::Report,
        warning::{Severity, Warning},
        words::list,
    },
};

/// A rule: how to detect a problem, and what the user should do about it.
pub struct Rule {
    /// Stable name, in kebab case.
    pub code: &'static str,
    /// How severe a finding is.
    pub severity: Severity,
    /// What a finding means, in one line of the documentation.
    pub meaning: &'static str,
    /// What to do about a finding.
    pub remedy: &'static str,
    /// Severity and remedy for imported figures, if they differ.
    pub imported: Option<(Severity, &'static str)>,
    /// Returns the findings; none if the evidence that the rule needs is missing.
    pub find: fn(&Evidence) -> Vec<Finding>,
}

impl Rule {
    /// The findings of this rule, as warnings.
    pub(super) fn judge(&self, evidence: &Evidence) -> Vec<Warning> {
        let own = (self.severity, self.remedy);
        let (severity, remedy) = if evidence.report.is_some() { own } else { self.imported.unwrap_or(own) };
        let found = (self.find)(evidence).into_iter();
        found.map(|finding| finding.warning(self.code, severity, remedy)).collect()
    }
}

/// What is known about a result.
pub struct Evidence<'a> {
    /// Its figures, which every result has.
    pub summary: &'a Summary,
    /// The full report with samples, blocks and the servers' counters; `None` for imported figures.
    pub report: Option<&'a Report>,
}

impl<'a> Evidence<'a> {
    /// The cells of the report; none without a report.
    pub(super) fn cells(&self) -> &'a [Cell] {
        self.report.map_or(&[], |report| &report.cells)
    }

    /// The figures if there is no report: for rules that infer what a report would state.
    pub(super) fn imported(&self) -> Option<&'a Summary> {
        self.report.is_none().then_some(self.summary)
    }
}

/// A problem that a rule found.
pub struct Finding {
    /// The lanes concerned.
    pub lanes: Vec<Lane>,
    /// What was found.
    pub message: String,
}

impl Finding {
    /// The finding as a warning.
    pub(crate) fn warning(self, code: &str, severity: Severity, remedy: &str) -> Warning {
        let Self { lanes, message } = self;
        Warning { code: code.into(), severity, lanes, message, remedy: remedy.into() }
    }
}

/// One finding for each lane; its message lists the lane's cells with the detail of each.
pub(crate) fn per_lane(message: &str, found: impl Iterator<Item = (Lane, Load, String)>) -> Vec<Finding> {
    by_lane(found.map(|(lane, load, detail)| (lane, format!("{load} ({detail})"))))
        .into_iter()
        .map(|(lane, cells)| Finding { lanes: vec![lane], message: format!("{message}: {}", list(cells)) })
        .collect()
}

/// Groups items by lane.
pub(super) fn by_lane<T>(items: impl Iterator<Item = (Lane, T)>) -> BTreeMap<Lane, Vec<T>> {
    let mut lanes: BTreeMap<Lane, Vec<T>> = BTreeMap::new();
    for (lane, item) in items {
        lanes.entry(lane).or_default().push(item);
    }
    lanes
}
