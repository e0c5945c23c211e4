//! Admission: what a client sent, checked against the model, becomes a request's tensors.
//!
//! Messages are Triton's, word for word, because clients match on them; so is the order of the checks
//! (count of inputs, batch size, then each input from the last one sent to the first).

use std::fmt;

use bytes::Bytes;
use quintet_proto::DataType;

use crate::{
    error::InferError,
    request::OutputSet,
    spec::{ModelSpec, TensorSpec},
    tensor::{Shape, Tensor, TensorError},
};

/// An input as a protocol delivers it: nothing of it is checked yet.
#[derive(Clone, Debug)]
pub struct SentInput<'a> {
    /// Name.
    pub name: &'a str,
    /// Element type; `None` if the name of the type is unknown.
    pub data_type: Option<DataType>,
    /// Dimensions as sent.
    pub shape: Vec<i64>,
    /// Elements in the wire's form.
    pub data: Bytes,
}

/// `[request id: 7] `, which Triton puts in front of messages about the request as a whole.
struct RequestId<'a>(&'a str);

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = if self.0.is_empty() { "<id_unknown>" } else { self.0 };
        write!(f, "[request id: {id}]")
    }
}

impl ModelSpec {
    /// Checks the inputs of the request called `id` and puts them in the model's order, `None` for those that
    /// it leaves out. Returns them with the number of rows: the batch size, or 1 for a model without a batch
    /// dimension.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`], naming the input.
    pub fn admit(&self, id: &str, sent: Vec<SentInput<'_>>) -> Result<(Vec<Option<Tensor>>, usize), InferError> {
        let id = RequestId(id);
        for (index, input) in sent.iter().enumerate() {
            if sent[..index].iter().any(|other| other.name == input.name) {
                return Err(InferError::invalid(format_args!("{id} input '{}' already exists in request", input.name)));
            }
        }
        self.check_count(&id, &sent)?;
        let rows = self.check_rows(&id, &sent)?;
        let mut slots: Vec<Option<Tensor>> = self.inputs().iter().map(|_| None).collect();
        for input in sent.into_iter().rev() {
            let Some(index) = self.inputs().iter().position(|spec| spec.name == input.name) else {
                return Err(InferError::invalid(format_args!(
                    "unexpected inference input '{}' for model '{}'",
                    input.name,
                    self.name()
                )));
            };
            slots[index] = Some(self.check_input(&id, &self.inputs()[index], input, rows)?);
        }
        // Distinct known names, and none is missing: a slot that is free is an optional input's.
        Ok((slots, rows.unwrap_or(1)))
    }

    /// The set of the outputs with these names; all outputs where no names are given.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a name that the model does not have.
    pub fn select_outputs<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<OutputSet, InferError> {
        let mut set = OutputSet::NONE;
        for name in names {
            match self.outputs().iter().position(|output| output.name == name) {
                Some(index) => set = set.with(index),
                None => {
                    return Err(InferError::invalid(format_args!(
                        "unexpected inference output '{name}' for model '{}'",
                        self.name()
                    )));
                }
            }
        }
        Ok(if set == OutputSet::NONE { OutputSet::all(self.outputs().len()) } else { set })
    }

