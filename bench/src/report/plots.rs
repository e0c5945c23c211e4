//! Draws the plots of the HTML page: waterfalls, latency and throughput, predictions for other links, distributions.

use std::{fmt::Write as _, time::Duration};

use crate::{
    analysis::predict::{Exchange, crossover, predict},
    model::{
        cell::Cell, estimate::Estimate, lane::Lane, link::LinkSpec, load::Load, part::Part, report::Report, words::list,
    },
    report::{
        columns::concurrent_columns,
        svg::{
            bars::{Bar, Segment, bars},
            frame::escape,
            lines::{Point, Series, plot},
            scale::{Axis, Scale, short},
        },
        table::{label, milliseconds},
        waterfalls::{waterfall_loads, waterfalls_at},
    },
};

/// If two requests differ in bytes by less than this factor, the link rate does not decide which one is faster.
const FEWER_BYTES: f64 = 1.1;
/// Rates of the links for which requests are predicted, in Mbit/s.
const LINKS_MBIT: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, MOST_MBIT];
/// The fastest of these links, in Mbit/s.
const MOST_MBIT: f64 = 10_000.0;
fn figure(caption: &str, svg: Option<String>, legend: &str) -> String {
    svg.map_or(String::new(), |svg| {
        format!("<figure><figcaption>{}</figcaption>{svg}{legend}</figure>\n", escape(caption))
    })
}

/// Each lane's latency in parts.
pub(crate) fn waterfalls(report: &Report) -> String {
    let mut figures = String::new();
    for load in waterfall_loads(report) {
        let found = waterfalls_at(report, load);
        let rows: Vec<Bar> = found
            .iter()
            .map(|(lane, waterfall)| {
                let known = waterfall.parts.iter().filter_map(|time| Some((time.part, time.ms?.value)));
                let together = list(waterfall.unknown().map(Part::name));
                let segments = known.map(|(part, ms)| Segment {
                    class: format!("part {}", part.name()),
                    label: match part {
                        Part::Unknown => format!("unknown ({together}, together): {ms:.3} ms"),
                        _ => format!("{}: {ms:.3} ms", part.name()),
                    },
                    value: ms,
                });
                let gap = if waterfall.adds_up() { "" } else { ", parts do not add up" };
                Bar {
                    label: label(*lane),
                    total: format!("{} ms{gap}", milliseconds(waterfall.latency_ms)),
                    segments: segments.collect(),
                }
            })
            .collect();
        let used = |part: &Part| found.iter().any(|(_, waterfall)| waterfall.ms(*part).is_some_and(|ms| ms > 0.0));
        let key = |part: Part| format!("<li><i class=\"part {0}\"></i>{0}</li>", part.name());
        let legend: String = Part::ALL.into_iter().filter(used).map(key).collect();
        let caption = format!("Mean latency in parts, {load}");
        figures += &figure(&caption, bars(&caption, "ms", &rows), &format!("<ul class=\"legend\">{legend}</ul>"));
    }
    if figures.is_empty() {
        return figures;
    }
    format!(
        "<h2>Where the time goes</h2>\n<p class=\"quiet\">Grey is the client, purple is connecting, orange is the \
         network, blue and green are the server. Hatched time cannot be split further.</p>\n<div \
         class=\"figures\">\n{figures}</div>\n"
    )
}

/// The CSS classes of a lane.
pub(crate) fn class(lane: Lane) -> String {
    let peer = if lane.peer.is_some() { " peer" } else { "" };
    format!("{}{peer}", lane.kind)
}

/// One line for each lane through the points of its cells.
fn lines(report: &Report, points: impl Fn(&Cell) -> Option<Point>, keep: impl Fn(Load) -> bool) -> Vec<Series> {
    let line = |lane: Lane| Series {
        class: class(lane),
        label: label(lane),
        points: report.plain_cells().filter(|c| c.lane == lane && keep(c.load)).filter_map(&points).collect(),
        marks: true,
    };
    report.lanes.iter().map(|info| line(info.lane)).collect()
}

fn point(x: f64, y: Estimate) -> Point {
    Point { x, y: y.value, interval: Some((y.low, y.high)) }
}

fn axis(label: &str, scale: Scale) -> Axis<'_> {
    Axis { label, scale, ticks: Vec::new() }
}

fn is_serial(load: Load) -> bool {
    matches!(load, Load::Serial { .. })
}

