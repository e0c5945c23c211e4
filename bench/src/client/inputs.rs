//! The tensors of a model's inputs: random elements, zeros, or files; the same for every lane.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use quintet_proto::{DataType, elements};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    client::{
        inference::{Content, Inference, Input},
        npy,
    },
    model::{
        data::{Data, InputShape},
        signature::{Signature, TensorInfo},
    },
};

/// Different requests of random data.
const RANDOM_REQUESTS: usize = 4;
/// Most different requests from files.
const MOST_REQUESTS: usize = 16;
/// Largest item of an input, in bytes. An item is what one image is to an image model: a tensor without the batch.
const MOST_ITEM_BYTES: usize = 256 << 20;
/// Random integers are below this, so that they are valid indices of most vocabularies.
const RANDOM_INTEGERS: u32 = 100;
/// Letters of a random BYTES element.
const RANDOM_LETTERS: usize = 16;

/// Why a model cannot be given data.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The server's metadata has no inputs.
    #[error("the server does not describe the model's inputs, so only --data photos can be sent")]
    NotDescribed,
    /// The model takes no images.
    #[error(
        "the model takes no photographs (its inputs are {0}): set parameters[\"image_preprocess\"] in its config.pbtxt, or send \
         --data random, zero, or a folder"
    )]
    NoImages(String),
    /// The lane's server prepares images in another way than what is sent.
    #[error("it takes images otherwise ({theirs}) than the first lane's model ({ours}); measure them in two runs")]
    OtherImages {
        /// How its model takes them.
        theirs: String,
        /// How they are sent.
        ours: String,
    },
    /// The batch is too large.
    #[error("the model takes {}; give other --batches", if *.0 == 1 { "no batches".into() } else { format!("batches of up to {}", .0) })]
    Batch(usize),
    /// `--shape` names no input.
    #[error("--shape {shape}: the model has no input of this name; its inputs are {inputs}")]
    NoInput {
        /// The flag's value.
        shape: InputShape,
        /// The model's inputs.
        inputs: String,
    },
    /// `--shape` is not a shape of the input.
    #[error("--shape {shape} does not fit {input}")]
    Shape {
        /// The flag's value.
        shape: InputShape,
        /// The input.
        input: Box<TensorInfo>,
    },
    /// An input has dimensions without a length.
    #[error("input {0} has dynamic dimensions: give their lengths with --shape {name}:1,...", name = .0.name)]
    Dynamic(Box<TensorInfo>),
    /// An input is too large.
    #[error("an item of input {0} has more than {MOST_ITEM_BYTES} bytes")]
    TooLarge(Box<TensorInfo>),
    /// An input is of an unknown type.
    #[error("input {0} is of a type that this program does not know")]
    Type(Box<TensorInfo>),
    /// The folder has no file for an input.
    #[error("{folder} has no file for input {input}: it is called {name}.npy, {name}.bin or {name}")]
    NoFile {
        /// The folder.
        folder: PathBuf,
        /// The input.
        input: Box<TensorInfo>,
        /// The name of the file, without its extension.
        name: String,
    },
    /// A file cannot be used.
    #[error("{path} cannot be sent as input {input}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The input.
        input: Box<TensorInfo>,
        /// What is wrong.
        reason: String,
    },
}

/// The items of every input that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    inputs: Vec<Items>,
    outputs: Vec<String>,
    /// Whether a batch is the first dimension of every tensor.
    batches: bool,
}

/// The items of one input: tensors without the batch.
#[derive(Clone, Debug, PartialEq)]
struct Items {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    items: Vec<Bytes>,
}

