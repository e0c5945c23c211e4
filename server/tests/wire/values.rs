//! Values on their way through both protocols and ONNX Runtime: the ends of every type, NUL in strings, NaN, tensors
//! without elements, scalars, tensors of an unknown rank.

use std::{fs, path::Path};

use bytes::Bytes;
use quintet_engine::DataType;
use quintet_models::passthrough::write_identity;
use quintet_proto::{
    Float, Integer, Visitor, elements,
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferRequestedOutputTensor},
};
use quintet_server::repository::Mode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Server, attach, over_http, raw, start, typed};

/// ONNX's number of a type.
fn onnx_number(data_type: DataType) -> i32 {
    match data_type {
        DataType::Fp32 => 1,
        DataType::Uint8 => 2,
        DataType::Int8 => 3,
        DataType::Uint16 => 4,
        DataType::Int16 => 5,
        DataType::Int32 => 6,
        DataType::Int64 => 7,
        DataType::Bytes => 8,
        DataType::Bool => 9,
        DataType::Fp16 => 10,
        DataType::Fp64 => 11,
        DataType::Uint32 => 12,
        DataType::Uint64 => 13,
        DataType::Bf16 => 16,
    }
}

/// The numbers at the ends of a type, and those between that are easily lost; strings with NUL.
struct Ends;

impl Visitor for Ends {
    type Output = Bytes;

    fn integer<T: Integer>(self) -> Bytes {
        let numbers = [T::min_value(), T::zero(), T::one(), T::max_value() - T::one(), T::max_value()];
        bytemuck::cast_slice(&numbers).to_vec().into()
    }
    fn float<T: Float>(self) -> Bytes {
        let least = T::min_positive_value();
        let subnormal = least * T::epsilon();
        let numbers = [T::nan(), T::infinity(), T::neg_infinity(), T::zero(), T::neg_zero(), T::max_value()];
        let more = [T::min_value(), least, subnormal, T::one() / (T::one() + T::one() + T::one()), -T::epsilon()];
        [bytemuck::cast_slice::<T, u8>(&numbers), bytemuck::cast_slice(&more)].concat().into()
    }
    fn boolean(self) -> Bytes {
        Bytes::from_static(&[0, 1])
    }
    fn bytes(self) -> Bytes {
        elements::encode(["", "\0", "a\0b\0", "é\u{1f600}\"\\\n", "NaN"])
    }
}

/// The elements in JSON as clients write them: NaN and infinities are bare words.
struct Written<'a>(&'a [u8]);

impl Written<'_> {
    fn list<T: bytemuck::AnyBitPattern>(self, write: impl Fn(T) -> String) -> String {
        let numbers = self.0.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).map(write);
        format!("[{}]", numbers.collect::<Vec<_>>().join(","))
    }
}

impl Visitor for Written<'_> {
    type Output = String;

    fn integer<T: Integer>(self) -> String {
        self.list(|number: T| number.to_string())
    }
    fn float<T: Float>(self) -> String {
        self.list(|number: T| match (number.is_nan(), number.is_infinite()) {
            (true, _) => "NaN".into(),
            (_, true) => if number.is_sign_negative() { "-Infinity" } else { "Infinity" }.into(),
            _ => format!("{:e}", number.to_f64().unwrap()),
        })
    }
    fn boolean(self) -> String {
        self.list(|byte: u8| (byte == 1).to_string())
    }
    fn bytes(self) -> String {
        let strings: Vec<_> = elements::iter(self.0).map(|it| String::from_utf8_lossy(it.unwrap())).collect();
        json!(strings).to_string()
    }
}

/// The elements of a JSON array in an answer.
struct Read<'a>(&'a [Value]);