fn is_concurrent(load: Load) -> bool {
    matches!(load, Load::Concurrent { .. })
}

/// The plots of latency and throughput by batch, by bytes and against each other, with captions.
fn latency_figures(report: &Report) -> [(&'static str, Option<String>); 4] {
    let p50 = |cell: &Cell| Some(cell.latency_ms.as_ref()?.p50);
    let batches = report.settings.batches.iter().map(|&batch| batch as f64).collect();
    let log = |label| axis(label, Scale::Log);
    [
        (
            "Latency by batch",
            plot(
                "p50 latency by batch size",
                &Axis { label: "images in a request", scale: Scale::Log, ticks: batches },
                &log("p50 latency, ms"),
                &lines(report, |cell| Some(point(cell.load.batch() as f64, p50(cell)?)), is_serial),
            ),
        ),
        (
            "Payload against latency",
            plot(
                "p50 latency by bytes of a request",
                &log("KB in a request"),
                &log("p50 latency, ms"),
                &lines(report, |cell| Some(point(cell.request_bytes as f64 / 1e3, p50(cell)?)), is_serial),
            ),
        ),
        (
            "Throughput against latency under concurrent load",
            plot(
                "p50 latency by throughput under concurrent load",
                &axis("images/s", Scale::Linear),
                &axis("p50 latency, ms", Scale::Linear),
                &lines(report, |cell| Some(point(cell.images_per_s?.value, p50(cell)?)), is_concurrent),
            ),
        ),
        (
            "Serial throughput by batch",
            plot(
                "throughput by batch size",
                &Axis {
                    label: "images in a request",
                    scale: Scale::Log,
                    ticks: report.settings.batches.iter().map(|&batch| batch as f64).collect(),
                },
                &axis("images/s", Scale::Linear),
                &lines(report, |cell| Some(point(cell.load.batch() as f64, cell.images_per_s?)), is_serial),
            ),
        ),
    ]
}

/// Latency, throughput and their distributions.
pub(crate) fn plots(report: &Report) -> String {
    let keys: String = report
        .lanes
        .iter()
        .map(|info| format!("<li><i class=\"line {}\"></i>{}</li>", class(info.lane), label(info.lane)))
        .collect();
    let legend = format!("<ul class=\"legend\">{keys}</ul>");
    let mut text = format!(
        "<h2 class=\"page\">Latency and throughput</h2>\n<p class=\"quiet\">Whiskers are 95 % intervals.</p>\n{legend}\n<div class=\"figures\">\n"
    );
    for (caption, svg) in latency_figures(report) {
        text += &figure(caption, svg, "");
    }
    text += &figure("Predicted latency by link rate", latency_by_link_rate(report), &crossovers(report));
    text += "</div>\n<h2 class=\"page\">Distributions of latency</h2>\n";
    let _ = writeln!(text, "{legend}\n<div class=\"figures\">");
    for load in distribution_loads(report) {
        let caption = format!("{load}");
        let svg = plot(
            &format!("share of requests up to each latency, {load}"),
            &axis("latency, ms", Scale::Log),
            &Axis { label: "share of requests", scale: Scale::Linear, ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0] },
            &distributions(report, load),
        );
        text += &figure(&caption, svg, "");
    }
    text + "</div>\n"
}

/// A request of each lane on a reused connection, by its bytes and the server's time; for the smallest batch.
fn exchanges(report: &Report) -> Vec<(Lane, Exchange)> {
    let Some(&load) = waterfall_loads(report).first() else { return Vec::new() };
    let exchange = |cell: &Cell| {
        Some(Exchange {
            handshakes: None,
            request_bytes: cell.request_bytes as u64,
            response_bytes: cell.response_bytes as u64,
            server: Duration::try_from_secs_f64(cell.server_ms()? / 1e3).ok()?,
        })
    };
    report.plain_cells().filter(|c| c.load == load).filter_map(|c| Some((c.lane, exchange(c)?))).collect()
}

/// The predicted latency of the same requests on links of other rates.
fn latency_by_link_rate(report: &Report) -> Option<String> {
    let line = |(lane, exchange): &(Lane, Exchange)| {
        let point = |&mbit: &f64| {
            let bits = Some((mbit * 1e6) as u64);
            let link = LinkSpec { rtt: Duration::ZERO, up: bits, down: bits, ..LinkSpec::default() };
            Point { x: mbit, y: predict(&link, exchange).total_ms, interval: None }
        };
        Series {
            class: class(*lane),
            label: label(*lane),
            points: LINKS_MBIT.iter().map(point).collect(),
            marks: false,
        }
    };
    plot(
        "predicted latency by the rate of the link",
        &axis("link rate in both directions, Mbit/s", Scale::Log),
        &axis("transfer and server time, ms", Scale::Log),
        &exchanges(report).iter().map(line).collect::<Vec<_>>(),
    )
}