impl Inputs {
    /// Makes the data of a model's inputs. Random data depends on the seed and the input's name alone. Optional inputs are
    /// sent only if the folder has a file for them.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn new(signature: &Signature, data: &Data, shapes: &[InputShape], seed: u64) -> Result<Self, InputError> {
        if let Some(shape) = shapes.iter().find(|shape| !signature.inputs.iter().any(|input| input.name == shape.name))
        {
            return Err(InputError::NoInput { shape: shape.clone(), inputs: list(signature) });
        }
        let batches = signature.batches();
        let mut inputs = Vec::with_capacity(signature.inputs.len());
        for input in &signature.inputs {
            let given = shapes.iter().find(|shape| shape.name == input.name);
            let expected = item_shape(input, batches, given)?;
            let data_type =
                DataType::from_name(&input.datatype).ok_or_else(|| InputError::Type(Box::new(input.clone())))?;
            let (shape, items) = match data {
                Data::Folder(folder) => match find(folder, input)? {
                    Some(file) => from_file(&file, input, data_type, expected)?,
                    None => continue,
                },
                _ if input.optional => continue,
                _ => {
                    let count = elements_of(&expected, data_type, input)?;
                    let random = *data != Data::Zero;
                    let item = |i| {
                        if random {
                            random_item(data_type, count, (seed, &input.name, i))
                        } else {
                            zeros(data_type, count)
                        }
                    };
                    (expected, (0..if random { RANDOM_REQUESTS } else { 1 }).map(item).collect())
                }
            };
            inputs.push(Items { name: input.name.clone(), datatype: input.datatype.clone(), shape, items });
        }
        Ok(Self { inputs, outputs: signature.requested(), batches })
    }

    /// Requests for one batch size. The n-th begins with the n-th item of each input; the items are repeated.
    ///
    /// # Errors
    /// For a batch, if the model takes none.
    pub fn requests(&self, batch: usize) -> Result<Vec<Inference>, InputError> {
        if batch > 1 && !self.batches {
            return Err(InputError::Batch(1));
        }
        let count = self.inputs.iter().map(|input| input.items.len()).max().unwrap_or(1).min(MOST_REQUESTS);
        let mut requests = vec![Inference { inputs: Vec::new(), outputs: self.outputs.clone(), shared: None }; count];
        for Items { name, datatype, shape, items } in &self.inputs {
            let batch_dim = self.batches.then_some(batch as i64);
            let shape: Vec<i64> = batch_dim.into_iter().chain(shape.iter().copied()).collect();
            for (request, tensor) in requests.iter_mut().zip(batches_of(items, count, batch)) {
                let (name, datatype, shape) = (name.clone(), datatype.clone(), shape.clone());
                request.inputs.push(Input { name, datatype, shape, content: Content::Binary(tensor) });
            }
        }
        Ok(requests)
    }
}

/// The inputs of a model in words.
pub fn list(signature: &Signature) -> String {
    crate::model::words::list(&signature.inputs)
}

/// `count` batches, each beginning one item later: slices of one buffer.
fn batches_of(items: &[Bytes], count: usize, batch: usize) -> Vec<Bytes> {
    let (mut buffer, mut ends) = (BytesMut::new(), vec![0]);
    for item in items.iter().cycle().take(count + batch - 1) {
        buffer.extend_from_slice(item);
        ends.push(buffer.len());
    }
    let buffer = buffer.freeze();
    (0..count).map(|first| buffer.slice(ends[first]..ends[first + batch])).collect()
}

/// The shape of an item: that of the metadata without the batch, with the lengths of `--shape`.
fn item_shape(input: &TensorInfo, batches: bool, given: Option<&InputShape>) -> Result<Vec<i64>, InputError> {
    let item = if batches { input.shape.get(1..).unwrap_or_default() } else { &input.shape };
    let Some(given) = given else { return Ok(item.to_vec()) };
    let dims = match given.dims.split_first() {
        // The batch may be written, as 1.
        Some((1, rest)) if batches && rest.len() == item.len() => rest,
        _ => &given.dims,
    };
    let fits = dims.len() == item.len() && dims.iter().zip(item).all(|(dim, known)| *known < 0 || dim == known);
    let misfit = || InputError::Shape { shape: given.clone(), input: Box::new(input.clone()) };
    if fits { Ok(dims.to_vec()) } else { Err(misfit()) }
}

/// The number of elements of an item whose lengths are all known.
fn elements_of(shape: &[i64], data_type: DataType, input: &TensorInfo) -> Result<usize, InputError> {
    if shape.iter().any(|&dim| dim < 0) {
        return Err(InputError::Dynamic(Box::new(input.clone())));
    }
    let count = shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
    let size = data_type.size().unwrap_or(4 + RANDOM_LETTERS);
    let fits = |count: &usize| count.checked_mul(size).is_some_and(|bytes| bytes <= MOST_ITEM_BYTES);
    count.filter(fits).ok_or_else(|| InputError::TooLarge(Box::new(input.clone())))
}

