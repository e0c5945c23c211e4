//! Reports to the guard what a connection does that hyper serves: bodies tell when hyper waits for the client.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::{checked::Checked, reserve};
use crate::transport::guard::{Guard, Phase};

/// Answers a request whose head hyper has read.
pub(super) async fn answer(
    request: Request<Incoming>,
    checked: Checked,
    guard: Arc<Guard>,
) -> Result<Response<Answer>, Infallible> {
    guard.enter(Phase::Answer);
    let (parts, body) = request.into_parts();
    let refusal = reserve::refusal(&guard, &parts);
    let mut response = match refusal {
        Some(refusal) => refusal,
        None => {
            let body = Body::new(RequestBody { body, guard: Arc::clone(&guard) });
            checked.answer(Request::from_parts(parts, body)).await
        }
    };
    guard.enter(Phase::Answer);
    if guard.is_reserve() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Answer { body, guard }))
}

/// The body of a request. While its reader waits for it, so does the server.
struct RequestBody {
    body: Incoming,
    guard: Arc<Guard>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.guard.enter(if frame.is_pending() { Phase::Body } else { Phase::Answer });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Hyper drops it when it has read all of it.
pub(super) struct Answer {
    body: Body,
    guard: Arc<Guard>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.guard.enter(Phase::Idle);
    }
}