    fn check_count(&self, id: &RequestId<'_>, sent: &[SentInput<'_>]) -> Result<(), InferError> {
        let required = self.inputs().iter().filter(|spec| !spec.optional);
        let (fewest, most) = (required.clone().count(), self.inputs().len());
        let quote = |names: Vec<&str>| names.into_iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",");
        let got: Vec<_> = sent.iter().rev().map(|input| input.name).collect();
        let mut missing: Vec<_> = required.map(|spec| spec.name.as_str()).filter(|name| !got.contains(name)).collect();
        missing.sort_unstable();
        let surplus: Vec<_> =
            got.iter().copied().filter(|name| self.inputs().iter().all(|spec| spec.name != *name)).collect();
        // Of the right number but with unknown names: the first of these is what is told.
        if (fewest..=most).contains(&sent.len()) && (missing.is_empty() || !surplus.is_empty()) {
            return Ok(());
        }
        let expected = match fewest == most {
            true => format!("{most} inputs"),
            false => format!("number of inputs between {fewest} and {most}"),
        };
        let verdict = if missing.is_empty() {
            format!("which holds unexpected input(s) [{}].", quote(surplus))
        } else {
            format!("but missing required input(s) [{}]. Please provide all required input(s).", quote(missing))
        };
        Err(InferError::invalid(format_args!(
            "{id} expected {expected} but got {} inputs for model '{}'. Got input(s) [{}], {verdict}",
            sent.len(),
            self.name(),
            quote(got),
        )))
    }

    /// The batch size that all inputs agree on; `None` for a model without a batch dimension.
    fn check_rows(&self, id: &RequestId<'_>, sent: &[SentInput<'_>]) -> Result<Option<usize>, InferError> {
        if !self.batches() {
            return Ok(None);
        }
        let model = self.name();
        if sent.is_empty() {
            return Err(InferError::invalid(format_args!(
                "{id} inference request batch-size must be >= 1 for '{model}': no input tells it; send one of them"
            )));
        }
        let mut rows = None;
        for input in sent.iter().rev() {
            let name = input.name;
            let Some(&first) = input.shape.first() else {
                return Err(InferError::invalid(format_args!(
                    "{id} input '{name}' has no shape but model requires batch dimension for '{model}'"
                )));
            };
            if first < 0 || rows.is_some_and(|rows| rows != first) {
                return Err(InferError::invalid(format_args!(
                    "{id} input '{name}' batch size does not match other inputs for '{model}'"
                )));
            }
            rows = Some(first);
        }
        let max = self.policy().max_batch_size;
        match rows.map(usize::try_from) {
            Some(Ok(rows)) if rows <= max => Ok(Some(rows)),
            _ => Err(InferError::invalid(format_args!(
                "{id} inference request batch-size must be <= {max} for '{model}'"
            ))),
        }
    }

    fn check_input(
        &self,
        id: &RequestId<'_>,
        spec: &TensorSpec,
        input: SentInput<'_>,
        rows: Option<usize>,
    ) -> Result<Tensor, InferError> {
        let (name, model) = (input.name, self.name());
        if input.data_type != Some(spec.data_type) {
            return Err(InferError::invalid(format_args!(
                "{id} inference input '{name}' data-type is '{}', but model '{model}' expects '{}'",
                input.data_type.map_or("<invalid>", DataType::name),
                spec.data_type
            )));
        }
        let wanted = spec.announced_shape(self.batches());
        let fits = wanted.len() == input.shape.len()
            && wanted.iter().zip(&input.shape).all(|(&want, &got)| got >= 0 && (want == -1 || want == got));
        if !fits {
            return Err(InferError::invalid(format_args!(
                "{id} unexpected shape for input '{name}' for model '{model}'. Expected {}, got {}.{}",
                print_dims(&wanted),
                print_dims(&input.shape),
                if self.batches() { BATCH_DIMENSION_NOTE } else { "" }
            )));
        }
        // A batch of nothing: Triton's words for it are those of a batch of one without data.
        let empty_batch = rows == Some(0);
        let dims = input.shape.iter().map(|&dim| dim as usize).collect::<Vec<_>>();
        let shape = Shape::new(dims);
        let shape = if empty_batch { shape.with_rows(1) } else { shape };
        Tensor::new(spec.data_type, shape, input.data).map_err(|error| {
            InferError::invalid(match error {
                TensorError::ByteSize { expected, got } => format!(
                    "{id} input byte size mismatch for input '{name}' for model '{model}'. Expected {expected}, got {got}"
                ),
                TensorError::ElementCount { expected, got } => format!(
                    "{id} expected {expected} string elements for inference input '{name}' for model '{model}', got {got}"
                ),
                TensorError::Element(error) => {
                    format!("incomplete string data for inference input '{name}', {error}")
                }
                TensorError::Overflow(shape) => {
                    format!("{id} input '{name}' for model '{model}' has shape {shape}, which is too large")
                }
            })
        }).and_then(|tensor| {
            if empty_batch {
                Err(InferError::invalid(format_args!(
                    "{id} inference request batch-size must be >= 1 for '{model}'"
                )))
            } else {
                Ok(tensor)
            }
        })
    }
}

const BATCH_DIMENSION_NOTE: &str = " NOTE: Setting a non-zero max_batch_size in the model config requires a batch \
     dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in \
     your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on \
     max_batch_size.";

