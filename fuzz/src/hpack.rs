//! HPACK: field blocks of one connection, decoded as another implementation decodes them, and encoded again.

use quintet_http2::hpack::{DEFAULT_TABLE_BYTES, Decoder, Encoder, Malformed};

use crate::input::Input;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Malformed> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

/// The input: blocks of at most 255 bytes, each after its length.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut ours = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut theirs = Some(loona_hpack::Decoder::new());
    let mut encoder = Encoder::default();
    let (mut our_peer, mut their_peer) = (Decoder::new(DEFAULT_TABLE_BYTES), loona_hpack::Decoder::new());
    while !input.0.is_empty() {
        let length = input.byte();
        let block = input.take(length.into());
        let Ok(fields) = decode(&mut ours, block) else { return };
        // A block that only one of them accepts leaves their tables different.
        match theirs.as_mut().map(|decoder| decoder.decode(block)) {
            Some(Ok(expected)) => assert_eq!(fields, expected, "another implementation decodes other fields"),
            Some(Err(_)) => theirs = None,
            None => {}
        }
        let mut encoded = Vec::new();
        encoder.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])), &mut encoded);
        assert_eq!(decode(&mut our_peer, &encoded).as_ref(), Ok(&fields), "not what was encoded");
        assert_eq!(their_peer.decode(&encoded).as_ref(), Ok(&fields), "not what was encoded, for another decoder");
    }
}
