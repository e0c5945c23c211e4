//! The inputs and outputs of a model, as its server's metadata describes them.

use std::{collections::BTreeMap, fmt};

use quintet_preprocess::{
    Preparation,
    parameters::{INPUT, Stated},
};

use crate::model::encoding::{Encoding, Form};

/// Name of the input of an image model whose server describes none.
const IMAGE: &str = "image";
/// The output that the jpeg lane returns, if the server says nothing else; of an image model that has it, only this output
/// is requested.
pub const EMBEDDING: &str = "embedding";

/// A tensor of a model: `image FP32 [-1,3,224,224]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// KServe's name of its data type.
    pub datatype: String,
    /// Its dimensions, -1 where any length fits; the batch is first if the model takes batches.
    pub shape: Vec<i64>,
    /// Whether a request may leave it out.
    pub optional: bool,
}

/// The inputs and outputs of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Inputs, in the model's order.
    pub inputs: Vec<TensorInfo>,
    /// Outputs, in the model's order.
    pub outputs: Vec<TensorInfo>,
    /// Largest batch of the configuration, 0 if the model takes no batches; `None` if the server does not give it.
    pub max_batch: Option<usize>,
    /// The parameters of the configuration, which say how images are prepared.
    pub parameters: BTreeMap<String, String>,
    /// The output that the jpeg lane returns as the embedding; `None` if it has none, and returns tensors.
    pub embedding: Option<String>,
}

/// What is assumed of a server that describes no tensors.
impl Default for Signature {
    fn default() -> Self {
        let tensor = |name: &str, shape: Vec<i64>| TensorInfo {
            name: name.into(),
            datatype: "FP32".into(),
            shape,
            optional: false,
        };
        Self {
            inputs: vec![tensor(IMAGE, vec![-1, 3, 224, 224])],
            outputs: vec![tensor(EMBEDDING, vec![-1, -1])],
            max_batch: None,
            parameters: BTreeMap::new(),
            embedding: Some(EMBEDDING.into()),
        }
    }
}

impl Signature {
    /// Whether the first dimension of its tensors is the batch. Without a configuration: if that of every input is dynamic.
    pub fn batches(&self) -> bool {
        let dynamic = |input: &TensorInfo| input.shape.first() == Some(&-1);
        self.max_batch.map_or_else(|| self.inputs.iter().all(dynamic), |most| most > 0)
    }

    /// The largest batch that it takes, where known.
    pub fn largest_batch(&self) -> Option<usize> {
        if self.batches() { self.max_batch } else { Some(1) }
    }

    /// The input for images in the form of an encoding, if the model needs no other input and this one takes them.
    pub fn image_input(&self, encoding: Encoding) -> Option<&TensorInfo> {
        self.images(encoding).map(|(input, _)| input)
    }

    /// That input, and how images become it: as the parameters say, or as torchvision does.
    pub fn images(&self, encoding: Encoding) -> Option<(&TensorInfo, Preparation)> {
        let parameter = |name: &str| self.parameters.get(name).map(String::as_str);
        let mut needed = self.inputs.iter().filter(|input| !input.optional);
        let (input, None) = (needed.next()?, needed.next()) else { return None };
        if parameter(INPUT).is_some_and(|name| name != input.name) {
            return None;
        }
        let in_levels = match (encoding.form(), input.datatype.as_str()) {
            (Form::Numbers | Form::File, "FP32") | (Form::Halves, "FP16") => false,
            (Form::Levels | Form::File, "UINT8") => true,
            _ => return None,
        };
        let dims: Vec<_> = input.shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let &[.., a, b, c] = &dims[..] else { return None };
        if dims.len() > 4 {
            return None;
        }
        let preparation = match Stated::read(parameter).ok()? {
            Some(stated) => Preparation::stated(&stated, [a, b, c], in_levels, &input.name).ok()?,
            None => Preparation::torchvision([a, b, c], in_levels)?,
        };
        Some((input, preparation))
    }