impl Visitor for Read<'_> {
    type Output = Bytes;

    fn integer<T: Integer>(self) -> Bytes {
        let number = |value: &Value| value.as_i64().and_then(T::from).or_else(|| value.as_u64().and_then(T::from));
        let numbers: Vec<T> = self.0.iter().map(|value| number(value).unwrap()).collect();
        bytemuck::cast_slice(&numbers).to_vec().into()
    }
    fn float<T: Float>(self) -> Bytes {
        let number = |value: &Value| match value.as_str() {
            Some("NaN") => T::nan(),
            Some("Infinity") => T::infinity(),
            Some("-Infinity") => T::neg_infinity(),
            _ => T::from(value.as_f64().unwrap()).unwrap(),
        };
        let numbers: Vec<T> = self.0.iter().map(number).collect();
        bytemuck::cast_slice(&numbers).to_vec().into()
    }
    fn boolean(self) -> Bytes {
        self.0.iter().map(|value| u8::from(value.as_bool().unwrap())).collect()
    }
    fn bytes(self) -> Bytes {
        elements::encode(self.0.iter().map(|value| value.as_str().unwrap()))
    }
}

/// A server of identity models, and its ports.
struct Models {
    server: Server,
    http: u16,
    _root: tempfile::TempDir,
}

impl Models {
    async fn start(write: impl Fn(&Path)) -> Self {
        let (server, root) = (start().await, tempfile::tempdir().unwrap());
        write(root.path());
        let mut names: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let failed = attach(&server, root.path(), Mode::None).start(&names).await;
        assert!(failed.is_empty(), "{failed:?}");
        let http = server.http().await;
        Self { server, http, _root: root }
    }

    /// One that has a model for each data type, of one dynamic dimension.
    async fn of_every_type() -> Self {
        Self::start(|root| {
            for data_type in DataType::all() {
                let (name, number) = (data_type.name(), onnx_number(data_type));
                let dims =
                    |what| format!("{what} {{ name: \"{}\" dims: -1 }}\n", if what == "input" { "x" } else { "y" });
                let config = format!("{}{}", dims("input"), dims("output"));
                write_identity(root, name, number, Some(&[None]), &config).unwrap();
            }
        })
        .await
    }

    /// The shape and data of `y` over HTTP. The input is `data`, or binary data; with `is_binary` the answer is, too.
    async fn http(
        &self,
        model: &str,
        (data_type, shape): (DataType, &[i64]),
        data: &Sent<'_>,
        is_binary: bool,
    ) -> Result<(Vec<i64>, Bytes), String> {
        let (field, binary) = match data {
            Sent::Json(text) => (format!(r#""data":{text}"#), &[][..]),
            Sent::Binary(data) => (format!(r#""parameters":{{"binary_data_size":{}}}"#, data.len()), &data[..]),
        };
        let json = format!(
            r#"{{"inputs":[{{"name":"x","datatype":"{data_type}","shape":{shape:?},{field}}}],"outputs":[{{"name":"y","parameters":{{"binary_data":{is_binary}}}}}]}}"#
        );
        let head = format!(
            "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
             inference-header-content-length: {}\r\n\r\n",
            json.len() + binary.len(),
            json.len()
        );
        let mut connection = TcpStream::connect(("127.0.0.1", self.http)).await.unwrap();
        connection.write_all(&[head.as_bytes(), json.as_bytes(), binary].concat()).await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let (head, body) = (String::from_utf8(answer[..end].to_vec()).unwrap(), &answer[end + 4..]);
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("{head}\n{}", String::from_utf8_lossy(body)));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("inference-header-content-length: "));
        let (json, binary) = body.split_at(length.map_or(body.len(), |length| length.parse().unwrap()));
        let answer: Value = serde_json::from_slice(json).unwrap();
        let y = &answer["outputs"][0];
        let shape = y["shape"].as_array().unwrap().iter().map(|dim| dim.as_i64().unwrap()).collect();
        let data = match y["data"].as_array() {
            Some(data) => data_type.visit(Read(data)),
            None => Bytes::copy_from_slice(binary),
        };
        Ok((shape, data))
    }

    /// The shape and data of `y` over gRPC.
    async fn grpc(&self, request: ModelInferRequest) -> Result<(Vec<i64>, Bytes), String> {
        let answer = self.server.client().await.model_infer(request).await.map_err(|status| status.to_string())?;
        let mut answer = answer.into_inner();
        Ok((answer.outputs.remove(0).shape, answer.raw_output_contents.remove(0)))
    }
}

/// An input over HTTP.
enum Sent<'a> {
    Json(String),
    Binary(&'a Bytes),
}

/// The elements in the typed field of a gRPC message.
fn contents(data_type: DataType, data: &[u8]) -> InferTensorContents {
    fn numbers<T: bytemuck::AnyBitPattern, U>(data: &[u8], to: impl Fn(T) -> U) -> Vec<U> {
        data.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).map(to).collect()
    }
    let none = InferTensorContents::default();
    match data_type {
        DataType::Bool => InferTensorContents { bool_contents: numbers(data, |it: u8| it == 1), ..none },
        DataType::Uint8 => InferTensorContents { uint_contents: numbers(data, |it: u8| it.into()), ..none },
        DataType::Uint16 => InferTensorContents { uint_contents: numbers(data, |it: u16| it.into()), ..none },
        DataType::Uint32 => InferTensorContents { uint_contents: numbers(data, |it: u32| it), ..none },
        DataType::Uint64 => InferTensorContents { uint64_contents: numbers(data, |it: u64| it), ..none },
        DataType::Int8 => InferTensorContents { int_contents: numbers(data, |it: i8| it.into()), ..none },
        DataType::Int16 => InferTensorContents { int_contents: numbers(data, |it: i16| it.into()), ..none },
        DataType::Int32 => InferTensorContents { int_contents: numbers(data, |it: i32| it), ..none },
        DataType::Int64 => InferTensorContents { int64_contents: numbers(data, |it: i64| it), ..none },
        // They have no field of their own.
        DataType::Fp16 | DataType::Bf16 => {
            InferTensorContents { fp32_contents: data.chunks(2).map(|_| 0.0).collect(), ..none }
        }
        DataType::Fp32 => InferTensorContents { fp32_contents: numbers(data, |it: f32| it), ..none },
        DataType::Fp64 => InferTensorContents { fp64_contents: numbers(data, |it: f64| it), ..none },
        DataType::Bytes => InferTensorContents {
            bytes_contents: elements::iter(data).map(|it| Bytes::copy_from_slice(it.unwrap())).collect(),
            ..none
        },
    }
}

/// What is in a cell of the page's table.
fn cell(outcome: Result<(Vec<i64>, Bytes), String>, shape: &[i64], data: &Bytes) -> &'static str {
    match outcome {
        Ok(answer) => {
            assert_eq!(answer, (shape.to_vec(), data.clone()));
            "exact"
        }
        Err(error) => {
            assert!(
                error.contains("HTTP/1.1 400") || error.contains("Client specified an invalid argument"),
                "{error}"
            );
            "refused"
        }
    }
}

