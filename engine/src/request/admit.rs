//! Admission: checks what a client sent against the model, and makes a request's tensors of it.
//!
//! The order of the checks is a part of what clients see, because the first error is the one that is returned: names,
//! the number of inputs, the batch size, then each input from the last one sent to the first.

use std::collections::HashSet;

use bytes::Bytes;
use quintet_proto::DataType;

use crate::{
    error::{AdmissionError, Mismatch},
    spec::{ModelSpec, OutputSet, TensorSpec},
    tensor::{Shape, Tensor},
};

/// The most names of inputs that an error lists: a client may send any number of them.
const MAX_LISTED: usize = 32;

/// An input as a protocol delivers it, not checked yet.
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

impl ModelSpec {
    /// Checks inputs and puts them in the model's order, `None` for optional ones that were not sent. Returns them with
    /// the number of rows: the batch size, or 1 for a model without a batch dimension. `id` names the request in
    /// errors.
    ///
    /// # Errors
    /// The first mismatch.
    pub fn admit(
        &self,
        id: &str,
        sent: Vec<SentInput<'_>>,
    ) -> Result<(Vec<Option<Tensor>>, usize), Box<AdmissionError>> {
        self.check(sent).map_err(|mismatch| self.refusal(id, mismatch))
    }

    /// The set of the outputs with these names; all outputs where no names are given. `id` names the request in errors.
    ///
    /// # Errors
    /// [`Mismatch::UnexpectedOutput`] for a name that the model does not have.
    pub fn select_outputs<'a>(
        &self,
        id: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<OutputSet, Box<AdmissionError>> {
        let mut set = OutputSet::NONE;
        for name in names {
            match self.outputs().iter().position(|output| output.name == name) {
                Some(index) => set = set.with(index),
                None => return Err(self.refusal(id, Mismatch::UnexpectedOutput { output: name.to_owned() })),
            }
        }
        Ok(if set == OutputSet::NONE { OutputSet::all(self.outputs().len()) } else { set })
    }

    fn refusal(&self, id: &str, mismatch: Mismatch) -> Box<AdmissionError> {
        Box::new(AdmissionError { request: id.to_owned(), model: self.name().to_owned(), mismatch })
    }

    fn check(&self, sent: Vec<SentInput<'_>>) -> Result<(Vec<Option<Tensor>>, usize), Mismatch> {
        // One more than the model has: the number of inputs is checked next, so the cost does not grow with it.
        let compared = &sent[..sent.len().min(self.inputs().len() + 1)];
        for (index, input) in compared.iter().enumerate() {
            if compared[..index].iter().any(|other| other.name == input.name) {
                return Err(Mismatch::DuplicateInput { input: input.name.to_owned() });
            }
        }
        self.check_count(&sent)?;
        let rows = self.check_rows(&sent)?;
        let mut slots: Vec<Option<Tensor>> = self.inputs().iter().map(|_| None).collect();
        for input in sent.into_iter().rev() {
            let Some(index) = self.inputs().iter().position(|spec| spec.name == input.name) else {
                return Err(Mismatch::UnexpectedInput { input: input.name.to_owned() });
            };
            slots[index] = Some(self.check_input(&self.inputs()[index], input, rows)?);
        }
        // Names are known and distinct and none is missing, so an empty slot is an optional input's.
        Ok((slots, rows.unwrap_or(1)))
    }

