//! The clients of one lane, one for each worker.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{
    client::{
        call::{CallError, HttpVersion, Prepared, Reply},
        connection::Connection,
        endpoint::Endpoint,
        grpc, http, jpeg,
        route::Route,
        target::Target,
        wire::Wire,
    },
    model::{connection::Policy, limits::Limits, outputs::Output, protocol::Protocol, signature::Signature},
};

/// Makes a lane's clients; the policy decides which connections they use.
pub struct Clients {
    protocol: Protocol,
    endpoint: Endpoint,
    policy: Policy,
    limits: Limits,
    wire: Arc<Wire>,
    shared: Vec<Arc<Mutex<Connection>>>,
    count: usize,
}

impl Clients {
    /// Clients of one lane.
    pub fn new(target: &Target, policy: Policy, limits: Limits) -> Self {
        let mut clients = Self {
            protocol: target.protocol(),
            endpoint: target.endpoint.clone(),
            policy,
            limits,
            wire: Arc::default(),
            shared: Vec::new(),
            count: 0,
        };
        if let Policy::Shared(n) = policy {
            clients.shared = (0..n.get()).map(|_| Arc::new(Mutex::new(clients.connection()))).collect();
        }
        clients
    }

    fn connection(&self) -> Connection {
        let version = match self.protocol {
            Protocol::Jpeg | Protocol::KserveHttp => HttpVersion::Http1,
            Protocol::KserveGrpc => HttpVersion::Http2,
        };
        Connection::counted(self.endpoint.clone(), version, self.limits, Arc::clone(&self.wire))
    }

    /// Makes a client for another worker.
    pub fn client(&mut self) -> Client {
        let route = match self.policy {
            Policy::Fresh => Route::Fresh(self.connection()),
            Policy::Reused => Route::Own(self.connection()),
            Policy::Shared(_) => Route::Shared(Arc::clone(&self.shared[self.count % self.shared.len()])),
        };
        self.count += 1;
        Client { protocol: self.protocol, route }
    }

    /// The traffic of all their connections.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }
}

/// One worker's route to a lane.
pub struct Client {
    protocol: Protocol,
    route: Route,
}

impl Client {
    /// Opens the connection before the first request, if it is kept between requests.
    ///
    /// # Errors
    /// [`CallError::Connect`].
    pub async fn connect(&mut self) -> Result<(), CallError> {
        self.route.connect().await
    }

    /// Closes the worker's own connection and waits until it is closed.
    pub async fn close(&mut self) {
        self.route.close().await;
    }

    /// Closes a connection that is not kept; not part of the request's time.
    pub async fn settle(&mut self) {
        self.route.settle().await;
    }

    /// Sends an inference request and reads the complete, successful response.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn infer(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        let mut reply = self.route.call(request).await?;
        match self.protocol {
            Protocol::Jpeg | Protocol::KserveHttp => http::check_inference(&reply)?,
            Protocol::KserveGrpc => grpc::check(&reply)?,
        }
        reply.marks.decoded = reply.started.elapsed();
        Ok(reply)
    }

    /// Reads the outputs of a model from a response, or from the shared memory that it refers to.
    ///
    /// # Errors
    /// [`CallError::Malformed`].
    pub fn outputs(
        &self,
        reply: &Reply,
        shared: Option<&[u8]>,
        signature: &Signature,
    ) -> Result<Vec<Output>, CallError> {
        match self.protocol {
            Protocol::Jpeg => jpeg::outputs(reply, signature),
            Protocol::KserveHttp => http::outputs(reply, shared),
            Protocol::KserveGrpc => grpc::outputs(reply, shared),
        }
    }
}