#[tokio::test]
async fn the_page_has_what_each_protocol_does_with_the_ends_of_every_type() {
    let models = Models::of_every_type().await;
    let mut table = String::from(
        "| data type | JSON, request | JSON, response | binary over HTTP, request | response | gRPC typed | gRPC raw | gRPC response |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for data_type in DataType::all() {
        let name = data_type.name();
        let not_utf8 = (data_type == DataType::Bytes).then(|| elements::encode([&b"\xff\0\xfe"[..], b"a"]));
        let mut rows = Vec::new();
        for data in [Some(data_type.visit(Ends)), not_utf8].into_iter().flatten() {
            let count = data_type.size().map_or_else(|| elements::count(&data).unwrap(), |size| data.len() / size);
            let shape = [count as i64];
            let (json, binary) = (Sent::Json(data_type.visit(Written(&data))), Sent::Binary(&data));
            let typed = typed(name, name, &shape, contents(data_type, &data));
            let outcomes = [
                models.http(name, (data_type, &shape), &json, true).await,
                models.http(name, (data_type, &shape), &binary, false).await,
                models.http(name, (data_type, &shape), &binary, true).await,
                models.grpc(typed).await,
                models.grpc(raw(name, name, &shape, data.clone())).await,
            ];
            // A JSON string cannot carry other bytes: what it carries is another tensor.
            let is_not_text = not_text(data_type, &data);
            let cells: Vec<_> = outcomes
                .into_iter()
                .enumerate()
                .map(
                    |(index, outcome)| if index == 0 && is_not_text { "refused" } else { cell(outcome, &shape, &data) },
                )
                .collect();
            rows.push(cells);
        }
        let cells = (0..5).map(|index| {
            let of_rows: Vec<_> = rows.iter().map(|row| row[index]).collect();
            match of_rows[..] {
                ["exact", "refused"] => "UTF-8 only",
                [first, ..] => first,
                [] => panic!("no row"),
            }
        });
        let cells: Vec<_> = cells.collect();
        let [json_in, json_out, binary, typed, raw] = cells[..] else { panic!("five cells") };
        table += &format!("| {name} | {json_in} | {json_out} | {binary} | {binary} | {typed} | {raw} | {raw} |\n");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/values.md");
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains(&table), "docs/values.md must have this table:\n{table}");
}

