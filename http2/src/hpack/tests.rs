//! HPACK against another implementation, in both directions.

use proptest::prelude::*;

use super::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Malformed> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

fn encode(encoder: &mut Encoder, fields: &Fields) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])), &mut block);
    block
}

/// Few names and values, so that they repeat, and some that fill the table.
fn fields() -> impl Strategy<Value = Vec<Fields>> {
    let name = prop_oneof![Just(":path".to_owned()), Just("content-type".to_owned()), "[a-c]{1,2}", "[a-z-]{1,20}"];
    let value = prop_oneof![Just("/".to_owned()), "[a-c]{0,1}", "\\PC{0,40}", "[a-z]{1500}"];
    let field = (name, value).prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()));
    prop::collection::vec(prop::collection::vec(field, 0..12), 1..8)
}

#[test]
fn the_static_table_is_the_same() {
    let (mut ours, mut theirs) = (Decoder::new(DEFAULT_TABLE_BYTES), loona_hpack::Decoder::new());
    for index in 1..=61 {
        assert_eq!(decode(&mut ours, &[0x80 | index]).unwrap(), theirs.decode(&[0x80 | index]).unwrap(), "{index}");
    }
    assert_eq!(decode(&mut ours, &[0x80 | 62]), Err(Malformed));
    assert_eq!(decode(&mut ours, &[0x80]), Err(Malformed));
}

/// RFC 7541 appendix C.4.1, whose strings are Huffman-coded, and C.2.1.
#[test]
fn examples_of_the_standard() {
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let block = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let fields = decode(&mut decoder, block).unwrap();
    let text = fields.iter().map(|(n, v)| format!("{} {}", n.escape_ascii(), v.escape_ascii())).collect::<Vec<_>>();
    assert_eq!(text, [":method GET", ":scheme http", ":path /", ":authority www.example.com"]);
    assert_eq!(decode(&mut decoder, &[0x80 | 62]).unwrap(), fields[3..]);
    let custom = decode(&mut decoder, b"\x40\x0acustom-key\x0dcustom-header").unwrap();
    assert_eq!(custom, [(b"custom-key".to_vec(), b"custom-header".to_vec())]);
}

#[test]
fn a_repeated_field_is_one_byte() {
    let mut encoder = Encoder::default();
    let fields = [("content-type", "application/grpc"), ("x", "1"), ("grpc-status", "0")];
    let fields: Fields = fields.map(|(name, value)| (name.into(), value.into())).into();
    assert!(encode(&mut encoder, &fields).len() > 30);
    assert_eq!(encode(&mut encoder, &fields).len(), 3);
}

#[test]
fn both_peers_limit_the_table() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(DEFAULT_TABLE_BYTES));
    let fields: Fields = vec![("x".into(), "1".into())];
    decode(&mut decoder, &encode(&mut encoder, &fields)).unwrap();
    encoder.set_max_table_bytes(10);
    for _ in 0..3 {
        let block = encode(&mut encoder, &fields);
        assert!(block.len() > 3, "added to a table without room");
        assert_eq!(decode(&mut decoder, &block).unwrap(), fields);
    }
    // A size above the limit, and a change after a field.
    assert_eq!(decode(&mut decoder, &[0x3f, 0xe2, 0x1f]), Err(Malformed));
    assert_eq!(decode(&mut decoder, &[0x82, 0x20]), Err(Malformed));
}

#[test]
fn wrong_lengths_are_malformed() {
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    for block in
        [&b"\xff\xff\xff\xff\xff\x01"[..], b"\xff", b"\0\x05ab", b"\0\x01a", b"\0", b"\0\x81\xff\x01a", b"\x7f"]
    {
        assert_eq!(decode(&mut decoder, block), Err(Malformed), "{}", block.escape_ascii());
    }
}

proptest! {
    #[test]
    fn encoded_fields_are_decoded(blocks in fields()) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(DEFAULT_TABLE_BYTES));
        for fields in blocks {
            prop_assert_eq!(decode(&mut decoder, &encode(&mut encoder, &fields)).unwrap(), fields);
        }
    }

    #[test]
    fn another_implementation_reads_ours(blocks in fields()) {
        let (mut encoder, mut theirs) = (Encoder::default(), loona_hpack::Decoder::new());
        for fields in blocks {
            prop_assert_eq!(theirs.decode(&encode(&mut encoder, &fields)).unwrap(), fields);
        }
    }

    #[test]
    fn ours_reads_another_implementation(blocks in fields()) {
        let (mut theirs, mut decoder) = (loona_hpack::Encoder::new(), Decoder::new(DEFAULT_TABLE_BYTES));
        for fields in blocks {
            let block = theirs.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
            prop_assert_eq!(decode(&mut decoder, &block).unwrap(), fields);
        }
    }

    /// Huffman-coded strings, which neither implementation writes: both accept and reject the same.
    #[test]
    fn huffman_coded_strings_are_decoded_alike(coded in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut block = vec![0, 0x01, b'a', 0x80 | coded.len() as u8];
        block.extend(&coded);
        let ours = decode(&mut Decoder::new(DEFAULT_TABLE_BYTES), &block).ok();
        prop_assert_eq!(ours, loona_hpack::Decoder::new().decode(&block).ok());
    }

    #[test]
    fn arbitrary_blocks_never_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..5)) {
        let (mut ours, mut theirs) = (Decoder::new(DEFAULT_TABLE_BYTES), loona_hpack::Decoder::new());
        theirs.set_max_allowed_table_size(DEFAULT_TABLE_BYTES);
        for block in blocks {
            let Ok(fields) = decode(&mut ours, &block) else { break };
            match theirs.decode(&block) {
                // A block with nothing but a change of the table's size, which the standard does not forbid.
                Err(loona_hpack::decoder::DecoderError::SizeUpdateAtEnd) => prop_assert!(fields.is_empty()),
                theirs => prop_assert_eq!(theirs.ok(), Some(fields)),
            }
        }
    }
}