    fn check_count(&self, sent: &[SentInput<'_>]) -> Result<(), Mismatch> {
        let required = self.inputs().iter().filter(|spec| !spec.optional);
        let (fewest, most) = (required.clone().count(), self.inputs().len());
        let is_unknown = |input: &&SentInput<'_>| self.inputs().iter().all(|spec| spec.name != input.name);
        let is_complete = || required.clone().all(|spec| sent.iter().any(|input| input.name == spec.name));
        // With the right number of inputs, an unknown name is reported as such, and not what is missing for it.
        if (fewest..=most).contains(&sent.len()) && (is_complete() || sent.iter().any(|input| is_unknown(&input))) {
            return Ok(());
        }
        let mut missing: HashSet<&str> = required.clone().map(|spec| spec.name.as_str()).collect();
        for input in sent {
            missing.remove(input.name);
        }
        Err(Mismatch::InputCount {
            expected: fewest..=most,
            sent: sent.len(),
            got: last_names(sent.iter()),
            missing: required.filter(|spec| missing.contains(spec.name.as_str())).map(|s| s.name.clone()).collect(),
            unexpected: last_names(sent.iter().filter(is_unknown)),
        })
    }

    /// The batch size that all inputs agree on; `None` for a model without a batch dimension.
    fn check_rows(&self, sent: &[SentInput<'_>]) -> Result<Option<usize>, Mismatch> {
        if !self.batches() {
            return Ok(None);
        }
        let mut rows = None;
        for input in sent.iter().rev() {
            let name = || input.name.to_owned();
            let first = *input.shape.first().ok_or_else(|| Mismatch::NoBatchDimension { input: name() })?;
            if first < 0 || rows.is_some_and(|rows| rows != first) {
                return Err(Mismatch::BatchSizesDiffer { input: name() });
            }
            rows = Some(first);
        }
        let max = self.policy().max_batch_size;
        let rows = usize::try_from(rows.ok_or(Mismatch::UnknownBatchSize)?);
        match rows {
            Ok(rows) if rows <= max => Ok(Some(rows)),
            _ => Err(Mismatch::BatchTooLarge { max }),
        }
    }

    fn check_input(&self, spec: &TensorSpec, input: SentInput<'_>, rows: Option<usize>) -> Result<Tensor, Mismatch> {
        let name = || input.name.to_owned();
        if input.data_type != Some(spec.data_type) {
            return Err(Mismatch::DataType { input: name(), got: input.data_type, expected: spec.data_type });
        }
        let expected = spec.announced_shape(self.batches());
        let mut input = input;
        if spec.scalar && input.shape.len() + 1 == expected.len() {
            input.shape.push(1);
        }
        let fits = expected.len() == input.shape.len()
            && expected.iter().zip(&input.shape).all(|(&want, &got)| got >= 0 && (want == -1 || want == got));
        if !fits {
            return Err(Mismatch::Shape { input: name(), got: input.shape, expected, batches: self.batches() });
        }
        let shape = Shape::new(input.shape.iter().map(|&dim| dim as usize).collect::<Vec<_>>());
        // A batch of no rows is checked as one row: the error then says what that row lacks.
        let is_empty = rows == Some(0);
        let shape = if is_empty { shape.with_rows(1) } else { shape };
        let tensor = Tensor::new(spec.data_type, shape, input.data)
            .map_err(|error| Mismatch::Data { input: input.name.to_owned(), error })?;
        if is_empty { Err(Mismatch::EmptyBatch) } else { Ok(tensor) }
    }
}

/// The names of the last [`MAX_LISTED`] inputs, in order.
fn last_names<'a>(inputs: impl DoubleEndedIterator<Item = &'a SentInput<'a>>) -> Vec<String> {
    let mut names: Vec<_> = inputs.rev().take(MAX_LISTED).map(|input| input.name.to_owned()).collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spec::BatchPolicy, tensor::TensorError};

    fn simple() -> ModelSpec {
        let tensor = |name| TensorSpec::new(name, DataType::Int32, [Some(16)]);
        let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
        ModelSpec::new(
            "simple",
            1,
            vec![tensor("INPUT0"), tensor("INPUT1")],
            vec![tensor("OUTPUT0"), tensor("OUTPUT1")],
            policy,
        )
        .unwrap()
    }

