//! An inference to ask for: input tensors and the outputs to return, apart from the protocol.

use bytes::Bytes;
use quintet_preprocess::SIDE;

use crate::{
    client::placement::Placement,
    model::{
        encoding::{Encoding, Form},
        signature::Signature,
    },
};

/// An input tensor of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name in the model.
    pub name: String,
    /// KServe's name of its data type.
    pub datatype: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// Its elements.
    pub content: Content,
}

/// Where the elements of an input are.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// In the message, in binary.
    Binary(Bytes),
    /// In the message, as a JSON array.
    Json(String),
    /// In the region that the inference names.
    Shared(Placement),
}

/// An inference to ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    /// The input tensors.
    pub inputs: Vec<Input>,
    /// Names of the outputs to return, in JSON if an input is.
    pub outputs: Vec<String>,
    /// The region of shared memory and the placement of the first output in it, if tensors are not in messages.
    pub shared: Option<(String, Placement)>,
}

impl Inference {
    /// Images in the form of an encoding, for the model's image input.
    pub fn images(signature: &Signature, encoding: Encoding, batch: usize, content: Content) -> Self {
        let images = signature.images(encoding);
        let named = images.as_ref().map(|(input, _)| *input).or(signature.inputs.first());
        let dims = images.as_ref().map_or([3, SIDE, SIDE], |(_, preparation)| preparation.dims());
        let mut shape = encoding.shape(batch, &dims);
        if encoding.form() != Form::File && named.is_some_and(|input| input.shape.len() == dims.len()) {
            // The model takes one image, without a batch.
            shape.remove(0);
        }
        let input = Input {
            name: named.map_or_else(String::new, |input| input.name.clone()),
            datatype: encoding.datatype().into(),
            shape,
            content,
        };
        Self { inputs: vec![input], outputs: signature.requested(), shared: None }
    }

    /// FP32 images in binary, for a server that describes no tensors.
    pub fn plain(batch: usize, tensor: Bytes) -> Self {
        Self::images(&Signature::default(), Encoding::Fp32, batch, Content::Binary(tensor))
    }
}