    /// Names of the outputs to request: only the embedding if there is one, because the jpeg lane returns no other.
    pub fn requested(&self) -> Vec<String> {
        let embedding = self.embedding.as_deref();
        let only = self.outputs.iter().any(|output| Some(output.name.as_str()) == embedding);
        let wanted = |output: &&TensorInfo| !only || Some(output.name.as_str()) == embedding;
        self.outputs.iter().filter(wanted).map(|output| output.name.clone()).collect()
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape: Vec<_> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{} {} [{}]", self.name, self.datatype, shape.join(","))?;
        if self.optional { f.write_str(" optional") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(datatype: &str, shape: &[i64], optional: bool) -> TensorInfo {
        TensorInfo { name: "x".into(), datatype: datatype.into(), shape: shape.into(), optional }
    }

    fn model(inputs: Vec<TensorInfo>, max_batch: Option<usize>) -> Signature {
        Signature { inputs, max_batch, ..Signature::default() }
    }

    #[test]
    fn image_models_are_recognised_by_type_and_shape() {
        let takes = |inputs, encoding| model(inputs, None).image_input(encoding).is_some();
        let image = || tensor("FP32", &[-1, 3, 224, 224], false);
        assert!(
            takes(vec![image()], Encoding::Fp32) && takes(vec![image(), tensor("INT32", &[1], true)], Encoding::Fp32)
        );
        assert!(takes(vec![tensor("FP32", &[1, 3, -1, -1], false)], Encoding::Json));
        assert!(takes(vec![tensor("UINT8", &[-1, 224, 224, 3], false)], Encoding::U8));
        assert!(!takes(vec![image()], Encoding::Fp16) && !takes(vec![image(), image()], Encoding::Fp32));
        assert!(!takes(vec![tensor("FP32", &[-1, 77], false)], Encoding::Fp32) && !takes(vec![], Encoding::Fp32));
        assert!(Signature::default().image_input(Encoding::Fp32).is_some());
    }

    #[test]
    fn parameters_say_how_images_are_prepared() {
        let parameters = |all: &[(&str, &str)]| {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let of = |shape: &[i64], all: &[(&str, &str)]| {
            let signature =
                Signature { parameters: parameters(all), ..model(vec![tensor("FP32", shape, false)], None) };
            signature.images(Encoding::Fp32).map(|(_, preparation)| (preparation.dims(), preparation.description()))
        };
        assert_eq!(of(&[-1, 3, 640, 640], &[]), None, "nothing says how");
        let letterbox = of(&[-1, 3, 640, 480], &[("image_preprocess", "letterbox")]).unwrap();
        assert_eq!(letterbox.0, [3, 640, 480]);
        assert!(letterbox.1.contains("grey around the image"), "{}", letterbox.1);
        let other = [("image_preprocess", "crop"), ("image_input", "y")];
        assert_eq!(of(&[3, 224, 224], &other), None, "another input takes the images");
        assert!(of(&[3, 224, 224], &[]).is_some(), "without a batch");
    }

    #[test]
    fn a_model_takes_batches_by_its_configuration_or_else_by_its_shapes() {
        let dynamic = || vec![tensor("INT64", &[-1, 8], false)];
        let fixed = || vec![tensor("INT64", &[1, 8], false)];
        let largest = |inputs, max| model(inputs, max).largest_batch();
        assert_eq!(
            [largest(dynamic(), Some(4)), largest(dynamic(), Some(0)), largest(dynamic(), None)],
            [Some(4), Some(1), None]
        );
        assert_eq!(largest(fixed(), None), Some(1));
    }

    #[test]
    fn of_an_image_model_only_the_embedding_is_requested() {
        let named = |name: &str| TensorInfo { name: name.into(), ..tensor("FP32", &[-1, 2], false) };
        let mut signature = Signature { outputs: vec![named("logits"), named(EMBEDDING)], ..Signature::default() };
        assert_eq!(signature.requested(), [EMBEDDING]);
        signature.outputs.truncate(1);
        assert_eq!(signature.requested(), ["logits"]);
    }
}
