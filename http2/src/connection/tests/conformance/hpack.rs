//! RFC 7541: field blocks that cannot be decoded.

use super::*;

fn undecodable(id: &str, rest: &[u8]) {
    check(id, &[headers(END, 1, &[REQUEST, rest].concat())], GoAway(ErrorCode::Compression));
}

#[test]
fn section_2_3_3_index_address_space() {
    undecodable("hpack/2.3.3/1", b"\xc6");
    undecodable("hpack/2.3.3/2", b"\x7f\x07\x01x");
}

#[test]
fn section_4_2_table_size() {
    undecodable("hpack/4.2/1", b"\x21");
}

#[test]
fn section_5_2_strings() {
    // "test" with a whole byte of padding, with zeros as padding, and with EOS.
    undecodable("hpack/5.2/1", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff");
    undecodable("hpack/5.2/2", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90");
    undecodable("hpack/5.2/3", b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f");
}

#[test]
fn section_6_1_indexed_field() {
    undecodable("hpack/6.1/1", b"\x80");
}

#[test]
fn section_6_3_table_size_update() {
    // 4,097 bytes, at the beginning of the block.
    let block = [&b"\x3f\xe2\x1f"[..], REQUEST].concat();
    check("hpack/6.3/1", &[headers(END, 1, &block)], GoAway(ErrorCode::Compression));
}
