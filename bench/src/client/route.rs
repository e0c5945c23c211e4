//! The connection of a worker's requests: its own, a fresh one for each request, or a shared one.

use std::{sync::Arc, time::Instant};

use tokio::sync::Mutex;

use crate::client::{
    call::{CallError, Prepared, Reply},
    connection::Connection,
};

/// One worker's route to its server.
pub(super) enum Route {
    /// Kept between requests.
    Own(Connection),
    /// Closed after each request.
    Fresh(Connection),
    /// One of a few that all workers use.
    Shared(Arc<Mutex<Connection>>),
}

impl Route {
    /// Opens the connection before the first request, if it is kept between requests.
    pub(super) async fn connect(&mut self) -> Result<(), CallError> {
        match self {
            Self::Own(connection) => connection.connect().await,
            Self::Fresh(_) => Ok(()),
            Self::Shared(connection) => connection.lock().await.connect().await,
        }
    }

    /// Sends a request and reads its response.
    pub(super) async fn call(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        let started = Instant::now();
        match self {
            Self::Own(connection) | Self::Fresh(connection) => connection.call_since(request, started).await,
            Self::Shared(connection) => {
                let mut connection = connection.lock().await;
                match connection.share().await? {
                    Some(mut stream) => {
                        drop(connection);
                        stream.call_since(request, started).await
                    }
                    None => connection.call_since(request, started).await,
                }
            }
        }
    }

    /// Closes the worker's own connection.
    pub(super) async fn close(&mut self) {
        if let Self::Own(connection) | Self::Fresh(connection) = self {
            connection.close().await;
        }
    }

    /// Closes a connection that is not kept; not part of the request's time.
    pub(super) async fn settle(&mut self) {
        if let Self::Fresh(connection) = self {
            connection.close().await;
        }
    }
}