/// Whether these are strings that JSON cannot carry.
fn not_text(data_type: DataType, data: &[u8]) -> bool {
    data_type == DataType::Bytes && elements::iter(data).any(|it| std::str::from_utf8(it.unwrap()).is_err())
}

#[tokio::test]
async fn nan_and_infinities_are_taken_as_bare_words_and_as_strings() {
    let models = Models::of_every_type().await;
    for data_type in [DataType::Fp32, DataType::Fp64] {
        let expected = data_type.encode(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.5]).unwrap();
        for text in [
            "[NaN, Infinity, -Infinity, 1.5]",
            r#"["NaN","Infinity","-Infinity",1.5]"#,
            r#"[["NaN",Infinity],[-Infinity,1.5]]"#,
        ] {
            let sent = Sent::Json(text.to_owned());
            let answer = models.http(data_type.name(), (data_type, &[4]), &sent, true).await;
            assert_eq!(answer.unwrap().1, expected, "{data_type} {text}");
        }
        for text in ["[nan]", "[\"inf\"]", "[1.5e999]", "[\"1.5\"]", "[NaNs]", "[+Infinity]"] {
            let error =
                models.http(data_type.name(), (data_type, &[1]), &Sent::Json(text.to_owned()), true).await.unwrap_err();
            assert!(error.starts_with("HTTP/1.1 400"), "{data_type} {text}: {error}");
        }
    }
    let error = models.http("INT32", (DataType::Int32, &[1]), &Sent::Json("[NaN]".into()), true).await.unwrap_err();
    assert!(error.contains("non-signed-integer as signed-integer"), "{error}");
}

#[tokio::test]
async fn numbers_beyond_the_ends_of_a_type_are_refused() {
    let models = Models::of_every_type().await;
    let cases = [
        (DataType::Int8, "-129"),
        (DataType::Uint8, "256"),
        (DataType::Int16, "32768"),
        (DataType::Uint16, "-1"),
        (DataType::Int32, "2147483648"),
        (DataType::Uint32, "4294967296"),
        (DataType::Int64, "9223372036854775808"),
        (DataType::Uint64, "18446744073709551616"),
        (DataType::Fp32, "3.5e38"),
        (DataType::Fp64, "1.8e308"),
        (DataType::Bool, "1"),
    ];
    for (data_type, number) in cases {
        let sent = Sent::Json(format!("[{number}]"));
        let error = models.http(data_type.name(), (data_type, &[1]), &sent, true).await.unwrap_err();
        assert!(error.starts_with("HTTP/1.1 400") && error.contains("input 'x'"), "{data_type} {number}: {error}");
    }
    for (data_type, contents) in [
        (DataType::Int8, InferTensorContents { int_contents: vec![128], ..Default::default() }),
        (DataType::Uint16, InferTensorContents { uint_contents: vec![65536], ..Default::default() }),
    ] {
        let error = models.grpc(typed(data_type.name(), data_type.name(), &[1], contents)).await.unwrap_err();
        assert!(error.contains("Client specified an invalid argument"), "{data_type}: {error}");
    }
}

