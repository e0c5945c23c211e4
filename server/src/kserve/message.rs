//! Error texts for clients, in Triton's wording, which clients match on. Both transports and traces use them.

use std::borrow::Cow;

use quintet_engine::{AdmissionError, DataType, InferError, LookupError, Mismatch, NotReady, TensorError};

/// The longest text of an error in bytes: errors quote requests, which may be large.
const MAX_BYTES: usize = 16 << 10;

/// The text that a client gets for a failed request.
pub fn for_client(error: &InferError) -> Cow<'_, str> {
    let mut text = text(error);
    if text.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text = format!("{}...", &text[..end]).into();
    }
    text
}

fn text(error: &InferError) -> Cow<'_, str> {
    match error {
        InferError::Admission(error) => admission(error).into(),
        InferError::Lookup(error) => lookup(error).into(),
        InferError::QueueFull => "Exceeds maximum queue size".into(),
        InferError::ShuttingDown => "Server exiting".into(),
        InferError::DeadlineExceeded => "Request timeout expired".into(),
        InferError::Other { message, .. } => (&**message).into(),
        // Triton has no fixed text for these.
        InferError::Overloaded
        | InferError::Cancelled
        | InferError::InstanceLost
        | InferError::BackendPanicked
        | InferError::Panicked
        | InferError::Rows(_)
        | InferError::Misconfigured(_)
        | InferError::Tensor(_) => error.to_string().into(),
    }
}

fn admission(error: &AdmissionError) -> String {
    let AdmissionError { request, model, mismatch } = error;
    let id = if request.is_empty() { "<id_unknown>" } else { request };
    let id = format!("[request id: {id}]");
    match mismatch {
        Mismatch::DuplicateInput { input } => format!("{id} input '{input}' already exists in request"),
        Mismatch::InputCount { .. } => format!("{id} {}", input_count(model, mismatch)),
        Mismatch::UnexpectedInput { input } => format!("unexpected inference input '{input}' for model '{model}'"),
        Mismatch::UnexpectedOutput { output } => format!("unexpected inference output '{output}' for model '{model}'"),
        // Triton's text for an empty batch, with the remedy.
        Mismatch::UnknownBatchSize => format!(
            "{id} inference request batch-size must be >= 1 for '{model}': send at least one input, which gives the \
             batch size"
        ),
        Mismatch::NoBatchDimension { input } => {
            format!("{id} input '{input}' has no shape but model requires batch dimension for '{model}'")
        }
        Mismatch::BatchSizesDiffer { input } => {
            format!("{id} input '{input}' batch size does not match other inputs for '{model}'")
        }
        Mismatch::BatchTooLarge { max } => format!("{id} inference request batch-size must be <= {max} for '{model}'"),
        Mismatch::EmptyBatch => format!("{id} inference request batch-size must be >= 1 for '{model}'"),
        Mismatch::DataType { input, got, expected } => format!(
            "{id} inference input '{input}' data-type is '{}', but model '{model}' expects '{expected}'",
            got.map_or("<invalid>", DataType::name),
        ),
        Mismatch::Shape { input, got, expected, batches } => format!(
            "{id} unexpected shape for input '{input}' for model '{model}'. Expected {}, got {}.{}",
            dims(expected),
            dims(got),
            if *batches { BATCH_DIMENSION_NOTE } else { "" }
        ),
        Mismatch::Data { input, error } => match error {
            TensorError::ByteSize { expected, got } => format!(
                "{id} input byte size mismatch for input '{input}' for model '{model}'. Expected {expected}, got {got}"
            ),
            TensorError::ElementCount { expected, got } => format!(
                "{id} expected {expected} string elements for inference input '{input}' for model '{model}', got {got}"
            ),
            TensorError::Element(error) => format!("incomplete string data for inference input '{input}', {error}"),
            TensorError::Overflow(shape) => {
                format!("{id} input '{input}' for model '{model}' has shape {shape}, which is too large")
            }
        },
    }
}

const BATCH_DIMENSION_NOTE: &str = " NOTE: Setting a non-zero max_batch_size in the model config requires a batch \
     dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in \
     your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on \
     max_batch_size.";