fn print_dims(dims: &[i64]) -> String {
    let dims: Vec<_> = dims.iter().map(i64::to_string).collect();
    format!("[{}]", dims.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::BatchPolicy;

    fn simple() -> ModelSpec {
        let tensor = |name| TensorSpec::new(name, DataType::Int32, [Some(16)]);
        let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
        ModelSpec::new(
            "simple",
            1,
            vec![tensor("INPUT0"), tensor("INPUT1")],
            vec![tensor("OUTPUT0"), tensor("OUTPUT1")],
            policy,
            1,
            vec![],
        )
        .unwrap()
    }

    fn sent<'a>(name: &'a str, shape: &[i64]) -> SentInput<'a> {
        let elements = shape.iter().fold(1i64, |n, &dim| n.saturating_mul(dim)).clamp(0, 1 << 20);
        let data = Bytes::from(vec![0; elements as usize * 4]);
        SentInput { name, data_type: Some(DataType::Int32), shape: shape.to_vec(), data }
    }

    fn refusal(inputs: Vec<SentInput<'_>>) -> String {
        simple().admit("", inputs).unwrap_err().message().to_owned()
    }

    #[test]
    fn inputs_come_out_in_the_models_order() {
        let (tensors, rows) = simple().admit("", vec![sent("INPUT1", &[2, 16]), sent("INPUT0", &[2, 16])]).unwrap();
        assert_eq!((tensors.iter().flatten().count(), rows), (2, 2));
    }

    #[test]
    fn optional_inputs_may_be_left_out_and_others_are_missed_in_tritons_words() {
        let model = |required: &[&str], optional: &[&str]| {
            let tensor =
                |name: &str, optional| TensorSpec { optional, ..TensorSpec::new(name, DataType::Int32, [Some(16)]) };
            let required = required.iter().map(|name| tensor(name, false));
            let inputs = required.chain(optional.iter().map(|name| tensor(name, true))).collect();
            let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
            ModelSpec::new("m", 1, inputs, vec![tensor("y", false)], policy, 1, vec![]).unwrap()
        };
        let admitted = |names: &[&'static str]| {
            let inputs = names.iter().map(|name| sent(name, &[2, 16])).collect();
            let admitted = model(&["a", "b"], &["c", "d"]).admit("", inputs);
            admitted.map(|(tensors, rows)| (tensors.iter().map(Option::is_some).collect::<Vec<_>>(), rows))
        };
        assert_eq!(admitted(&["b", "a"]).unwrap(), (vec![true, true, false, false], 2));
        assert_eq!(admitted(&["d", "b", "a"]).unwrap(), (vec![true, true, false, true], 2));
        let refused = |names: &[&'static str]| admitted(names).unwrap_err().message().to_owned();
        let told = |got: &str, verdict: &str| {
            format!("[request id: <id_unknown>] expected number of inputs between 2 and 4 but got {got}, {verdict}")
        };
        let missing = "but missing required input(s) ['b']. Please provide all required input(s).";
        assert_eq!(refused(&["a"]), told("1 inputs for model 'm'. Got input(s) ['a']", missing));
        assert_eq!(refused(&["d", "a", "c"]), told("3 inputs for model 'm'. Got input(s) ['c','a','d']", missing));
        assert_eq!(
            refused(&["a", "b", "c", "d", "e"]),
            told(
                "5 inputs for model 'm'. Got input(s) ['e','d','c','b','a']",
                "which holds unexpected input(s) ['e']."
            )
        );
        assert_eq!(refused(&["a", "e", "f"]), "unexpected inference input 'f' for model 'm'");
        let error = model(&[], &["c"]).admit("", vec![]).unwrap_err();
        assert_eq!(
            error.message(),
            "[request id: <id_unknown>] inference request batch-size must be >= 1 for 'm': no input tells it; send one of them"
        );
    }

    #[test]
    fn refusals_use_tritons_words() {
        let both = |shape: &[i64]| vec![sent("INPUT0", shape), sent("INPUT1", shape)];
        assert_eq!(
            refusal(both(&[9, 16])),
            "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'simple'"
        );
        assert_eq!(
            refusal(vec![sent("INPUT0", &[1, 16])]),
            "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], \
             but missing required input(s) ['INPUT1']. Please provide all required input(s)."
        );
        assert_eq!(
            refusal(vec![sent("INPUT0", &[1 << 62, 16]), sent("INPUT1", &[1, 16])]),
            "[request id: <id_unknown>] input 'INPUT0' batch size does not match other inputs for 'simple'"
        );
        assert_eq!(
            refusal(both(&[0, 16])),
            "[request id: <id_unknown>] input byte size mismatch for input 'INPUT1' for model 'simple'. Expected 64, got 0"
        );
        assert_eq!(
            refusal(vec![sent("INPUT0", &[1, 16]), sent("INPUT0", &[1, 16])]),
            "[request id: <id_unknown>] input 'INPUT0' already exists in request"
        );
        let mut wrong_type = both(&[1, 16]);
        wrong_type[0].data_type = Some(DataType::Fp32);
        assert_eq!(
            refusal(wrong_type),
            "[request id: <id_unknown>] inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'"
        );
        assert!(refusal(both(&[1, 17])).starts_with(
            "[request id: <id_unknown>] unexpected shape for input 'INPUT1' for model 'simple'. Expected [-1,16], got [1,17]."
        ));
        assert!(
            refusal(vec![sent("INPUT0", &[1, 16]), sent("NOPE", &[1, 16])])
                .starts_with("unexpected inference input 'NOPE' for model 'simple'")
        );
    }

    #[test]
    fn the_requests_id_is_named() {
        let error = simple().admit("7", vec![]).unwrap_err();
        assert!(error.message().starts_with("[request id: 7] expected 2 inputs but got 0 inputs"));
    }

    #[test]
    fn outputs_are_selected_by_name() {
        let spec = simple();
        assert_eq!(spec.select_outputs(["OUTPUT1", "OUTPUT1"]).unwrap(), OutputSet::NONE.with(1));
        assert_eq!(spec.select_outputs([]).unwrap(), OutputSet::all(2));
        assert_eq!(
            spec.select_outputs(["NOPE"]).unwrap_err().message(),
            "unexpected inference output 'NOPE' for model 'simple'"
        );
    }
}