#[tokio::test]
async fn tensors_without_elements_and_scalars_go_through() {
    let models = Models::start(|root| {
        for data_type in DataType::all() {
            let number = onnx_number(data_type);
            let dims = "dims: [ -1, 3, -1 ]";
            let config = format!("input {{ name: \"x\" {dims} }} output {{ name: \"y\" {dims} }}");
            write_identity(root, &format!("{data_type}_empty"), number, Some(&[None, Some(3), None]), &config).unwrap();
            write_identity(root, &format!("{data_type}_scalar"), number, Some(&[]), "").unwrap();
        }
    })
    .await;
    for data_type in DataType::all() {
        let (name, is_json) = (format!("{data_type}_empty"), !matches!(data_type, DataType::Fp16 | DataType::Bf16));
        for shape in [[0, 3, 0], [0, 3, 2], [2, 3, 0]] {
            let answer = Ok((shape.to_vec(), Bytes::new()));
            for is_binary in if is_json { &[true, false][..] } else { &[true] } {
                let binary = Sent::Binary(&Bytes::new());
                assert_eq!(
                    models.http(&name, (data_type, &shape), &binary, *is_binary).await,
                    answer,
                    "{name} {shape:?}"
                );
                if is_json {
                    let json = Sent::Json("[]".into());
                    assert_eq!(models.http(&name, (data_type, &shape), &json, *is_binary).await, answer, "{name}");
                }
            }
            let request = raw(&name, data_type.name(), &shape, Bytes::new());
            assert_eq!(models.grpc(request).await, answer, "{name} {shape:?}");
        }
        let (name, all) = (format!("{data_type}_scalar"), data_type.visit(Ends));
        let one = data_type.size().map_or_else(|| elements::encode(["a\0b"]), |size| all.slice(..size));
        // Triton announces a scalar as one element; the model's own shape is taken, too.
        for shape in [&[1][..], &[]] {
            let answer = Ok((vec![1], one.clone()));
            assert_eq!(
                models.http(&name, (data_type, shape), &Sent::Binary(&one), true).await,
                answer,
                "{name} {shape:?}"
            );
            assert_eq!(models.grpc(raw(&name, data_type.name(), shape, one.clone())).await, answer, "{name} {shape:?}");
            if is_json {
                let json = Sent::Json(data_type.visit(Written(&one)));
                assert_eq!(models.http(&name, (data_type, shape), &json, true).await, answer, "{name} {shape:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_tensor_of_unknown_rank_has_the_dims_of_the_configuration() {
    let (number, data) = (onnx_number(DataType::Fp32), Bytes::from(bytemuck::cast_slice(&[1.5f32; 6]).to_vec()));
    let models = Models::start(|root| {
        let config = "input { name: \"x\" dims: [ -1, 3 ] } output { name: \"y\" dims: [ -1, 3 ] }";
        write_identity(root, "both", number, None, config).unwrap();
        write_identity(root, "input", number, None, "input { name: \"x\" dims: [ 2, -1 ] }").unwrap();
    })
    .await;
    for (model, shape) in [("both", [2, 3]), ("input", [2, 3])] {
        let answer = Ok((shape.to_vec(), data.clone()));
        assert_eq!(models.http(model, (DataType::Fp32, &shape), &Sent::Binary(&data), false).await, answer, "{model}");
        assert_eq!(models.grpc(raw(model, "FP32", &shape, data.clone())).await, answer, "{model}");
    }
    let error = models.grpc(raw("both", "FP32", &[6], data)).await.unwrap_err();
    assert!(error.contains("unexpected shape for input 'x'"), "{error}");

    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write_identity(root.path(), "neither", number, None, "").unwrap();
    let failed = attach(&server, root.path(), Mode::None).start(&["neither".to_owned()]).await;
    let words = "the model file does not say how many dimensions input 'x' has: list it with its dims";
    assert!(failed[0].1.to_string().contains(words), "{failed:?}");
}

#[tokio::test]
async fn an_output_that_is_requested_twice_is_answered_once() {
    let models = Models::of_every_type().await;
    let body =
        r#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[7]}],"outputs":[{"name":"y"},{"name":"y"}]}"#;
    let answer = over_http(models.http, "POST", "/v2/models/INT8/infer", body).await;
    let y = r#"{"name":"y","datatype":"INT8","shape":[1],"data":[7]}"#;
    assert!(answer.ends_with(&format!(r#""outputs":[{y}]}}"#)), "{answer}");
    let output = InferRequestedOutputTensor { name: "y".into(), ..Default::default() };
    let request = ModelInferRequest { outputs: vec![output.clone(), output], ..raw("INT8", "INT8", &[1], vec![7]) };
    let answer = models.server.client().await.model_infer(request).await.unwrap().into_inner();
    assert_eq!((answer.outputs.len(), answer.raw_output_contents), (1, vec![Bytes::from_static(&[7])]));
}
