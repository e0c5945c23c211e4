//! Times connections that each repeat one request.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Exchanges at the start of a window that are not counted: another lane used the machine before.
const UNCOUNTED: usize = 1;
/// Least number of exchanges that each connection counts, even in a short window.
const MIN_COUNTED: usize = 2;

/// Bytes of the tensors in a request and in its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) request: usize,
    pub(super) reply: usize,
}

/// A connection with a prepared request.
pub(super) trait Exchange: Send {
    /// Sends the request and reads the complete response. Returns the seconds that the model ran, or 0 if the server does not
    /// report them.
    fn exchange(&mut self) -> anyhow::Result<f64>;

    /// Whether the model runs without a server, so that only its run is timed.
    fn is_in_process(&self) -> bool {
        false
    }
}

/// The measurements of a lane in one window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Seconds of each exchange.
    pub(super) seconds: Vec<f64>,
    /// Seconds of each exchange without the model's run.
    pub(super) around_model: Vec<f64>,
    /// Exchanges per second of all connections together.
    pub(super) rate: f64,
}

/// Drives all connections concurrently for `length`, each in its own thread.
pub(super) fn window(connections: &mut [Box<dyn Exchange>], length: Duration) -> anyhow::Result<Window> {
    let start = Barrier::new(connections.len());
    let results: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> =
            connections.iter_mut().map(|connection| scope.spawn(|| drive(&mut **connection, &start, length))).collect();
        started.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut window = Window::default();
    for result in results {
        let part = result.ok().context("a connection's thread panicked")??;
        window.seconds.extend(part.seconds);
        window.around_model.extend(part.around_model);
        window.rate += part.rate;
    }
    Ok(window)
}

fn drive(connection: &mut dyn Exchange, start: &Barrier, length: Duration) -> anyhow::Result<Window> {
    start.wait();
    // All threads have passed the barrier, so a failure here blocks none of them.
    for _ in 0..UNCOUNTED {
        connection.exchange()?;
    }
    let began = Instant::now();
    let mut part = Window::default();
    while part.seconds.len() < MIN_COUNTED || began.elapsed() < length {
        let sent = Instant::now();
        let model = connection.exchange()?;
        let seconds = if connection.is_in_process() { model } else { sent.elapsed().as_secs_f64() };
        part.seconds.push(seconds);
        part.around_model.push((seconds - model).max(0.0));
    }
    part.rate = part.seconds.len() as f64 / began.elapsed().as_secs_f64();
    Ok(part)
}

/// The seconds of `infer` in a `Server-Timing` value; 0 if it has none.
pub(super) fn model_seconds(server_timing: &str) -> f64 {
    let stage = server_timing.split(',').find_map(|stage| stage.trim().strip_prefix("infer;dur="));
    stage.and_then(|milliseconds| milliseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_model_is_read() {
        assert_eq!(model_seconds("receive;dur=0.100, infer;dur=2.500, encode;dur=0.001"), 0.0025);
        assert_eq!(model_seconds("infer;dur=1"), 0.001);
        assert_eq!([model_seconds(""), model_seconds("infer;dur=x"), model_seconds("cache")], [0.0; 3]);
    }

    struct Failing;
    impl Exchange for Failing {
        fn exchange(&mut self) -> anyhow::Result<f64> {
            anyhow::bail!("refused")
        }
    }

    struct Working(usize);
    impl Exchange for Working {
        fn exchange(&mut self) -> anyhow::Result<f64> {
            self.0 += 1;
            Ok(0.0)
        }
    }

    #[test]
    fn one_failure_fails_the_window() {
        let mut connections: Vec<Box<dyn Exchange>> = vec![Box::new(Working(0)), Box::new(Failing)];
        assert_eq!(window(&mut connections, Duration::ZERO).unwrap_err().to_string(), "refused");
    }

    #[test]
    fn a_short_window_counts_the_minimum() {
        let mut connections: Vec<Box<dyn Exchange>> = vec![Box::new(Working(0)), Box::new(Working(0))];
        let window = window(&mut connections, Duration::ZERO).unwrap();
        assert_eq!((window.seconds.len(), window.around_model.len()), (2 * MIN_COUNTED, 2 * MIN_COUNTED));
    }
}
