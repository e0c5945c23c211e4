//! The client behind the page: a thread of its own, as a program beside the server would be, that asks one lane after
//! another, so that no request of the page lengthens the time of another. It keeps one connection to each lane.

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use quintet_engine::{ErrorKind, InferError};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::connection::{Connection, Destination, Exchange};

/// What the page's questions may make the server hold and wait for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may wait for their turn, at least 1 (`--page-max-waiting`).
    pub waiting: usize,
    /// The time of one request, so that a lane that does not answer does not stop the page (`--page-timeout-secs`).
    pub time: Duration,
}

/// A request to a lane.
pub(super) struct Question {
    pub(super) lane: &'static str,
    pub(super) destination: Destination,
    /// Whether it opens a connection of its own.
    pub(super) fresh: bool,
    pub(super) request: Request<Full<Bytes>>,
}

struct Turn {
    question: Question,
    answer: oneshot::Sender<anyhow::Result<Exchange>>,
}

/// Hands requests to the thread, which ends with the last clone.
#[derive(Clone)]
pub(super) struct Asker(mpsc::Sender<Turn>);

impl Asker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(limits: Limits) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sender, turns) = mpsc::channel(limits.waiting);
        thread::Builder::new().name("page".into()).spawn(move || runtime.block_on(take_turns(turns, limits.time)))?;
        Ok(Self(sender))
    }

    /// Asks a lane when it is its turn. The inner error says what happened to the exchange.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too many others wait.
    pub(super) async fn ask(&self, question: Question) -> Result<anyhow::Result<Exchange>, InferError> {
        let (sender, answer) = oneshot::channel();
        self.0.try_send(Turn { question, answer: sender }).map_err(|_| {
            InferError::new(
                ErrorKind::Unavailable,
                format_args!(
                    "{} requests of this page wait for their turn already (--page-max-waiting)",
                    self.0.max_capacity()
                ),
            )
        })?;
        answer.await.map_err(InferError::internal)
    }
}

async fn take_turns(mut turns: mpsc::Receiver<Turn>, time: Duration) {
    let mut kept = BTreeMap::new();
    while let Some(Turn { question, mut answer }) = turns.recv().await {
        let (lane, fresh) = (question.lane, question.fresh);
        let connection = if fresh { None } else { kept.remove(lane) };
        let exchange = tokio::select! {
            exchange = timeout(time, exchange(question, connection)) => exchange,
            // The browser is gone.
            () = answer.closed() => continue,
        };
        let late = |_| Err(anyhow::anyhow!("no answer within {} s (--page-timeout-secs)", time.as_secs()));
        let exchange = exchange.unwrap_or_else(late);
        let _ = answer.send(exchange.map(|(exchange, connection)| {
            if !fresh {
                kept.insert(lane, connection);
            }
            exchange
        }));
    }
}

/// An exchange over the kept connection, which is opened before the time begins if there is none, or over a new one.
async fn exchange(question: Question, kept: Option<Connection>) -> anyhow::Result<(Exchange, Connection)> {
    let Question { destination, fresh, request, .. } = question;
    if fresh {
        let started = Instant::now();
        let mut connection = Connection::open(destination).await?;
        let opened = Instant::now();
        return Ok((connection.exchange(request, started, Some(opened)).await?, connection));
    }
    if let Some(mut connection) = kept.filter(|connection| !connection.is_closed()) {
        // The lane may just have closed it. Asking twice does no harm.
        if let Ok(exchange) = connection.exchange(request.clone(), Instant::now(), None).await {
            return Ok((exchange, connection));
        }
    }
    let mut connection = Connection::open(destination).await?;
    Ok((connection.exchange(request, Instant::now(), None).await?, connection))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::Arc};

    use futures_util::future::join_all;

    use super::*;

    fn question(listener: &TcpListener) -> Question {
        let destination = Destination { address: listener.local_addr().unwrap(), tls: false, http2: false };
        Question { lane: "jpeg", destination, fresh: true, request: Request::new(Full::default()) }
    }

    /// Waits until something holds; a fault fails the test in place of stopping it.
    async fn until(holds: impl Fn() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn those_that_wait_are_bounded_and_those_that_leave_make_room() {
        let limits = Limits { waiting: 3, time: Duration::from_secs(600) };
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let asker = Arc::new(Asker::start(limits).unwrap());
        // The first has its turn when its connection has arrived: it waits for an answer that does not come.
        let first = tokio::spawn({
            let (asker, question) = (Arc::clone(&asker), question(&silent));
            async move { asker.ask(question).await.map(drop) }
        });
        let accept = tokio::task::spawn_blocking(move || {
            let accepted = silent.accept().unwrap();
            (silent, accepted)
        });
        let (silent, _accepted) = timeout(Duration::from_secs(60), accept).await.unwrap().unwrap();
        let waiting = tokio::spawn({
            let (asker, questions) = (Arc::clone(&asker), [(); 3].map(|()| question(&silent)));
            async move { join_all(questions.map(|question| asker.ask(question))).await.len() }
        });
        until(|| asker.0.capacity() == 0).await;
        let refused = timeout(Duration::from_secs(60), asker.ask(question(&silent))).await.unwrap().err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("3 requests") && refused.to_string().contains("--page-max-waiting"));
        first.abort();
        waiting.abort();
        until(|| asker.0.capacity() == 3).await;
    }

    #[tokio::test]
    async fn a_lane_that_does_not_answer_does_not_stop_the_page() {
        let asker = Asker::start(Limits { waiting: 1, time: Duration::from_millis(50) }).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..2 {
            let late = timeout(Duration::from_secs(60), asker.ask(question(&silent))).await.unwrap().unwrap();
            assert!(late.unwrap_err().to_string().contains("--page-timeout-secs"));
        }
    }
}
