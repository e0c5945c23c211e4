//! TensorRT's optimization profile: the shapes that an engine is built for.
//!
//! Without one, ONNX Runtime rebuilds the engine during a request whenever a batch is larger than all before.

use std::collections::BTreeMap;

use quintet_engine::TensorSpec;

/// The shapes to expect, from a model's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The batch size that the engine is optimised for.
    pub opt_batch_size: usize,
    /// The largest batch; 0 for models without a batch dimension.
    pub max_batch_size: usize,
    /// Configured dimensions of inputs, without the batch dimension; `None` is a dynamic one.
    pub dims: BTreeMap<String, Vec<Option<usize>>>,
}

/// The three options of a profile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    pub(super) min: String,
    pub(super) opt: String,
    pub(super) max: String,
}

impl Profile {
    /// The profile of a model with these inputs (including the batch dimension); `between` stands between two of them. `None` if no shape is dynamic, because
    /// then no profile is needed.
    ///
    /// # Errors
    /// The name of an input with a dynamic dimension that is not configured.
    pub(super) fn shapes<'a>(&self, inputs: &'a [TensorSpec], between: &str) -> Result<Option<Shapes>, &'a str> {
        if inputs.iter().all(|input| input.dims.iter().all(Option::is_some)) {
            return Ok(None);
        }
        let shapes = |batch: usize| {
            let inputs = inputs.iter().map(|input| self.shape(input, batch).ok_or(input.name.as_str()));
            inputs.collect::<Result<Vec<_>, _>>().map(|shapes| shapes.join(between))
        };
        let max = self.max_batch_size.max(1);
        Ok(Some(Shapes { min: shapes(1)?, opt: shapes(self.opt_batch_size.clamp(1, max))?, max: shapes(max)? }))
    }

    /// `x:8x3x224x224`.
    fn shape(&self, input: &TensorSpec, batch: usize) -> Option<String> {
        let batches = self.max_batch_size > 0;
        let configured = self.dims.get(&input.name);
        let dims = input.dims.iter().enumerate().map(|(index, dim)| match (dim, index) {
            (Some(dim), _) => Some(*dim),
            (None, 0) if batches => Some(batch),
            (None, _) => configured.and_then(|dims| dims.get(index - usize::from(batches)).copied().flatten()),
        });
        let dims: Vec<_> = dims.map(|dim| dim.map(|dim| dim.to_string())).collect::<Option<_>>()?;
        Some(format!("{}:{}", input.name, dims.join("x")))
    }
}

#[cfg(test)]
mod tests {
    use quintet_engine::DataType;

    use super::*;

    fn input(name: &str, dims: &[i64]) -> TensorSpec {
        let dims: Vec<_> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        TensorSpec::new(name, DataType::Fp32, dims)
    }

    #[test]
    fn covers_one_to_the_largest_batch_for_every_input() {
        let profile = Profile { opt_batch_size: 8, max_batch_size: 32, dims: BTreeMap::new() };
        let inputs = [input("image", &[-1, 3, 224, 224]), input("scale", &[-1, 1])];
        let shapes = profile.shapes(&inputs, ",").unwrap().unwrap();
        assert_eq!(shapes.min, "image:1x3x224x224,scale:1x1");
        assert_eq!(shapes.opt, "image:8x3x224x224,scale:8x1");
        assert_eq!(shapes.max, "image:32x3x224x224,scale:32x1");
    }

    #[test]
    fn takes_dynamic_dimensions_from_the_configuration() {
        let dims = BTreeMap::from([("x".to_owned(), vec![Some(16)])]);
        let profile = Profile { opt_batch_size: 4, max_batch_size: 4, dims: dims.clone() };
        assert_eq!(profile.shapes(&[input("x", &[-1, -1])], ",").unwrap().unwrap().max, "x:4x16");
        assert_eq!(profile.shapes(&[input("y", &[-1, -1])], ","), Err("y"));
        let unbatched = Profile { dims, ..Profile::default() };
        assert_eq!(unbatched.shapes(&[input("x", &[-1])], ",").unwrap().unwrap().opt, "x:16");
    }

    #[test]
    fn fixed_shapes_need_no_profile() {
        assert_eq!(Profile::default().shapes(&[input("x", &[1, 3])], ","), Ok(None));
    }
}