/// The text of [`Mismatch::InputCount`]. Triton lists the sent inputs from last to first, and the missing ones by name.
fn input_count(model: &str, mismatch: &Mismatch) -> String {
    fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
        names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",")
    }
    let Mismatch::InputCount { expected, sent, got, missing, unexpected } = mismatch else { return String::new() };
    let more = if got.len() < *sent { ",..." } else { "" };
    let expected = match (expected.start(), expected.end()) {
        (fewest, most) if fewest == most => format!("{most} inputs"),
        (fewest, most) => format!("number of inputs between {fewest} and {most}"),
    };
    let verdict = if missing.is_empty() {
        format!("which holds unexpected input(s) [{}{more}].", quoted(unexpected.iter().rev()))
    } else {
        let mut missing: Vec<_> = missing.iter().collect();
        missing.sort_unstable();
        let missing = quoted(missing.into_iter());
        format!("but missing required input(s) [{missing}]. Please provide all required input(s).")
    };
    let got = quoted(got.iter().rev());
    format!("expected {expected} but got {sent} inputs for model '{model}'. Got input(s) [{got}{more}], {verdict}")
}

fn dims(dims: &[i64]) -> String {
    let dims: Vec<_> = dims.iter().map(i64::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// Triton says "not at ready state" of a version that the request names, and "no available versions" otherwise.
fn lookup(error: &LookupError) -> String {
    let LookupError { model, version, reason } = error;
    let details = match reason {
        NotReady::Unknown => {
            let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
            return format!("Request for unknown model: '{model}'{version} is not found");
        }
        NotReady::Loading => ": it is loading",
        NotReady::ShuttingDown => ": it is shutting down",
        NotReady::Failed(reason) | NotReady::DeviceLost(reason) => &format!(": {reason}"),
        NotReady::Unloaded => "",
    };
    match version {
        Some(version) => {
            format!("Request for unknown model: '{model}' version {version} is not at ready state{details}")
        }
        None => format!("Request for unknown model: '{model}' has no available versions{details}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quintet_engine::{BatchPolicy, ErrorKind, ModelSpec, Registry, SentInput, TensorSpec, VersionState};

    use super::*;

    /// A model that takes `required` inputs and may take `optional` ones, all INT32 of shape `[-1,16]`.
    fn model(name: &str, required: &[&str], optional: &[&str]) -> ModelSpec {
        let tensor =
            |name: &str, optional| TensorSpec { optional, ..TensorSpec::new(name, DataType::Int32, [Some(16)]) };
        let required = required.iter().map(|name| tensor(name, false));
        let inputs = required.chain(optional.iter().map(|name| tensor(name, true))).collect();
        let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
        let outputs = vec![tensor("OUTPUT0", false), tensor("OUTPUT1", false)];
        ModelSpec::new(name, 1, inputs, outputs, policy).unwrap()
    }

    fn simple() -> ModelSpec {
        model("simple", &["INPUT0", "INPUT1"], &[])
    }

    fn sent<'a>(name: &'a str, shape: &[i64]) -> SentInput<'a> {
        let elements = shape.iter().fold(1i64, |n, &dim| n.saturating_mul(dim)).clamp(0, 1 << 20);
        let data = Bytes::from(vec![0; elements as usize * 4]);
        SentInput { name, data_type: Some(DataType::Int32), shape: shape.to_vec(), data }
    }

    fn refusal(model: &ModelSpec, id: &str, inputs: Vec<SentInput<'_>>) -> String {
        let error = InferError::from(model.admit(id, inputs).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        for_client(&error).into_owned()
    }

    #[test]
    fn mismatches_have_tritons_texts() {
        let both = |shape: &[i64]| vec![sent("INPUT0", shape), sent("INPUT1", shape)];
        let with = |mut inputs: Vec<SentInput<'static>>, data_type, data: &'static [u8]| {
            inputs[0].data_type = data_type;
            inputs[0].data = Bytes::from_static(data);
            inputs
        };
        let inputs = [
            both(&[9, 16]),
            vec![sent("INPUT0", &[1, 16])],
            vec![sent("INPUT0", &[1 << 62, 16]), sent("INPUT1", &[1, 16])],
            vec![sent("INPUT0", &[]), sent("INPUT1", &[1, 16])],
            both(&[0, 16]),
            vec![
                SentInput { data: Bytes::from(vec![0; 64]), ..sent("INPUT0", &[0, 16]) },
                SentInput { data: Bytes::from(vec![0; 64]), ..sent("INPUT1", &[0, 16]) },
            ],
            vec![sent("INPUT0", &[1, 16]), sent("INPUT0", &[1, 16])],
            with(both(&[1, 16]), Some(DataType::Fp32), &[]),
            with(both(&[1, 16]), None, &[]),
            both(&[1, 17]),
            vec![sent("INPUT0", &[1, 16]), sent("NOPE", &[1, 16])],
        ];
        let simple = simple();
        let mut refusals: Vec<_> = inputs.map(|inputs| refusal(&simple, "", inputs)).into();
        refusals.push(refusal(&simple, "7", vec![]));
        refusals.push(for_client(&simple.select_outputs("7", ["NOPE"]).unwrap_err().into()).into_owned());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        [request id: <id_unknown>] inference request batch-size must be <= 8 for 'simple'
        [request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], but missing required input(s) ['INPUT1']. Please provide all required input(s).
        [request id: <id_unknown>] input 'INPUT0' batch size does not match other inputs for 'simple'
        [request id: <id_unknown>] input 'INPUT0' has no shape but model requires batch dimension for 'simple'
        [request id: <id_unknown>] input byte size mismatch for input 'INPUT1' for model 'simple'. Expected 64, got 0
        [request id: <id_unknown>] inference request batch-size must be >= 1 for 'simple'
        [request id: <id_unknown>] input 'INPUT0' already exists in request
        [request id: <id_unknown>] inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'
        [request id: <id_unknown>] inference input 'INPUT0' data-type is '<invalid>', but model 'simple' expects 'INT32'
        [request id: <id_unknown>] unexpected shape for input 'INPUT1' for model 'simple'. Expected [-1,16], got [1,17]. NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size.
        unexpected inference input 'NOPE' for model 'simple'
        [request id: 7] expected 2 inputs but got 0 inputs for model 'simple'. Got input(s) [], but missing required input(s) ['INPUT0','INPUT1']. Please provide all required input(s).
        unexpected inference output 'NOPE' for model 'simple'
        ");
    }

    #[test]
    fn wrong_sets_of_optional_inputs_have_tritons_texts() {
        let some_optional = model("m", &["a", "b"], &["c", "d"]);
        let refused = |names: &[&'static str]| {
            refusal(&some_optional, "", names.iter().map(|name| sent(name, &[2, 16])).collect())
        };
        let mut refusals: Vec<_> =
            [&["a"][..], &["d", "a", "c"], &["a", "b", "c", "d", "e"], &["a", "e", "f"]].map(refused).into();
        refusals.push(refusal(&model("m", &[], &["c"]), "", vec![]));
        insta::assert_snapshot!(refusals.join("\n"), @r"
        [request id: <id_unknown>] expected number of inputs between 2 and 4 but got 1 inputs for model 'm'. Got input(s) ['a'], but missing required input(s) ['b']. Please provide all required input(s).
        [request id: <id_unknown>] expected number of inputs between 2 and 4 but got 3 inputs for model 'm'. Got input(s) ['c','a','d'], but missing required input(s) ['b']. Please provide all required input(s).
        [request id: <id_unknown>] expected number of inputs between 2 and 4 but got 5 inputs for model 'm'. Got input(s) ['e','d','c','b','a'], which holds unexpected input(s) ['e'].
        unexpected inference input 'f' for model 'm'
        [request id: <id_unknown>] inference request batch-size must be >= 1 for 'm': send at least one input, which gives the batch size
        ");
    }

    #[test]
    fn texts_do_not_grow_with_the_request() {
        let names: Vec<_> = (0..100_000).map(|index| format!("i{index}")).collect();
        let inputs = names.iter().map(|name| SentInput { name, ..sent("", &[1, 16]) }).collect();
        let text = refusal(&simple(), "", inputs);
        assert!(text.contains("expected 2 inputs but got 100000 inputs for model 'simple'. Got input(s) ['i99999',"));
        assert!(text.contains(",...], which") || text.contains(",...], but missing"), "{text}");
        assert!(text.len() < 2000, "{}", text.len());
        let long = "é".repeat(1 << 20);
        assert!(refusal(&simple(), "", vec![sent(&long, &[1, 16]); 2]).len() <= MAX_BYTES + 3);
    }

    #[test]
    fn data_of_a_wrong_size_has_tritons_texts() {
        let text = TensorSpec::new("x", DataType::Bytes, [Some(2)]);
        let spec = ModelSpec::new("text", 1, vec![text.clone()], vec![text], BatchPolicy::default()).unwrap();
        let wide = TensorSpec::new("x", DataType::Bytes, [None, None]);
        let wide = ModelSpec::new("wide", 1, vec![wide.clone()], vec![wide], BatchPolicy::default()).unwrap();
        let refused = |spec: &ModelSpec, shape: &[i64], data: &'static [u8]| {
            let (data_type, data) = (Some(DataType::Bytes), Bytes::from_static(data));
            refusal(spec, "", vec![SentInput { name: "x", data_type, shape: shape.to_vec(), data }])
        };
        let refusals = [
            refused(&spec, &[2], b"\x02\0\0\0hi"),
            refused(&spec, &[2], b"\xe7\x03\0\0hi"),
            refused(&spec, &[2], b"\x02\0"),
            refused(&wide, &[1 << 62, 4], b""),
        ];
        insta::assert_snapshot!(refusals.join("\n"), @r"
        [request id: <id_unknown>] expected 2 string elements for inference input 'x' for model 'text', got 1
        incomplete string data for inference input 'x', expecting string of length 999 but only 2 bytes available
        incomplete string data for inference input 'x', expecting a 4-byte length but only 2 bytes available
        [request id: <id_unknown>] input 'x' for model 'wide' has shape [4611686018427387904,4], which is too large
        ");
    }

    #[test]
    fn models_that_are_not_in_service_have_tritons_texts() {
        let registry = Registry::default();
        registry.set("m", 1, VersionState::Failed("no file".into()));
        registry.set("m", 2, VersionState::Loading);
        registry.set("m", 0, VersionState::Unloaded);
        registry.set("ended", 1, VersionState::Draining);
        let requested = [
            ("nosuch", None),
            ("m", None),
            ("m", Some(0)),
            ("m", Some(1)),
            ("m", Some(2)),
            ("m", Some(3)),
            ("ended", None),
            ("ended", Some(1)),
        ];
        let refusals = requested.map(|(model, version)| {
            let error = InferError::from(registry.resolve(model, version).err().unwrap());
            format!("{:?}: {}", error.kind(), for_client(&error))
        });
        insta::assert_snapshot!(refusals.join("\n"), @r"
        NotFound: Request for unknown model: 'nosuch' is not found
        NotFound: Request for unknown model: 'm' has no available versions: it is loading
        Unavailable: Request for unknown model: 'm' version 0 is not at ready state
        Unavailable: Request for unknown model: 'm' version 1 is not at ready state: no file
        Unavailable: Request for unknown model: 'm' version 2 is not at ready state: it is loading
        NotFound: Request for unknown model: 'm' version 3 is not found
        Unavailable: Request for unknown model: 'ended' has no available versions: it is shutting down
        Unavailable: Request for unknown model: 'ended' version 1 is not at ready state: it is shutting down
        ");
    }

    #[test]
    fn failed_requests_have_tritons_texts() {
        use InferError::{
            BackendPanicked, Cancelled, DeadlineExceeded, InstanceLost, Overloaded, Panicked, QueueFull, ShuttingDown,
            Tensor,
        };
        let tensor = Tensor(TensorError::ByteSize { expected: 2, got: 1 });
        let errors = [
            QueueFull,
            Overloaded,
            ShuttingDown,
            DeadlineExceeded,
            Cancelled,
            InstanceLost,
            BackendPanicked,
            Panicked,
            tensor,
            InferError::internal("poisoned row"),
        ];
        insta::assert_snapshot!(errors.map(|error| for_client(&error).into_owned()).join("\n"), @r"
        Exceeds maximum queue size
        the model is overloaded: requests wait longer than clients do; try again later
        Server exiting
        Request timeout expired
        the request was cancelled
        the model's instance ended without an answer
        the backend panicked; see the server's log
        the server panicked on the request; see its log
        expected 2 bytes, got 1
        poisoned row
        ");
    }
}
