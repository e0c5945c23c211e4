//! Converts the elements of a tensor from JSON and to JSON.

mod carried;
mod non_finite;
mod parse;
mod print;

pub(super) use self::{non_finite::quoted, parse::parse, print::print};

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use quintet_engine::{DataType, Shape, Tensor};

    use super::*;

    proptest! {
        #[test]
        fn printed_floats_are_parsed_to_the_same_floats(values in prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..20)) {
            let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let tensor = Tensor::new(DataType::Fp32, Shape::new([values.len()]), Bytes::from(data.clone())).unwrap();
            let text = print(&tensor).unwrap();
            prop_assert_eq!(parse("x", DataType::Fp32, &text, Some(values.len())).unwrap(), data);
        }
    }
}
