//! Shows progress and the time left on stderr: a bar for each lane on a terminal, else a line for each cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

pub use crate::model::duration::duration_text;
use crate::{
    model::{cell::Cell, lane::Lane, load::Load},
    run::{effort::Effort, plan::Plan, progress::Progress},
};

/// Assumed time for one image until something was measured.
pub const ASSUMED_IMAGE: Duration = Duration::from_millis(20);

/// Shows the progress of a run.
pub enum Terminal {
    /// Bars that are redrawn.
    Bars(Box<Bars>),
    /// One line for each event.
    Lines(Box<Lines>),
}

/// Plain lines.
pub struct Lines {
    time_left: Mutex<TimeLeft>,
    /// Whether a lane has several variants, which the lines must name.
    varied: bool,
}

/// Bars that are redrawn.
pub struct Bars {
    all: MultiProgress,
    lanes: BTreeMap<Lane, ProgressBar>,
    total: ProgressBar,
    time_left: Mutex<TimeLeft>,
}

impl Terminal {
    /// Bars on a terminal, lines elsewhere; `most` is the longest time of a run until decided.
    pub fn on_stderr(plan: &Plan, lanes: &[Lane], most: Option<Duration>) -> Self {
        let ahead = TimeLeft::new(lanes.iter().map(|&lane| (lane, plan.effort(lane))));
        let time_left = Mutex::new(TimeLeft { ends: most.map(|most| Instant::now() + most), ..ahead });
        if !std::io::stderr().is_terminal() {
            let variants: BTreeSet<_> =
                plan.stages.iter().flat_map(|stage| &stage.blocks).map(|block| block.variant).collect();
            return Self::Lines(Box::new(Lines { time_left, varied: variants.len() > lanes.len() }));
        }
        let all = MultiProgress::new();
        // If the template is not valid, use indicatif's default.
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        let bar = |lane: &Lane| {
            let bar = all.add(ProgressBar::new(units(plan.effort(*lane))));
            bar.set_style(style("{prefix:<10} [{bar:24}] {percent:>3}%  {wide_msg}"));
            bar.set_prefix(lane.to_string());
            (*lane, bar)
        };
        let lane_bars = lanes.iter().map(bar).collect();
        let total = all.add(ProgressBar::new_spinner());
        total.set_style(style("{wide_msg}"));
        Self::Bars(Box::new(Bars { all, lanes: lane_bars, total, time_left }))
    }
}

impl Progress for Terminal {
    fn say(&self, text: &str) {
        match self {
            Self::Bars(bars) => {
                let _ = bars.all.println(text);
            }
            Self::Lines(_) => eprintln!("{text}"),
        }
    }

    fn begin(&self, lane: Lane, load: Load) {
        if let Self::Bars(bars) = self
            && let Some(bar) = bars.lanes.get(&lane)
        {
            bar.set_message(load.to_string());
        }
    }

    fn advance(&self, lane: Lane, done: Effort, took: Duration) {
        let time_left = match self {
            Self::Bars(bars) => &bars.time_left,
            Self::Lines(lines) => &lines.time_left,
        };
        let mut time_left = time_left.lock();
        time_left.advance(lane, done, took);
        if let Self::Bars(bars) = self {
            if let Some(bar) = bars.lanes.get(&lane) {
                bar.inc(units(done));
            }
            bars.total.set_message(time_left.text());
        }
    }

    fn cell(&self, cell: &Cell) {
        let p50 = cell.latency_ms.as_ref().map_or("no latency".into(), |l| format!("p50 {:.1} ms", l.p50.value));
        let rate = cell.images_per_s.map_or(String::new(), |rate| format!(", {:.1} img/s", rate.value));
        let failed = if cell.failures.count > 0 { format!(", {} FAILED", cell.failures.count) } else { String::new() };
        let text = format!("{}: {p50}{rate}, {} requests{failed}", cell.load, cell.completed);
        match self {
            Self::Bars(bars) => {
                if let Some(bar) = bars.lanes.get(&cell.lane) {
                    bar.set_message(text);
                }
            }
            Self::Lines(lines) => {
                let payload = cell.payload.map_or(String::new(), |payload| format!(", {payload}"));
                let variant = format!(" ({}{payload}, {})", cell.connection, cell.transport);
                let variant = if lines.varied { variant } else { String::new() };
                eprintln!("{:<10} {text}{variant}; {}", cell.lane, lines.time_left.lock().text());
            }
        }
    }

    fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.lanes.values().for_each(ProgressBar::abandon);
            bars.total.finish_and_clear();
        }
    }
}

/// Length of a bar: milliseconds at the assumed cost.
fn units(effort: Effort) -> u64 {
    effort.at(ASSUMED_IMAGE).as_millis() as u64
}

/// Estimates the time left from the time that images took so far.
#[derive(Debug)]
pub struct TimeLeft {
    lanes: BTreeMap<Lane, (Effort, usize, Duration)>,
    /// The latest end of a run until decided, which may end at any block.
    ends: Option<Instant>,
}

impl TimeLeft {
    fn new(ahead: impl Iterator<Item = (Lane, Effort)>) -> Self {
        Self { lanes: ahead.map(|(lane, effort)| (lane, (effort, 0, Duration::ZERO))).collect(), ends: None }
    }

    fn advance(&mut self, lane: Lane, done: Effort, took: Duration) {
        let Some((ahead, images, time)) = self.lanes.get_mut(&lane) else { return };
        ahead.requests = ahead.requests.saturating_sub(done.requests);
        ahead.images = ahead.images.saturating_sub(done.images);
        ahead.windows = ahead.windows.saturating_sub(done.windows);
        if done.images > 0 {
            *images += done.images;
            *time += took;
        }
    }

    fn text(&self) -> String {
        let at_most = |ends: Instant| ends.saturating_duration_since(Instant::now());
        match self.ends {
            Some(ends) => format!("until decided, time left: at most {}", duration_text(at_most(ends))),
            None => format!("time left: {}", duration_text(self.estimate())),
        }
    }

    fn estimate(&self) -> Duration {
        let cost = |images: usize, time: Duration| (images > 0).then(|| time.div_f64(images as f64));
        let (images, time) =
            self.lanes.values().fold((0, Duration::ZERO), |sum, lane| (sum.0 + lane.1, sum.1 + lane.2));
        let typical = cost(images, time).unwrap_or(ASSUMED_IMAGE);
        self.lanes.values().map(|(ahead, images, time)| ahead.at(cost(*images, *time).unwrap_or(typical))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(images: usize) -> Effort {
        Effort { requests: 1, images, windows: Duration::ZERO }
    }

    #[test]
    fn time_left_follows_the_measured_times() {
        let window = Effort { windows: Duration::from_secs(10), ..images(100) };
        let mut left = TimeLeft::new([(Lane::JPEG, window), (Lane::ONNX_HTTP, images(100))].into_iter());
        assert_eq!(left.estimate(), Duration::from_secs(10) + ASSUMED_IMAGE * 200, "nothing was measured yet");
        left.advance(Lane::JPEG, images(50), Duration::from_secs(5));
        assert_eq!(left.estimate(), Duration::from_secs(10 + 5 + 10), "the other lane is assumed to be equal");
        left.advance(Lane::ONNX_HTTP, images(50), Duration::from_secs(10));
        assert_eq!(left.estimate(), Duration::from_secs(10 + 5 + 10));
    }
}
