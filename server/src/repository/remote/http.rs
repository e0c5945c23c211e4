//! HTTP to object stores, with the client that the server has anyway. Answers are small: objects are asked for in parts.

use std::{io, time::Duration};

use bytes::Bytes;
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};
use ureq::{Agent, Error, config::AutoHeaderValue};

use super::listing::PART_BYTES;
use crate::SERVER_NAME;

/// The time limit of a connection, its TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a request with its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum bytes of an answer: a part of an object, or a page of a listing.
const MAX_ANSWER_BYTES: u64 = 2 * PART_BYTES;

/// Makes clients with these time limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connector {
    connect: Duration,
    request: Duration,
}

impl Default for Connector {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, request: REQUEST_TIMEOUT }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let config = Agent::config_builder()
            .https_only(!allows_http)
            .timeout_connect(Some(self.connect))
            .timeout_global(Some(self.request))
            // A signature is for one host, and errors have a body that says more.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // The size of an object is that of its bytes as they are stored.
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(SERVER_NAME)
            .build();
        Ok(HttpClient::new(Client(Agent::new_with_config(config))))
    }
}

#[derive(Debug)]
struct Client(Agent);

#[async_trait::async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = self.0.clone();
        let answer = tokio::task::spawn_blocking(move || ask(&agent, request)).await;
        answer.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?
    }
}

fn ask(agent: &Agent, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (head, body) = request.into_parts();
    // Whoever only reads sends no other bodies.
    let body = body.as_bytes().cloned().unwrap_or_default();
    let answer = if body.is_empty() {
        agent.run(http::Request::from_parts(head, ()))
    } else {
        agent.run(http::Request::from_parts(head, &body[..]))
    };
    let (head, mut body) = answer.map_err(failed)?.into_parts();
    let bytes = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(failed)?;
    Ok(HttpResponse::from_parts(head, HttpResponseBody::from(Bytes::from(bytes))))
}

/// The error with its kind, by which it is tried again or not.
fn failed(error: Error) -> HttpError {
    let kind = match &error {
        Error::Timeout(_) => HttpErrorKind::Timeout,
        Error::HostNotFound | Error::ConnectionFailed => HttpErrorKind::Connect,
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
        Error::Io(_) => HttpErrorKind::Interrupted,
        Error::BodyExceedsLimit(_) => HttpErrorKind::Decode,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    /// A server that reads the head of one request and sends this answer; an empty one is silence. Returns its URL.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/object", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            // The client may have enough before the end.
            let _ = connection.write_all(answer.as_bytes());
            if answer.is_empty() {
                // Until the client gives up.
                let _ = connection.read(&mut [0]);
            }
        });
        url
    }

    async fn get(url: &str, connector: Connector, allow_http: bool) -> Result<HttpResponse, HttpError> {
        let client = connector.connect(&ClientOptions::new().with_allow_http(allow_http)).unwrap();
        client.execute(http::Request::get(url).body(Vec::new().into()).unwrap()).await
    }

    #[tokio::test]
    async fn an_answer_of_any_status_comes_with_its_body() {
        let url = server("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nETag: \"x\"\r\n\r\ngone");
        let answer = get(&url, Connector::default(), true).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["etag"]), (404, &"\"x\"".parse().unwrap()));
        assert_eq!(answer.into_body().bytes().await.unwrap(), "gone");
        let url = server("HTTP/1.1 301 Moved\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\n\r\n");
        assert_eq!(get(&url, Connector::default(), true).await.unwrap().status().as_u16(), 301, "not followed");
    }

    #[tokio::test]
    async fn silence_a_torn_answer_and_a_large_one_end() {
        let soon = Connector { request: Duration::from_millis(100), ..Connector::default() };
        let kind = async |answer, connector| get(&server(answer), connector, true).await.unwrap_err().kind();
        assert_eq!(kind("", soon).await, HttpErrorKind::Timeout);
        let torn = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        assert_eq!(kind(torn, Connector::default()).await, HttpErrorKind::Interrupted);
        let large =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(MAX_ANSWER_BYTES as usize + 1));
        assert_eq!(kind(large.leak(), Connector::default()).await, HttpErrorKind::Decode);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(get(&url, Connector::default(), true).await.unwrap_err().kind(), HttpErrorKind::Connect);
    }

    #[tokio::test]
    async fn plain_http_must_be_allowed() {
        let error = get("http://127.0.0.1:1/", Connector::default(), false).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Unknown);
    }
}