/// Explains the prediction and lists the pairs of lanes whose order depends on the link rate.
fn crossovers(report: &Report) -> String {
    let exchanges = exchanges(report);
    if exchanges.is_empty() {
        return String::new();
    }
    let mut items = String::new();
    let pairs = exchanges.iter().enumerate().flat_map(|(i, a)| exchanges[i + 1..].iter().map(move |b| (a, b)));
    for ((a, first), (b, second)) in pairs {
        let [few, many] = if first.request_bytes < second.request_bytes { [first, second] } else { [second, first] };
        let apart = many.request_bytes as f64 > FEWER_BYTES * few.request_bytes as f64;
        let rate = crossover(first, second).map(|bits| bits / 1e6).filter(|mbit| apart && *mbit <= MOST_MBIT);
        if let Some(mbit) = rate {
            let faster = if few == first { a } else { b };
            let (a, b, faster) = (label(*a), label(*b), label(*faster));
            let _ = writeln!(items, "<li>{a} and {b}: below {} Mbit/s {faster} is faster</li>", short(mbit));
        }
    }
    if !items.is_empty() {
        items = format!(
            "<details><summary>Link rates at which the faster lane changes</summary><ul \
             class=\"quiet\">\n{items}</ul></details>\n"
        );
    }
    format!(
        "<p class=\"quiet\">The prediction is the time to transfer a request's bytes at the link rate plus the \
         server's time measured here. It does not include round trips, which are the same for all lanes on reused \
         connections, or preprocessing on the client.</p>\n{items}"
    )
}

/// The smallest and largest batch, and all concurrent loads.
fn distribution_loads(report: &Report) -> Vec<Load> {
    let concurrent = concurrent_columns(report).into_iter().map(|(_, load)| load);
    waterfall_loads(report).into_iter().chain(concurrent).collect()
}

/// Cumulative distributions, from the histograms.
fn distributions(report: &Report, load: Load) -> Vec<Series> {
    let steps = |cell: &Cell| {
        let total: u64 = cell.histogram_us.iter().map(|(_, count)| count).sum();
        let (mut below, mut points) = (0, Vec::new());
        let at = |x: f64, y: u64| Point { x, y: y as f64 / total as f64, interval: None };
        for (us, count) in &cell.histogram_us {
            points.push(at(us / 1e3, below));
            below += count;
            points.push(at(us / 1e3, below));
        }
        points
    };
    let cells = report.plain_cells().filter(|cell| cell.load == load);
    cells
        .map(|cell| Series { class: class(cell.lane), label: label(cell.lane), points: steps(cell), marks: false })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        fixture,
        model::cell::ServerSide,
        report::{exporter::Exporter as _, html::Html},
    };

    /// Stock Triton sends no stage times: the unknown parts are one hatched piece whose title lists them.
    #[test]
    fn unknown_parts_are_hatched() {
        let page = Html.export(&fixture::report()).unwrap();
        let piece =
            page.split(">TRT HTTP</text>").nth(1).unwrap().split("<rect class=\"part unknown\"").nth(1).unwrap();
        let title = piece.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
        assert!(title.starts_with("unknown (network, receive, parse, gather, encode, together): "), "{title}");
        assert!(page.contains("rect.part.unknown { fill: url(#hatch); }") && page.contains("<pattern id=\"hatch\""));
    }

    #[test]
    fn the_faster_lane_depends_on_the_link_rate() {
        let mut report = fixture::report();
        let onnx = report.cells[1].server.clone().unwrap();
        report.cells[0].server = Some(ServerSide { request_ms: onnx.request_ms * 2.0, ..onnx });
        let page = Html.export(&report).unwrap();
        assert!(page.contains("<figcaption>Predicted latency by link rate</figcaption><svg"));
        assert!(page.contains("<li>JPEG HTTP and ONNX HTTP: below "), "fewer bytes and more of the server's time");
        assert!(!page.contains("<li>ONNX HTTP and"), "the others send nearly the same bytes");
    }
}
