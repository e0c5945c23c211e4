//! Reads output tensors as numbers, to compare them with those of other lanes.

use quintet_proto::DataType;

use crate::{client::call::CallError, model::outputs::Output};

/// An output tensor as a response describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// KServe's name of its data type.
    pub(super) datatype: &'a str,
    /// Its dimensions.
    pub(super) shape: &'a [i64],
}

impl Described<'_> {
    /// The numbers of its elements in binary. BOOL are 0 and 1, BYTES the numbers of their bytes.
    pub(super) fn read(self, data: &[u8]) -> Result<Output, CallError> {
        let unknown = || CallError::Malformed(format!("`{}` is of type {}", self.name, self.datatype));
        let data_type = DataType::from_name(self.datatype).ok_or_else(unknown)?;
        if self.bytes().is_some_and(|bytes| bytes != data.len()) {
            return Err(self.malformed(data.len()));
        }
        let bytes = || data.iter().map(|&byte| f64::from(byte)).collect();
        let numbers = data_type.numbers(data).unwrap_or_else(bytes);
        if data_type == DataType::Bytes {
            return Ok(Output { name: self.name.to_owned(), rows: vec![numbers] });
        }
        self.rows(numbers)
    }

    /// The same from the start of its placement in shared memory.
    pub(super) fn read_shared(self, placement: &[u8]) -> Result<Output, CallError> {
        self.read(self.bytes().and_then(|bytes| placement.get(..bytes)).unwrap_or_default())
    }

    /// The same from numbers in JSON, rounded as its type rounds them.
    pub(super) fn read_numbers(self, numbers: Vec<f64>) -> Result<Output, CallError> {
        let data = DataType::from_name(self.datatype).and_then(|data_type| data_type.encode(&numbers));
        self.read(&data.ok_or_else(|| self.malformed(numbers.len()))?)
    }

    /// The numbers as rows of the first dimension; one row if there is no other dimension.
    fn rows(self, numbers: Vec<f64>) -> Result<Output, CallError> {
        if self.elements() != Some(numbers.len()) {
            return Err(self.malformed(numbers.len()));
        }
        let width = match self.shape {
            [rows, _, ..] => numbers.len() / usize::try_from(*rows).unwrap_or(1).max(1),
            _ => numbers.len(),
        };
        let rows = numbers.chunks(width.max(1)).map(<[f64]>::to_vec).collect();
        Ok(Output { name: self.name.to_owned(), rows })
    }

    fn elements(self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?))
    }

    /// Length of its data; `None` for BYTES, whose elements vary. A shape that cannot be fits no data.
    fn bytes(self) -> Option<usize> {
        let size = DataType::from_name(self.datatype)?.size()?;
        Some(self.elements().and_then(|elements| elements.checked_mul(size)).unwrap_or(usize::MAX))
    }

    fn malformed(self, found: usize) -> CallError {
        let Self { name, datatype, shape } = self;
        CallError::Malformed(format!("`{name}`, {datatype} of shape {shape:?}, has {found} bytes or elements"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datatype: &str, shape: &[i64], data: &[u8]) -> Result<Vec<Vec<f64>>, CallError> {
        Described { name: "y", datatype, shape }.read(data).map(|output| output.rows)
    }

    #[test]
    fn rows_must_match_the_shape() {
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(read("FP32", &[2, 2], &data).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(read("FP32", &[2, 1, 2], &data).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(read("FP32", &[4], &data).unwrap(), [[1.0, 2.0, 3.0, 4.0]]);
        for shape in [&[5][..], &[2, 3], &[-1, 4], &[4, 0], &[i64::MAX, i64::MAX], &[]] {
            assert!(read("FP32", shape, &data).is_err(), "{shape:?}");
        }
        assert_eq!(
            Described { name: "y", datatype: "FP32", shape: &[1, 2] }.read_shared(&data).unwrap().rows,
            [[1.0, 2.0]]
        );
    }

    #[test]
    fn outputs_of_every_type_are_read() {
        assert_eq!(read("INT64", &[1], &(-7_i64).to_le_bytes()).unwrap(), [[-7.0]]);
        assert_eq!(read("UINT8", &[2, 1], &[3, 255]).unwrap(), [[3.0], [255.0]]);
        assert_eq!(read("BOOL", &[2], &[0, 1]).unwrap(), [[0.0, 1.0]]);
        assert_eq!(read("FP16", &[1], &[0, 0x3c]).unwrap(), [[1.0]]);
        assert_eq!(read("BYTES", &[1, 1], b"\x01\0\0\0a").unwrap(), [[1.0, 0.0, 0.0, 0.0, 97.0]]);
        assert!(read("FP8", &[1], &[0]).is_err());
        assert_eq!(read("FP32", &[0, 4], &[]).unwrap(), [[]; 0] as [[f64; 0]; 0]);
    }
}
