//! The code that strings may be written in (RFC 7541, section 5.2 and appendix B). It is canonical: the lengths of the
//! codes make the codes.

/// Longest code in bits; 30 ones are the end of a string, which no string contains.
const MAX_BITS: usize = 30;
/// The end of a string.
const END: usize = 256;

/// Bits of each byte's code, and of the end's.
#[rustfmt::skip]
const BITS: [u8; END + 1] = [
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

/// The codes of one length: the first, how many there are, and where their symbols begin.
#[derive(Clone, Copy)]
struct Codes {
    first: u32,
    count: u32,
    from: usize,
}

struct Code {
    of_bits: [Codes; MAX_BITS + 1],
    /// By their codes.
    symbols: [u16; END + 1],
}

const CODE: Code = {
    let mut code = Code { of_bits: [Codes { first: 0, count: 0, from: 0 }; MAX_BITS + 1], symbols: [0; END + 1] };
    let (mut next, mut at, mut bits) = (0, 0, 1);
    while bits <= MAX_BITS {
        next <<= 1;
        let (first, from) = (next, at);
        let mut symbol = 0;
        while symbol <= END {
            if BITS[symbol] as usize == bits {
                code.symbols[at] = symbol as u16;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.of_bits[bits] = Codes { first, count: next - first, from };
        bits += 1;
    }
    code
};

static TABLE: Code = CODE;

/// The string that was written in this code; `None` if it was not.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(coded.len() * 8 / 5);
    // The bits that are not decoded yet, from the top.
    let (mut window, mut held) = (0_u64, 0);
    let mut rest = coded.iter();
    loop {
        while held <= 56 {
            let Some(&byte) = rest.next() else { break };
            window |= u64::from(byte) << (56 - held);
            held += 8;
        }
        let Some((symbol, bits)) = first(window).filter(|&(_, bits)| bits <= held) else {
            // What fills the last byte: less than a byte of ones, as the end begins (section 5.2).
            let is_padding = held < 8 && window.leading_ones() as usize >= held;
            return is_padding.then_some(decoded);
        };
        decoded.push(u8::try_from(symbol).ok()?);
        window <<= bits;
        held -= bits;
    }
}

/// The symbol at the top of the window, and the bits of its code.
fn first(window: u64) -> Option<(u16, usize)> {
    TABLE.of_bits.iter().enumerate().skip(1).find_map(|(bits, codes)| {
        let nth = ((window >> (64 - bits)) as u32).wrapping_sub(codes.first);
        (nth < codes.count).then(|| (TABLE.symbols[codes.from + nth as usize], bits))
    })
}
