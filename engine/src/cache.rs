//! The response cache: a request gets the response of an equal earlier one, without a run.

use std::collections::BTreeSet;

use lru::LruCache;
use parking_lot::Mutex;

use crate::{request::InferRequest, tensor::Tensor};

/// Bytes of an entry besides its outputs' data, estimated: key, list, shapes and the cache's own links.
const ENTRY_BYTES: usize = 256;

/// Stands for the rank of an input that is omitted.
const OMITTED: u64 = u64::MAX;

/// The key of a request's response: equal for requests that have equal responses, and for no others. (It is
/// a cryptographic hash, so that no client can make a request with another's key.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; blake3::OUT_LEN]);

impl Key {
    /// The key of a request. `generations` are those of the model and of all models that it calls: each is unique to
    /// one load of one model, so no response outlives a model that made it, even if the next one has the same name and
    /// version.
    ///
    /// The inputs must not change while the request runs: the response is kept for what is hashed here.
    ///
    /// Every part has a fixed size or follows its size, so that different requests never hash the same bytes.
    pub fn new(generations: &BTreeSet<u64>, request: &InferRequest) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut number = |value: u64| {
            hasher.update(&value.to_le_bytes());
        };
        number(generations.len() as u64);
        generations.iter().for_each(|&generation| number(generation));
        number(request.outputs.bits());
        for input in &request.inputs {
            // Names and types are the model's, and the order of inputs is the model's.
            let Some(input) = input else {
                number(OMITTED);
                continue;
            };
            number(input.shape().dims().len() as u64);
            input.shape().dims().iter().for_each(|&dim| number(dim as u64));
            number(input.data().len() as u64);
        }
        for input in request.inputs.iter().flatten() {
            hasher.update(input.data());
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// Responses kept for equal requests; the least recently used are dropped first. Models may share a cache.
pub struct Cache {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    bytes: usize,
    entries: LruCache<Key, Vec<(usize, Tensor)>>,
}

impl Cache {
    /// An empty cache of at most `max_bytes`, overhead of entries included.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, kept: Mutex::new(Kept { bytes: 0, entries: LruCache::unbounded() }) }
    }

    /// The outputs kept for this key.
    pub fn get(&self, key: &Key) -> Option<Vec<(usize, Tensor)>> {
        self.kept.lock().entries.get(key).cloned()
    }

    /// Keeps outputs, unless they alone are larger than the cache. They are copied: as slices of a batch's
    /// outputs they would keep all of them in memory.
    pub fn insert(&self, key: Key, outputs: &[(usize, Tensor)]) {
        let bytes = size(outputs);
        if bytes > self.max_bytes {
            return;
        }
        let outputs = outputs.iter().map(|(index, tensor)| (*index, tensor.deep_clone())).collect();
        let mut dropped = Vec::new();
        let mut kept = self.kept.lock();
        if let Some(replaced) = kept.entries.put(key, outputs) {
            kept.bytes -= size(&replaced);
            dropped.push(replaced);
        }
        kept.bytes += bytes;
        while kept.bytes > self.max_bytes
            && let Some((_, oldest)) = kept.entries.pop_lru()
        {
            kept.bytes -= size(&oldest);
            dropped.push(oldest);
        }
        // Memory is freed after the lock is released.
        drop(kept);
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }

    /// Number of responses.
    pub fn len(&self) -> usize {
        self.kept.lock().entries.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn size(outputs: &[(usize, Tensor)]) -> usize {
    outputs.iter().fold(ENTRY_BYTES, |bytes, (_, tensor)| bytes.saturating_add(tensor.data().len()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use proptest::prelude::*;
    use quintet_proto::DataType;

    use super::*;
    use crate::{spec::OutputSet, tensor::Shape};

    fn tensor(dims: &[usize], mark: u8) -> Tensor {
        let len = dims.iter().product();
        Tensor::new(DataType::Uint8, Shape::new(dims), Bytes::from(vec![mark; len])).unwrap()
    }

    type Sent = Option<(Vec<usize>, u8)>;

    fn sent(inputs: &[Sent]) -> Vec<Option<Tensor>> {
        inputs.iter().map(|input| input.as_ref().map(|(dims, mark)| tensor(dims, *mark))).collect()
    }

    fn request(inputs: &[Sent], outputs: usize) -> InferRequest {
        InferRequest::new(Instant::now(), sent(inputs), 1, OutputSet::all(outputs))
    }

    fn inputs() -> impl Strategy<Value = Vec<Sent>> {
        prop::collection::vec(prop::option::of((prop::collection::vec(0usize..4, 0..4), 0u8..2)), 1..3)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn equal_requests_have_equal_keys_and_others_do_not(
            a in (0u64..2, inputs(), 1usize..3),
            b in (0u64..2, inputs(), 1usize..3),
        ) {
            let key = |(generation, inputs, outputs): &(u64, Vec<_>, usize)| {
                Key::new(&[*generation].into(), &request(inputs, *outputs))
            };
            // A tensor without elements does not contain its mark.
            let seen = |(generation, inputs, outputs): &(u64, Vec<Sent>, usize)| (*generation, sent(inputs), *outputs);
            prop_assert_eq!(key(&a), key(&a));
            prop_assert_eq!(key(&a) == key(&b), seen(&a) == seen(&b));
        }

        #[test]
        fn the_cache_is_a_bounded_map_that_forgets_the_least_recently_used(
            max_entries in 0usize..6,
            steps in prop::collection::vec((any::<bool>(), 0u64..10, any::<u8>()), 0..100),
        ) {
            const LEN: usize = 100;
            let max_bytes = max_entries * (LEN + ENTRY_BYTES);
            let cache = Cache::new(max_bytes);
            let key = |name: u64| Key::new(&[name].into(), &request(&[], 1));
            // Most recently used last.
            let mut model: Vec<(u64, u8)> = Vec::new();
            for (put, name, mark) in steps {
                let at = model.iter().position(|&(other, _)| other == name);
                let known = at.map(|at| model.remove(at));
                if put {
                    cache.insert(key(name), &[(0, tensor(&[LEN], mark))]);
                    model.push((name, mark));
                    model.drain(..model.len().saturating_sub(max_entries));
                } else {
                    let found = cache.get(&key(name)).map(|outputs| outputs[0].1.data()[0]);
                    prop_assert_eq!(found, known.map(|(_, mark)| mark));
                    model.extend(known);
                }
                prop_assert_eq!(cache.len(), model.len());
                prop_assert_eq!(cache.bytes(), model.len() * (LEN + ENTRY_BYTES), "bytes are exact");
                prop_assert!(cache.bytes() <= max_bytes);
            }
        }
    }

    #[test]
    fn the_key_depends_on_which_input_is_omitted() {
        let input = || Some((vec![1, 2], 7));
        let keys = [vec![input(), None], vec![None, input()], vec![input(), input()], vec![input()]];
        let keys: std::collections::HashSet<_> =
            keys.iter().map(|inputs| Key::new(&[0].into(), &request(inputs, 1))).collect();
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn the_key_depends_on_every_model() {
        let sets = [&[][..], &[1], &[2], &[1, 2], &[1, 2, 3]].map(|set| set.iter().copied().collect::<BTreeSet<_>>());
        let keys: std::collections::HashSet<_> = sets.iter().map(|set| Key::new(set, &request(&[], 1))).collect();
        assert_eq!(keys.len(), sets.len());
    }

    #[test]
    fn a_response_larger_than_the_cache_evicts_nothing() {
        let cache = Cache::new(1000);
        let key = |name| Key::new(&[name].into(), &request(&[], 1));
        cache.insert(key(0), &[(0, tensor(&[10], 1))]);
        cache.insert(key(1), &[(0, tensor(&[1000], 1))]);
        assert!(cache.get(&key(0)).is_some() && cache.get(&key(1)).is_none());
    }

    #[test]
    fn a_kept_response_does_not_keep_the_whole_batch() {
        let batch = Bytes::from(vec![7; 1 << 20]);
        let slice = Tensor::new(DataType::Uint8, Shape::new([4]), batch.slice(8..12)).unwrap();
        let cache = Cache::new(1 << 20);
        let key = Key::new(&[0].into(), &request(&[], 1));
        cache.insert(key, &[(0, slice.clone())]);
        drop(slice);
        assert!(batch.is_unique(), "no part of it is shared any more");
        assert_eq!(cache.get(&key).unwrap()[0].1.data(), &[7; 4][..]);
    }
}
