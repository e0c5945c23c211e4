//! Which of a model's outputs is the embedding of an image, and which has its classes.

use std::collections::HashMap;

use quintet_engine::{DataType, ErrorKind, InferError, ModelSpec, TensorSpec};
use quintet_proto::inference::ModelParameter;

/// What an output is to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOutput {
    /// Its embedding: what `/embed` answers with.
    Embedding,
    /// A number for each class: what `/classify` ranks.
    Logits,
}

/// The parameters in `config.pbtxt` that name the outputs.
pub const PARAMETERS: [&str; 2] = [ImageOutput::Embedding.parameter(), ImageOutput::Logits.parameter()];

/// A parameter that names no output of the model that it could be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("field 'parameters[\"{parameter}\"]' names no FP32 output: they are {outputs}")]
pub struct WrongOutput {
    parameter: &'static str,
    outputs: String,
}

impl ImageOutput {
    const ALL: [Self; 2] = [Self::Embedding, Self::Logits];

    /// The parameter that names it.
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Embedding => "embedding_output",
            Self::Logits => "logits_output",
        }
    }

    /// Its name in the models of `quintet-models`.
    const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Logits => "logits",
        }
    }

    /// The output of a model with these parameters, with its index: the one that the parameter names; the one called
    /// `embedding` or `logits`; the only one; of several the only one with labels, for the classes; and else the only one
    /// with a row of numbers for each image. It is FP32.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model without such an output; the message names its outputs.
    pub fn of<'a>(
        self,
        spec: &'a ModelSpec,
        parameters: &HashMap<String, ModelParameter>,
    ) -> Result<(usize, &'a TensorSpec), InferError> {
        let outputs = || spec.outputs().iter().enumerate();
        let called = |name: &str| outputs().find(|(_, output)| output.name == name);
        let only = |wanted: &dyn Fn(&TensorSpec) -> bool| {
            let mut found = outputs().filter(|(_, output)| wanted(output));
            found.next().filter(|_| found.next().is_none())
        };
        let found = match parameters.get(self.parameter()) {
            Some(parameter) => called(&parameter.string_value),
            None => called(self.name())
                .or_else(|| only(&|_| true))
                .or_else(|| only(&|output| self == Self::Logits && output.labels.is_some()))
                .or_else(|| only(&|output| self.seems(output))),
        };
        found.filter(|(_, output)| output.data_type == DataType::Fp32).ok_or_else(|| {
            InferError::new(
                ErrorKind::Unsupported,
                format_args!(
                    "model '{}' has no FP32 output '{}'; its outputs are {}: name one in parameters[\"{}\"] of its \
                     config.pbtxt, or ask for all at /infer",
                    spec.name(),
                    self.name(),
                    describe(spec),
                    self.parameter()
                ),
            )
        })
    }

    /// Whether an output has a row of numbers for each image, and is not called as another one.
    fn seems(self, output: &TensorSpec) -> bool {
        let other = Self::ALL.iter().any(|other| *other != self && other.name() == output.name);
        !other && output.data_type == DataType::Fp32 && !output.is_unranked && output.dims.len() == 1
    }
}

/// Checks that the parameters name outputs of the model.
///
/// # Errors
/// [`WrongOutput`].
pub fn check(spec: &ModelSpec, parameters: &HashMap<String, ModelParameter>) -> Result<(), WrongOutput> {
    let named = |output: &ImageOutput| parameters.contains_key(output.parameter());
    let wrong = ImageOutput::ALL.into_iter().filter(named).find(|output| output.of(spec, parameters).is_err());
    wrong.map_or(Ok(()), |output| Err(WrongOutput { parameter: output.parameter(), outputs: describe(spec) }))
}

/// `'logits' FP32 [-1, 1000], 'boxes' FP32 [-1, 84, 8400]`
fn describe(spec: &ModelSpec) -> String {
    let describe = |output: &TensorSpec| {
        format!("'{}' {} {:?}", output.name, output.data_type, output.announced_shape(spec.batches()))
    };
    spec.outputs().iter().map(describe).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quintet_engine::BatchPolicy;

    use super::*;

    fn output(name: &str, dims: &[usize]) -> TensorSpec {
        TensorSpec::new(name, DataType::Fp32, dims.iter().copied().map(Some).collect::<Vec<_>>())
    }

    fn spec(outputs: Vec<TensorSpec>) -> ModelSpec {
        let policy = BatchPolicy { max_batch_size: 8, ..BatchPolicy::default() };
        ModelSpec::new("m", 1, vec![output("x", &[3, 224, 224])], outputs, policy).unwrap()
    }

    /// The names of the embedding and of the logits; `-` for none.
    fn found(outputs: Vec<TensorSpec>, parameters: &[(&str, &str)]) -> [String; 2] {
        let spec = spec(outputs);
        let parameter =
            |(name, value): &(&str, &str)| ((*name).to_owned(), ModelParameter { string_value: (*value).to_owned() });
        let parameters = parameters.iter().map(parameter).collect();
        ImageOutput::ALL.map(|output| {
            output.of(&spec, &parameters).map_or_else(|_| "-".to_owned(), |(_, output)| output.name.clone())
        })
    }

    #[test]
    fn outputs_are_found_by_parameter_name_number_labels_and_shape() {
        let rows = |name| output(name, &[10]);
        let labelled = |name| TensorSpec { labels: Some(Arc::new(["cat".to_owned()])), ..rows(name) };
        let hidden = || output("last_hidden_state", &[50, 768]);
        let integers = || TensorSpec::new("classes", DataType::Int64, [Some(1)]);
        assert_eq!(found(vec![rows("logits"), rows("embedding")], &[]), ["embedding", "logits"]);
        assert_eq!(found(vec![output("output", &[1, 10])], &[]), ["output", "output"], "the only one");
        assert_eq!(found(vec![hidden(), rows("image_embeds")], &[]), ["image_embeds", "image_embeds"], "by its shape");
        assert_eq!(found(vec![rows("a"), labelled("b")], &[]), ["-", "b"], "by its labels");
        assert_eq!(found(vec![rows("logits"), hidden()], &[]), ["-", "logits"], "logits are no embedding");
        assert_eq!(found(vec![integers()], &[]), ["-", "-"]);
        let named = [("embedding_output", "a"), ("logits_output", "b")];
        assert_eq!(found(vec![rows("a"), rows("b"), rows("embedding")], &named), ["a", "b"]);
    }

    #[test]
    fn a_parameter_that_names_no_output_is_an_error() {
        let parameter = ModelParameter { string_value: "none".to_owned() };
        let parameters = HashMap::from([("logits_output".to_owned(), parameter)]);
        let error = check(&spec(vec![output("y", &[10])]), &parameters).unwrap_err();
        insta::assert_snapshot!(
            error,
            @r#"field 'parameters["logits_output"]' names no FP32 output: they are 'y' FP32 [-1, 10]"#
        );
    }
}
