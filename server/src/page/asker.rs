//! The client behind the page: a thread of its own, as a program beside the server would be, that asks one lane after
//! another, so that no request of the page lengthens the time of another. It keeps one connection to each lane.

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
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

/// Requests that may wait for their turn.
const PLACES: usize = 16;

/// The time limit of one request, so that a lane that does not answer does not stop the page.
const TIMEOUT: Duration = Duration::from_secs(60);

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
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sender, turns) = mpsc::channel(PLACES);
        thread::Builder::new().name("page".into()).spawn(move || runtime.block_on(take_turns(turns)))?;
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
                format_args!("{PLACES} requests of this page wait for their turn already"),
            )
        })?;
        answer.await.map_err(InferError::internal)
    }
}

async fn take_turns(mut turns: mpsc::Receiver<Turn>) {
    let mut kept = BTreeMap::new();
    while let Some(Turn { question, mut answer }) = turns.recv().await {
        let (lane, fresh) = (question.lane, question.fresh);
        let connection = if fresh { None } else { kept.remove(lane) };
        let exchange = tokio::select! {
            exchange = timeout(TIMEOUT, exchange(question, connection)) => exchange,
            // The browser is gone.
            () = answer.closed() => continue,
        };
        let exchange = exchange.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", TIMEOUT.as_secs())));
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
    let open = || async move {
        let opened = timeout(TIMEOUT, Connection::open(destination)).await;
        opened.context("no connection in time")?
    };
    if fresh {
        let started = Instant::now();
        let mut connection = open().await?;
        let opened = Instant::now();
        return Ok((connection.exchange(request, started, Some(opened)).await?, connection));
    }
    if let Some(mut connection) = kept.filter(|connection| !connection.is_closed()) {
        // The lane may just have closed it. Asking twice does no harm.
        if let Ok(exchange) = connection.exchange(request.clone(), Instant::now(), None).await {
            return Ok((exchange, connection));
        }
    }
    let mut connection = open().await?;
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

    #[tokio::test]
    async fn those_that_wait_are_bounded_and_those_that_leave_make_room() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let asker = Arc::new(Asker::start().unwrap());
        // The first has its turn when its connection has arrived: it waits for an answer that does not come.
        let first = tokio::spawn({
            let (asker, question) = (Arc::clone(&asker), question(&silent));
            async move { asker.ask(question).await.map(drop) }
        });
        let silent = tokio::task::spawn_blocking(move || {
            let accepted = silent.accept().unwrap();
            (silent, accepted)
        });
        let (silent, _accepted) = silent.await.unwrap();
        let waiting = tokio::spawn({
            let (asker, questions) = (Arc::clone(&asker), [(); PLACES].map(|()| question(&silent)));
            async move { join_all(questions.map(|question| asker.ask(question))).await.len() }
        });
        while asker.0.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = asker.ask(question(&silent)).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        first.abort();
        waiting.abort();
        while asker.0.capacity() < PLACES {
            tokio::task::yield_now().await;
        }
    }
}
