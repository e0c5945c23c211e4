//! Property tests for any input: how it is split does not matter, and nothing panics.

use proptest::prelude::*;

use super::*;

/// Frames of any kind and content, among them good heads for these paths, or hardly any stream would open.
fn frames(paths: [&'static str; 2]) -> impl Strategy<Value = Vec<u8>> {
    let frame = (0u8..12, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec(frame, 0..40).prop_map(move |frames| {
        let mut peer = Peer::new();
        let mut bytes = [PREFACE, &frame::settings(&[])].concat();
        for (kind, flags, stream, payload) in frames {
            bytes.extend(match kind {
                10 => peer.head(COMPLETE, stream, paths[0]),
                11 => peer.head(flag::END_HEADERS, stream, paths[1]),
                _ => frame::frame(kind, flags, stream, &payload),
            });
        }
        bytes
    })
}

/// Requests and what belongs to them: none of it is an error.
fn valid_frames() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec((prop::collection::vec(any::<u8>(), 0..60), 0u8..4, any::<bool>()), 0..6);
    prop::collection::vec((body, 0usize..4, any::<bool>()), 0..6).prop_map(|requests| {
        let mut peer = Peer::new();
        let mut bytes = [PREFACE, &frame::settings(&[])].concat();
        for (nth, (body, cut, is_continued)) in requests.into_iter().enumerate() {
            let stream = 2 * nth as u32 + 1;
            let head = peer.head(flag::END_HEADERS, stream, "/wait");
            if is_continued {
                let (first, rest) = head[HEADER_BYTES..].split_at(cut);
                bytes.extend(frame::frame(kind::HEADERS, 0, stream, first));
                bytes.extend(frame::frame(kind::CONTINUATION, flag::END_HEADERS, stream, rest));
            } else {
                bytes.extend(head);
            }
            let frames = body.len();
            for (at, (data, padding, is_padded)) in body.into_iter().enumerate() {
                let end = if at + 1 == frames { flag::END_STREAM } else { 0 };
                let payload = [&[padding], &data[..], &vec![0; padding.into()]].concat();
                bytes.extend(if is_padded {
                    frame::frame(kind::DATA, flag::PADDED | end, stream, &payload)
                } else {
                    frame::frame(kind::DATA, end, stream, &data)
                });
                bytes.extend(frame::frame(kind::PING, 0, 0, &[at as u8; 8]));
            }
        }
        bytes
    })
}

/// Events with adjacent data joined, the error, and all that was sent.
type Outcome = (Vec<Record>, Option<ErrorCode>, Vec<u8>);

/// What comes of `bytes` if no request is answered and the capacity of all data is released at once.
fn outcome(bytes: &[u8], send: impl Fn(&mut Peer, &[u8])) -> Outcome {
    let mut peer = Peer::new();
    send(&mut peer, bytes);
    peer.transmit();
    let mut joined: Vec<Record> = Vec::new();
    for event in peer.events {
        match (joined.last_mut(), event) {
            (Some(Record::Data { stream, bytes }), Record::Data { stream: same, bytes: more }) if *stream == same => {
                bytes.extend(more);
            }
            (_, event) => joined.push(event),
        }
    }
    (joined, peer.error, peer.output)
}

fn in_pieces(bytes: &[u8], piece: usize) -> Outcome {
    outcome(bytes, |peer, bytes| bytes.chunks(piece).for_each(|piece| peer.send(piece)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pieces_of_any_size_are_the_same(bytes in valid_frames(), piece in 2usize..100) {
        let whole = in_pieces(&bytes, usize::MAX);
        prop_assert_eq!(whole.1, None);
        prop_assert_eq!(&in_pieces(&bytes, 1), &whole);
        prop_assert_eq!(&in_pieces(&bytes, piece), &whole);
    }

    #[test]
    fn pieces_of_arbitrary_frames_are_the_same(bytes in frames(["/wait", "/wait"])) {
        prop_assert_eq!(in_pieces(&bytes, 1), in_pieces(&bytes, usize::MAX));
    }

    #[test]
    fn data_past_the_buffer_is_the_same(bytes in valid_frames()) {
        let buffered = in_pieces(&bytes, usize::MAX);
        prop_assert_eq!(outcome(&bytes, Peer::send_directly), buffered);
    }

    #[test]
    fn arbitrary_frames_never_panic(bytes in frames(["/whole", "/streamed"]), piece in 1usize..50) {
        let mut peer = Peer::new();
        for piece in bytes.chunks(piece) {
            peer.send(piece);
        }
        prop_assert_eq!(peer.error.is_some(), peer.connection.error.is_some());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
        let mut peer = Peer::start();
        for piece in bytes.chunks(piece) {
            peer.send(piece);
        }
    }
}