fn zeros(data_type: DataType, count: usize) -> Bytes {
    // A BYTES element without content is a length of 0.
    vec![0; count * data_type.size().unwrap_or(4)].into()
}

/// Random elements: floating from 0 to 1, small integers, letters.
fn random_item(data_type: DataType, count: usize, seed: (u64, &str, usize)) -> Bytes {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let mut rng = ChaCha8Rng::seed_from_u64(hasher.finish());
    let mut number = || {
        if data_type.is_float() { rng.random::<f32>().into() } else { f64::from(rng.random_range(0..RANDOM_INTEGERS)) }
    };
    let numbers = (0..count).map(|_| number()).collect::<Vec<f64>>();
    match data_type.encode(&numbers) {
        Some(bytes) => bytes.into(),
        None if data_type == DataType::Bytes => {
            let mut letter = || rng.random_range(b'a'..=b'z');
            elements::encode((0..count).map(|_| (0..RANDOM_LETTERS).map(|_| letter()).collect::<Vec<u8>>()))
        }
        None => numbers.iter().map(|number| u8::from(number % 2.0 >= 1.0)).collect(),
    }
}

/// The file of an input; `None` for an optional input without one. A `/` in the name is a `_` in that of the file, so no
/// name leads out of the folder.
fn find(folder: &Path, input: &TensorInfo) -> Result<Option<PathBuf>, InputError> {
    let name = input.name.replace(['/', '\\'], "_");
    let found = [".npy", ".bin", ""].map(|extension| folder.join(format!("{name}{extension}")));
    match found.into_iter().find(|path| path.is_file()) {
        None if !input.optional => {
            Err(InputError::NoFile { folder: folder.into(), input: Box::new(input.clone()), name })
        }
        found => Ok(found),
    }
}

/// The shape of an item, and the items.
type Read = (Vec<i64>, Vec<Bytes>);

/// Reads the items of a file. A .npy file has one item, or several along a first axis; raw elements are cut into items.
fn from_file(path: &Path, input: &TensorInfo, data_type: DataType, expected: Vec<i64>) -> Result<Read, InputError> {
    let refuse = |reason: String| InputError::File { path: path.into(), input: Box::new(input.clone()), reason };
    let length = fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if length > (MOST_ITEM_BYTES * MOST_REQUESTS) as u64 {
        return Err(InputError::TooLarge(Box::new(input.clone())));
    }
    let mut file = Bytes::from(fs::read(path).map_err(|error| refuse(error.to_string()))?);
    let mut shape = expected;
    if path.extension().is_some_and(|extension| extension == "npy") {
        let head = npy::head(&file).map_err(refuse)?;
        if head.datatype != input.datatype {
            return Err(refuse(format!("its elements are {}, not {}", head.datatype, input.datatype)));
        }
        let item = if head.shape.len() > shape.len() { &head.shape[1..] } else { &head.shape[..] };
        if item.len() != shape.len() || !item.iter().zip(&shape).all(|(dim, known)| *known < 0 || dim == known) {
            return Err(refuse(format!("its shape is {:?}, which does not fit", head.shape)));
        }
        shape = item.to_vec();
        file = file.slice(head.start..);
    }
    let count = elements_of(&shape, data_type, input)?;
    let items = cut(&file, data_type, count).ok_or_else(|| {
        refuse(format!("its {} bytes are not a whole number of items of {count} elements each", file.len()))
    })?;
    Ok((shape, items))
}

