//! KServe's inference in JSON, with binary tensors after it: requests to calls, answers to responses, and the elements of
//! tensors in JSON.

mod carried;
mod non_finite;
mod parse;
mod print;
mod request;
mod response;

pub(super) use self::{
    non_finite::quoted,
    request::{OutputForm, json_call, json_length, raw_call, sent_inputs, split},
    response::answer,
};

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use quintet_engine::{DataType, Shape, Tensor};

    use super::{parse::parse, print::print};

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
