//! Decodes Huffman-coded strings (RFC 7541 §5.2 and appendix B). The code is canonical: the lengths of the codes
//! determine the codes.

/// Longest code in bits: that of EOS, 30 ones.
const MAX_BITS: usize = 30;
/// The EOS symbol, which follows the 256 bytes.
const EOS: usize = 256;

/// Length in bits of the code of each byte, and of EOS.
#[rustfmt::skip]
const BITS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The codes of one length: the first one, their number, and the index of the first one's symbol.
#[derive(Clone, Copy)]
struct Codes {
    first: u32,
    count: u32,
    from: usize,
}

struct Code {
    by_length: [Codes; MAX_BITS + 1],
    /// In the order of their codes.
    symbols: [u16; EOS + 1],
}

const CODE: Code = {
    let mut code = Code { by_length: [Codes { first: 0, count: 0, from: 0 }; MAX_BITS + 1], symbols: [0; EOS + 1] };
    let (mut next, mut at, mut bits) = (0, 0, 1);
    while bits <= MAX_BITS {
        next <<= 1;
        let (first, from) = (next, at);
        let mut symbol = 0;
        while symbol <= EOS {
            if BITS[symbol] as usize == bits {
                code.symbols[at] = symbol as u16;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.by_length[bits] = Codes { first, count: next - first, from };
        bits += 1;
    }
    code
};

static TABLE: Code = CODE;

/// Decodes a string; `None` if it is not valid.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(coded.len() * 8 / 5);
    // The next bits to decode, from the most significant one on.
    let (mut window, mut held) = (0_u64, 0);
    let mut rest = coded.iter();
    loop {
        while held <= 56 {
            let Some(&byte) = rest.next() else { break };
            window |= u64::from(byte) << (56 - held);
            held += 8;
        }
        let Some((symbol, bits)) = first(window).filter(|&(_, bits)| bits <= held) else {
            // RFC 7541 §5.2: padding of more than 7 bits, and padding other than the first bits of EOS, which are
            // ones, MUST be treated as a decoding error.
            let is_padding = held < 8 && window.leading_ones() as usize >= held;
            return is_padding.then_some(decoded);
        };
        // RFC 7541 §5.2: EOS within a string MUST be treated as a decoding error.
        decoded.push(u8::try_from(symbol).ok()?);
        window <<= bits;
        held -= bits;
    }
}

/// The symbol whose code the window begins with, and the length of the code in bits.
fn first(window: u64) -> Option<(u16, usize)> {
    TABLE.by_length.iter().enumerate().skip(1).find_map(|(bits, codes)| {
        let nth = ((window >> (64 - bits)) as u32).wrapping_sub(codes.first);
        (nth < codes.count).then(|| (TABLE.symbols[codes.from + nth as usize], bits))
    })
}