/// Cuts elements into items of `count` elements; `None` if they do not come out even.
fn cut(data: &Bytes, data_type: DataType, count: usize) -> Option<Vec<Bytes>> {
    let mut items = Vec::new();
    let mut start = 0;
    while start < data.len() && items.len() < MOST_REQUESTS {
        let length = match data_type.size() {
            Some(size) => count * size,
            None => {
                let taken: Result<Vec<&[u8]>, _> = elements::iter(&data[start..]).take(count).collect();
                let taken = taken.ok().filter(|taken| taken.len() == count)?;
                taken.iter().map(|element| 4 + element.len()).sum()
            }
        };
        if length == 0 || data.len() - start < length {
            return None;
        }
        items.push(data.slice(start..start + length));
        start += length;
    }
    let whole = start == data.len() || items.len() == MOST_REQUESTS;
    (whole && !items.is_empty()).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(name: &str, datatype: &str, shape: &[i64]) -> TensorInfo {
        TensorInfo { name: name.into(), datatype: datatype.into(), shape: shape.into(), optional: false }
    }

    fn signature(inputs: Vec<TensorInfo>, max_batch: usize) -> Signature {
        Signature {
            inputs,
            outputs: vec![tensor("y", "FP32", &[-1])],
            max_batch: Some(max_batch),
            ..Signature::default()
        }
    }

    fn content(input: &Input) -> &Bytes {
        let Content::Binary(bytes) = &input.content else { panic!("not binary") };
        bytes
    }

    fn made(inputs: Vec<TensorInfo>, max_batch: usize, data: &Data, shapes: &[&str]) -> Result<Inputs, String> {
        let shapes: Vec<InputShape> = shapes.iter().map(|shape| shape.parse().unwrap()).collect();
        Inputs::new(&signature(inputs, max_batch), data, &shapes, 1).map_err(|error| error.to_string())
    }

    #[test]
    fn random_data_is_the_same_for_every_lane_and_differs_between_requests() {
        let inputs =
            || vec![tensor("ids", "INT64", &[-1, 8]), tensor("text", "BYTES", &[-1, 2]), tensor("b", "BOOL", &[-1, 9])];
        let made_twice = [0, 1].map(|_| made(inputs(), 8, &Data::Random, &[]).unwrap());
        assert_eq!(made_twice[0], made_twice[1]);
        let requests = made_twice[0].requests(3).unwrap();
        assert_eq!(requests.len(), RANDOM_REQUESTS);
        let [ids, text, flags] = &requests[0].inputs[..] else { panic!("three inputs") };
        assert_eq!((&ids.shape[..], content(ids).len()), (&[3, 8][..], 3 * 8 * 8));
        let numbers = DataType::Int64.numbers(content(ids)).unwrap();
        assert!(numbers.iter().all(|number| (0.0..100.0).contains(number)), "{numbers:?}");
        assert_eq!((elements::count(content(text)), content(text).len()), (Ok(6), 6 * (4 + RANDOM_LETTERS)));
        assert!(content(flags).iter().all(|&flag| flag <= 1) && content(flags).contains(&1));
        assert_ne!(requests[0].inputs, requests[1].inputs);
    }

    #[test]
    fn zeros_are_one_request() {
        let requests = made(vec![tensor("x", "FP16", &[4]), tensor("s", "BYTES", &[2])], 0, &Data::Zero, &[]).unwrap();
        let [request] = &requests.requests(1).unwrap()[..] else { panic!("one request") };
        assert_eq!([content(&request.inputs[0]).len(), content(&request.inputs[1]).len()], [8, 8]);
        assert_eq!(elements::count(content(&request.inputs[1])), Ok(2));
        assert_eq!(requests.requests(2).unwrap_err().to_string(), "the model takes no batches; give other --batches");
    }

    #[test]
    fn dynamic_dimensions_need_a_shape_with_or_without_the_batch() {
        let image = || vec![tensor("x", "FP32", &[-1, 3, -1, -1])];
        for shape in ["x:3,4,5", "x:1,3,4,5"] {
            let requests = made(image(), 8, &Data::Zero, &[shape]).unwrap().requests(2).unwrap();
            assert_eq!(requests[0].inputs[0].shape, [2, 3, 4, 5]);
        }
        let reason = |shapes: &[&str]| made(image(), 8, &Data::Zero, shapes).unwrap_err();
        assert_eq!(
            [reason(&[]), reason(&["x:2,3,4,5"]), reason(&["x:4,4,5"]), reason(&["z:1"])],
            [
                "input x FP32 [-1,3,-1,-1] has dynamic dimensions: give their lengths with --shape x:1,...",
                "--shape x:2,3,4,5 does not fit x FP32 [-1,3,-1,-1]",
                "--shape x:4,4,5 does not fit x FP32 [-1,3,-1,-1]",
                "--shape z:1: the model has no input of this name; its inputs are x FP32 [-1,3,-1,-1]",
            ]
        );
        let huge = made(vec![tensor("x", "FP32", &[1 << 40])], 0, &Data::Random, &[]).unwrap_err();
        assert!(huge.contains("more than 268435456 bytes"), "{huge}");
    }

    #[test]
    fn files_are_read_by_the_names_of_the_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::Folder(folder.path().into());
        let inputs = || {
            let optional = TensorInfo { optional: true, ..tensor("scale", "FP32", &[1]) };
            vec![tensor("a/ids", "INT32", &[-1, 2]), tensor("text", "BYTES", &[-1, 1]), optional]
        };
        let refused = made(inputs(), 8, &data, &[]).unwrap_err();
        assert!(refused.ends_with("it is called a_ids.npy, a_ids.bin or a_ids"), "{refused}");
        let numbers: Vec<u8> = [1_i32, 2, 3, 4, 5, 6].iter().flat_map(|n| n.to_le_bytes()).collect();
        fs::write(folder.path().join("a_ids.bin"), &numbers).unwrap();
        fs::write(folder.path().join("text"), elements::encode(["one", "three"])).unwrap();
        let requests = made(inputs(), 8, &data, &[]).unwrap().requests(2).unwrap();
        assert_eq!((requests.len(), requests[0].inputs.len()), (3, 2), "the optional input has no file");
        assert_eq!(content(&requests[2].inputs[0])[..], [&numbers[16..24], &numbers[..8]].concat());
        assert_eq!(content(&requests[1].inputs[1])[..], elements::encode(["three", "one"]));
        fs::write(folder.path().join("a_ids.bin"), &numbers[..20]).unwrap();
        let refused = made(inputs(), 8, &data, &[]).unwrap_err();
        assert!(refused.contains("20 bytes are not a whole number of items of 2 elements"), "{refused}");
    }

    #[test]
    fn npy_files_bring_their_shape() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = b"\x93NUMPY\x01\0\x40\0".to_vec();
        file.extend(format!("{:<63}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1), }").bytes());
        file.extend([0; 24]);
        fs::write(folder.path().join("x.npy"), file).unwrap();
        let data = Data::Folder(folder.path().into());
        let requests = made(vec![tensor("x", "FP32", &[-1, -1, 1])], 8, &data, &[]).unwrap().requests(1).unwrap();
        assert_eq!((requests.len(), &requests[0].inputs[0].shape[..]), (2, &[1, 3, 1][..]));
        let refused = made(vec![tensor("x", "FP16", &[-1, -1, 1])], 8, &data, &[]).unwrap_err();
        assert!(refused.ends_with("its elements are FP32, not FP16"), "{refused}");
        let refused = made(vec![tensor("x", "FP32", &[-1, 4, 1])], 8, &data, &[]).unwrap_err();
        assert!(refused.contains("[2, 3, 1], which does not fit"), "{refused}");
    }

    proptest! {
        #[test]
        fn any_file_is_cut_or_refused(data: Vec<u8>, count in 0..9_usize) {
            for data_type in DataType::all() {
                for item in cut(&data.clone().into(), data_type, count).unwrap_or_default() {
                    prop_assert!(data_type.size().is_none_or(|size| item.len() == size * count));
                }
            }
        }

        #[test]
        fn any_signature_makes_requests_or_an_error(
            shape in proptest::collection::vec(-2..4_i64, 0..4), max_batch in 0..3_usize, type_index in 0..14_usize,
        ) {
            let data_type = DataType::all().nth(type_index).unwrap();
            if let Ok(inputs) = made(vec![tensor("x", data_type.name(), &shape)], max_batch, &Data::Random, &[]) {
                for request in inputs.requests(1).unwrap() {
                    let elements: i64 = request.inputs[0].shape.iter().product();
                    let bytes = data_type.size().unwrap_or(4 + RANDOM_LETTERS);
                    prop_assert_eq!(content(&request.inputs[0]).len(), elements as usize * bytes);
                }
            }
        }
    }
}