    fn sent<'a>(name: &'a str, shape: &[i64]) -> SentInput<'a> {
        let elements = shape.iter().fold(1i64, |n, &dim| n.saturating_mul(dim)).clamp(0, 1 << 20);
        let data = Bytes::from(vec![0; elements as usize * 4]);
        SentInput { name, data_type: Some(DataType::Int32), shape: shape.to_vec(), data }
    }

    fn mismatch(inputs: Vec<SentInput<'_>>) -> Mismatch {
        simple().admit("", inputs).unwrap_err().mismatch
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn inputs_are_put_in_the_order_of_the_model() {
        let (tensors, rows) = simple().admit("", vec![sent("INPUT1", &[2, 16]), sent("INPUT0", &[2, 16])]).unwrap();
        assert_eq!((tensors.iter().flatten().count(), rows), (2, 2));
    }

    #[test]
    fn optional_inputs_may_be_left_out_and_others_may_not() {
        let model = |required: &[&str], optional: &[&str]| {
            let tensor =
                |name: &str, optional| TensorSpec { optional, ..TensorSpec::new(name, DataType::Int32, [Some(16)]) };
            let required = required.iter().map(|name| tensor(name, false));
            let inputs = required.chain(optional.iter().map(|name| tensor(name, true))).collect();
            let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
            ModelSpec::new("m", 1, inputs, vec![tensor("y", false)], policy).unwrap()
        };
        let admitted = |names: &[&'static str]| {
            let inputs = names.iter().map(|name| sent(name, &[2, 16])).collect();
            let admitted = model(&["a", "b"], &["c", "d"]).admit("", inputs);
            admitted.map(|(tensors, rows)| (tensors.iter().map(Option::is_some).collect::<Vec<_>>(), rows))
        };
        assert_eq!(admitted(&["b", "a"]).unwrap(), (vec![true, true, false, false], 2));
        assert_eq!(admitted(&["d", "b", "a"]).unwrap(), (vec![true, true, false, true], 2));
        let refused = |names: &[&'static str]| admitted(names).unwrap_err().mismatch;
        let count = |got: &[&str], missing: &[&str], unexpected: &[&str]| Mismatch::InputCount {
            expected: 2..=4,
            sent: got.len(),
            got: names(got),
            missing: names(missing),
            unexpected: names(unexpected),
        };
        assert_eq!(refused(&["a"]), count(&["a"], &["b"], &[]));
        assert_eq!(refused(&["d", "a", "c"]), count(&["d", "a", "c"], &["b"], &[]));
        assert_eq!(refused(&["a", "b", "c", "d", "e"]), count(&["a", "b", "c", "d", "e"], &[], &["e"]));
        assert_eq!(refused(&["a", "e", "f"]), Mismatch::UnexpectedInput { input: "f".into() });
        let error = model(&[], &["c"]).admit("", vec![]).unwrap_err();
        assert_eq!(error.mismatch, Mismatch::UnknownBatchSize);
    }

    #[test]
    fn a_scalar_may_be_sent_as_the_model_has_it() {
        let admitted = |max_batch_size, scalar, shape: &[i64]| {
            let input = TensorSpec { scalar, ..TensorSpec::new("x", DataType::Int32, [Some(1)]) };
            let policy = BatchPolicy { max_batch_size, ..BatchPolicy::default() };
            let output = TensorSpec::new("y", DataType::Int32, [Some(1)]);
            let model = ModelSpec::new("m", 1, vec![input], vec![output], policy).unwrap();
            let admitted = model.admit("", vec![sent("x", shape)]);
            admitted.map(|(tensors, _)| tensors[0].as_ref().unwrap().shape().dims().to_vec()).map_err(|it| it.mismatch)
        };
        for shape in [&[2, 1][..], &[2]] {
            assert_eq!(admitted(8, true, shape), Ok(vec![2, 1]));
        }
        for shape in [&[1][..], &[]] {
            assert_eq!(admitted(0, true, shape), Ok(vec![1]));
        }
        for (max_batch_size, scalar, shape) in
            [(8, false, &[2][..]), (0, false, &[]), (8, true, &[2, 2]), (0, true, &[2])]
        {
            assert!(matches!(admitted(max_batch_size, scalar, shape), Err(Mismatch::Shape { .. })), "{shape:?}");
        }
    }

    #[test]
    fn mismatches_are_found() {
        let both = |shape: &[i64]| vec![sent("INPUT0", shape), sent("INPUT1", shape)];
        assert_eq!(mismatch(both(&[9, 16])), Mismatch::BatchTooLarge { max: 8 });
        assert_eq!(
            mismatch(vec![sent("INPUT0", &[1, 16])]),
            Mismatch::InputCount {
                expected: 2..=2,
                sent: 1,
                got: names(&["INPUT0"]),
                missing: names(&["INPUT1"]),
                unexpected: vec![]
            }
        );
        assert_eq!(
            mismatch(vec![sent("INPUT0", &[1 << 62, 16]), sent("INPUT1", &[1, 16])]),
            Mismatch::BatchSizesDiffer { input: "INPUT0".into() }
        );
        assert_eq!(
            mismatch(vec![sent("INPUT0", &[]), sent("INPUT1", &[1, 16])]),
            Mismatch::NoBatchDimension { input: "INPUT0".into() }
        );
        assert_eq!(
            mismatch(both(&[0, 16])),
            Mismatch::Data { input: "INPUT1".into(), error: TensorError::ByteSize { expected: 64, got: 0 } }
        );
        let mut one_row_of_data = both(&[0, 16]);
        one_row_of_data.iter_mut().for_each(|input| input.data = Bytes::from(vec![0; 64]));
        assert_eq!(mismatch(one_row_of_data), Mismatch::EmptyBatch);
        assert_eq!(
            mismatch(vec![sent("INPUT0", &[1, 16]), sent("INPUT0", &[1, 16])]),
            Mismatch::DuplicateInput { input: "INPUT0".into() }
        );
        let mut wrong_type = both(&[1, 16]);
        wrong_type[0].data_type = Some(DataType::Fp32);
        assert_eq!(
            mismatch(wrong_type),
            Mismatch::DataType { input: "INPUT0".into(), got: Some(DataType::Fp32), expected: DataType::Int32 }
        );
        assert_eq!(
            mismatch(both(&[1, 17])),
            Mismatch::Shape { input: "INPUT1".into(), got: vec![1, 17], expected: vec![-1, 16], batches: true }
        );
        assert_eq!(
            mismatch(vec![sent("INPUT0", &[1, 16]), sent("NOPE", &[1, 16])]),
            Mismatch::UnexpectedInput { input: "NOPE".into() }
        );
    }

    #[test]
    fn an_error_lists_few_of_many_inputs() {
        let all: Vec<_> = (0..1000).map(|index| format!("i{index}")).collect();
        let refused = mismatch(all.iter().map(|name| SentInput { name, ..sent("", &[1, 16]) }).collect());
        let Mismatch::InputCount { sent: count, got, unexpected, .. } = refused else { panic!("not the count") };
        let last = &all[1000 - MAX_LISTED..];
        assert_eq!((count, &got[..], &unexpected[..]), (1000, last, last));
        let same = mismatch(vec![sent("INPUT0", &[1, 16]); 1000]);
        assert_eq!(same, Mismatch::DuplicateInput { input: "INPUT0".into() });
    }

    #[test]
    fn an_error_has_the_ids_of_request_and_model() {
        let error = simple().admit("7", vec![]).unwrap_err();
        assert_eq!((error.request.as_str(), error.model.as_str()), ("7", "simple"));
        assert_eq!(error.to_string(), "request to model 'simple': 0 inputs were sent, expected 2 to 2");
    }

    #[test]
    fn outputs_are_selected_by_name() {
        let spec = simple();
        assert_eq!(spec.select_outputs("", ["OUTPUT1", "OUTPUT1"]).unwrap(), OutputSet::NONE.with(1));
        assert_eq!(spec.select_outputs("", []).unwrap(), OutputSet::all(2));
        assert_eq!(
            spec.select_outputs("", ["NOPE"]).unwrap_err().mismatch,
            Mismatch::UnexpectedOutput { output: "NOPE".into() }
        );
    }
}
