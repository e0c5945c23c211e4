//! Tests of the frames that are sent for a response (RFC 9113 §4.2, §4.3, §6.10 and §8.1).

use super::*;

#[test]
fn a_response_before_the_end_of_the_request_closes_the_stream() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/wait");
    peer.connection.send_response(1, StatusCode::NOT_FOUND, &HeaderMap::new(), true);
    let (header, block) = peer.next().unwrap();
    assert_eq!((header.kind, header.flags), (kind::HEADERS, COMPLETE));
    assert_eq!(decode(&block), [(":status".into(), "404".into())]);
    assert_eq!(peer.stream_error(1), 0);
    // The rest of the request is ignored.
    peer.answers.clear();
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, b"abc"));
    assert!(peer.next().is_none());
    peer.works(3);
}

#[test]
fn a_failed_response_resets_its_stream() {
    let mut peer = Peer::start();
    peer.send_head(COMPLETE, 1, "/wait");
    peer.connection.send_response(1, StatusCode::OK, &HeaderMap::new(), false);
    peer.connection.reset(1, ErrorCode::Internal);
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.stream_error(1), 2);
    peer.connection.reset(1, ErrorCode::Internal);
    assert!(peer.next().is_none());
}

#[test]
fn a_body_without_trailers_ends_with_its_last_frame() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/streamed");
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, &[1; 40_000]));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    let frames: Vec<_> = std::iter::from_fn(|| peer.next()).collect();
    assert!(frames.iter().all(|(header, _)| header.kind == kind::DATA && header.length <= 16_384));
    assert_eq!(frames.iter().map(|(_, payload)| payload.len()).sum::<usize>(), 40_000);
    let ends: Vec<_> = frames.iter().map(|(header, _)| header.has(flag::END_STREAM)).collect();
    assert!(ends.last() == Some(&true) && ends.iter().filter(|&&end| end).count() == 1, "{ends:?}");
}

#[test]
fn an_empty_frame_ends_a_body_with_exhausted_windows() {
    let mut peer = Peer::start();
    peer.send(&frame::settings(&[(frame::setting::INITIAL_WINDOW_SIZE, 0)]));
    peer.send_head(COMPLETE, 1, "/streamed");
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, header.flags, payload.len()), (kind::DATA, flag::END_STREAM, 0));
}

#[test]
fn fields_larger_than_a_frame_are_continued() {
    let mut peer = Peer::start();
    peer.send_head(COMPLETE, 1, "/wait");
    let long = "v".repeat(40_000);
    let headers = HeaderMap::from_iter([("x".parse().unwrap(), long.parse().unwrap())]);
    peer.connection.send_response(1, StatusCode::OK, &headers, true);
    let frames: Vec<_> = std::iter::from_fn(|| peer.next()).collect();
    let kinds: Vec<_> = frames.iter().map(|(header, _)| (header.kind, header.flags)).collect();
    assert_eq!(
        kinds,
        [(kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS)]
    );
    let block: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
    assert_eq!(decode(&block)[1], ("x".into(), long.into()));
}
