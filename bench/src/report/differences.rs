//! Builds the tables of differences between two lanes.

use crate::{
    model::{
        connection::Policy,
        encoding::Encoding,
        lane::Lane,
        load::Load,
        report::{LaneDifference, Report},
        transport::Transport,
    },
    report::{
        axes,
        table::{NOTHING, Table, label, signed},
    },
};

/// The name of the differences in latency, after their estimator.
pub(crate) const LATENCY: &str = "latency (Hodges-Lehmann, ms)";
/// What that estimator is.
const ESTIMATOR: &str = "The Hodges-Lehmann estimate is the median of the differences of all pairs of requests of one \
                         block. It is the shift of a typical request, and can deviate from the difference of two p50.";

/// What the two sides of a difference are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// The same lane of two servers.
    Servers,
    /// Two lanes of one server.
    Lanes,
}

/// Pairs of lanes under the loads of `columns`: one row for each pair and each variant of connection, payload and
/// transport.
pub(crate) fn differences(
    report: &Report,
    between: Between,
    what: &str,
    digits: usize,
    columns: Vec<(String, Load)>,
) -> Table {
    let variant = |d: &LaneDifference| (d.a, d.b, d.connection, d.payloads, d.transports);
    let shown = |d: &&LaneDifference| {
        (d.a.peer != d.b.peer) == (between == Between::Servers) && columns.iter().any(|(_, load)| *load == d.load)
    };
    let mut pairs: Vec<_> = report.differences.iter().filter(shown).map(variant).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let cell = |pair, load: Load| {
        let found = report.differences.iter().find(|d| (variant(d), d.load) == (pair, load));
        found.map_or(NOTHING.into(), |d| {
            let text = signed(d.difference.difference, digits);
            let text = if d.difference.paired { text } else { format!("{text} unpaired") };
            let enough = d.difference.difference.n >= d.metric.statistic().fewest_for_verdict();
            if d.difference.is_significant() && enough { format!("{text} *") } else { text }
        })
    };
    let row = |pair: (Lane, Lane, Policy, [Option<Encoding>; 2], [Transport; 2])| {
        let name = format!("{} − {}{}", label(pair.0), label(pair.1), axes::variant(report, pair.2, pair.3, pair.4));
        (name, columns.iter().map(|(_, load)| cell(pair, *load)).collect())
    };
    let rows = pairs.into_iter().map(row).collect();
    let title = match between {
        Between::Servers => {
            format!("The same lane of two servers: differences in {what}, paired over interleaved blocks")
        }
        Between::Lanes => format!("Differences in {what}, paired over interleaved blocks"),
    };
    let estimator = if what == LATENCY { format!("{ESTIMATOR} ") } else { String::new() };
    Table::new(&title, "Pair", columns.iter().map(|(name, _)| name.clone()).collect(), rows).note(format!(
        "{estimator}* The interval does not include 0. Each interval has 95 % confidence: of 20 pairs that do not \
         differ, one is expected to have a star by chance. A difference that is not paired, or of fewer \
         than 11 requests, has no star.",
    ))
}
