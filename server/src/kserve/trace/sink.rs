//! Passes traces through a bounded queue to a thread that writes them, so that no request waits for the writer.

use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::record::Record;

/// Limits on the traces that wait to be written. Traces over a limit are dropped.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Traces.
    pub traces: usize,
    /// Bytes of their tensors.
    pub bytes: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { traces: 4096, bytes: 64 << 20 }
    }
}

/// Writes traces on a thread of its own.
pub(super) trait Writer: Send + 'static {
    /// Writes or buffers a trace.
    fn write(&mut self, record: Record);

    /// When to call [`Self::flush`], if traces are buffered.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Writes the buffered traces.
    fn flush(&mut self) {}
}

/// Sends traces to the thread of a [`Writer`].
#[derive(Clone)]
pub(super) struct Sink {
    messages: SyncSender<Message>,
    waiting_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    losses: Losses,
}

enum Message {
    Trace(Box<Record>),
    Flush(SyncSender<()>),
}

/// Counts the traces or spans that were dropped.
#[derive(Clone, Default)]
pub(super) struct Losses(Arc<AtomicU64>);

impl Losses {
    /// Adds to the count. Logs the reason of the first loss.
    pub(super) fn add(&self, count: u64, what: &str, reason: &str) {
        if self.0.fetch_add(count, Relaxed) == 0 {
            tracing::warn!(reason, "{what} are dropped; the number of dropped {what} is logged at shutdown");
        }
    }
}

impl Sink {
    /// Starts a thread with this writer. At most `max` traces wait for it; `losses` counts the others.
    pub(super) fn start(writer: impl Writer, max: Waiting, losses: Losses) -> io::Result<Self> {
        let (messages, receiver) = sync_channel(max.traces);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&waiting_bytes);
        thread::Builder::new().name("trace".into()).spawn(move || serve(writer, &receiver, &waiting))?;
        Ok(Self { messages, waiting_bytes, max_bytes: max.bytes, losses })
    }

    /// Queues a trace for the writer, or drops it if the queue is full.
    pub(super) fn write(&self, record: Box<Record>) {
        let bytes = record.tensor_bytes();
        let fits = self.waiting_bytes.fetch_add(bytes, AcqRel) + bytes <= self.max_bytes;
        if !fits || self.messages.try_send(Message::Trace(record)).is_err() {
            self.waiting_bytes.fetch_sub(bytes, AcqRel);
            self.losses.add(1, "traces", "requests are traced faster than their traces are written");
        }
    }

    /// Waits until all queued traces are written, at most for `timeout`, and logs how many were dropped. Blocks.
    pub(super) fn flush(&self, timeout: Duration) {
        let (done, flushed) = sync_channel(1);
        let until = Instant::now() + timeout;
        let mut message = Message::Flush(done);
        while let Err(error) = self.messages.try_send(message) {
            let std::sync::mpsc::TrySendError::Full(back) = error else { return };
            if Instant::now() >= until {
                break;
            }
            message = back;
            thread::sleep(Duration::from_millis(10));
        }
        if flushed.recv_timeout(until.saturating_duration_since(Instant::now())).is_err() {
            tracing::warn!("not all traces could be written in time");
        }
        match self.losses.0.load(Relaxed) {
            0 => {}
            lost => tracing::warn!(lost, "traces or spans were dropped"),
        }
    }
}

fn serve(mut writer: impl Writer, messages: &Receiver<Message>, waiting_bytes: &AtomicUsize) {
    loop {
        let next = match writer.due() {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => messages.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(Message::Trace(record)) => {
                let bytes = record.tensor_bytes();
                writer.write(*record);
                waiting_bytes.fetch_sub(bytes, AcqRel);
            }
            Ok(Message::Flush(done)) => {
                writer.flush();
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => writer.flush(),
            Err(RecvTimeoutError::Disconnected) => return writer.flush(),
        }
    }
}
