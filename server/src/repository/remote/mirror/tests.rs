//! Tests of copies, against a store in memory that is watched and changed while it is read.

use std::{fmt, fs, os::unix::fs::MetadataExt as _};

use futures_util::stream::BoxStream;
use object_store::{
    CopyOptions as StoreCopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::repository::{folders::model_names, remote::listing::PART_BYTES};

/// A store in memory.
#[derive(Debug, Default)]
struct Store {
    inner: InMemory,
    /// The objects that were read, once for each part.
    read: Mutex<Vec<String>>,
    /// Objects to put, one before each part that is read.
    meanwhile: Mutex<Vec<(&'static str, Vec<u8>)>>,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

type Result<T> = object_store::Result<T>;

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, location: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.read.lock().push(location.to_string());
        let change = self.meanwhile.lock().pop();
        if let Some((at, content)) = change {
            self.put(&at.into(), content.into()).await?;
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: StoreCopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A store with a folder for its copy.
struct Fixture {
    runtime: Runtime,
    store: Arc<Store>,
    cache: TempDir,
}

impl Fixture {
    fn new(objects: &[(&str, &[u8])]) -> Self {
        let runtime = Runtime::new().unwrap();
        let fixture = Self { runtime, store: Arc::default(), cache: tempfile::tempdir().unwrap() };
        objects.iter().for_each(|(at, content)| fixture.put(at, content));
        fixture
    }

    fn put(&self, at: &str, content: &[u8]) {
        let at = at.into();
        self.runtime.block_on(self.store.put(&at, content.to_vec().into())).unwrap();
    }

    fn delete(&self, at: &str) {
        self.runtime.block_on(self.store.delete(&at.into())).unwrap();
    }

    fn try_open(&self, copied: Copied, max_bytes: u64) -> std::result::Result<Mirror, RemoteError> {
        let options = CopyOptions { folder: self.cache.path().to_owned(), max_bytes, copied };
        let address = Address::parse("s3://bucket/models").unwrap().unwrap();
        Mirror::with(Arc::clone(&self.store) as _, address, &options)
    }

    fn open(&self, copied: Copied) -> Mirror {
        self.try_open(copied, 1 << 30).unwrap()
    }

    /// Looks at the store, and returns the errors.
    fn refresh(&self, mirror: &Mirror) -> String {
        let _context = self.runtime.enter();
        let failed: Vec<_> = mirror.refresh().iter().map(ToString::to_string).collect();
        failed.join("\n").replace(mirror.folder().to_str().unwrap(), "FOLDER")
    }

    fn fetch(&self, mirror: &Mirror, name: &str) -> String {
        let _context = self.runtime.enter();
        mirror.fetch(name).err().map_or_else(String::new, |error| error.to_string())
    }

    /// The objects that were read since the last call, once for each part.
    fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.store.read.lock())
    }
}

/// The models in a copy.
fn names(mirror: &Mirror) -> Vec<String> {
    model_names(&[mirror.folder().to_owned()]).unwrap()
}

fn content(mirror: &Mirror, path: &str) -> Vec<u8> {
    fs::read(mirror.folder().join(path)).unwrap()
}

#[test]
fn only_what_is_new_or_changed_is_read() {
    let large: Vec<u8> = (0..2 * PART_BYTES + 7).map(|it| (it % 251) as u8).collect();
    let store = Fixture::new(&[
        ("models/m/config.pbtxt", b"a"),
        ("models/m/1/model.onnx", &large),
        ("models/n/1/model.onnx", b"n"),
        ("models/README.md", b"no model"),
        ("models/.git/1/model.onnx", b"hidden"),
        ("models2/o/1/model.onnx", b"another prefix"),
    ]);
    let mirror = store.open(Copied::All);
    assert_eq!(store.refresh(&mirror), "");
    assert_eq!(names(&mirror), ["m", "n"]);
    assert!(content(&mirror, "m/1/model.onnx") == large);
    let mut read = store.read();
    read.sort();
    let parts = ["models/m/1/model.onnx"; 3];
    assert_eq!(read, [&parts[..], &["models/m/config.pbtxt", "models/n/1/model.onnx"]].concat());
    assert_eq!((store.refresh(&mirror), store.read().len()), (String::new(), 0), "nothing changed");
    let inode = |path: &str| fs::metadata(mirror.folder().join(path)).unwrap().ino();
    let before = inode("m/1/model.onnx");
    store.put("models/m/config.pbtxt", b"b");
    store.delete("models/n/1/model.onnx");
    assert_eq!(store.refresh(&mirror), "");
    assert_eq!((store.read(), names(&mirror)), (vec!["models/m/config.pbtxt".to_owned()], vec!["m".to_owned()]));
    assert_eq!((content(&mirror, "m/config.pbtxt"), inode("m/1/model.onnx")), (b"b".to_vec(), before));
}

#[test]
fn a_copy_outlives_the_process_and_belongs_to_one() {
    let store = Fixture::new(&[("models/m/1/model.onnx", b"m"), ("models/n/1/model.onnx", b"n")]);
    let mirror = store.open(Copied::All);
    assert_eq!((store.refresh(&mirror), store.read().len()), (String::new(), 2));
    let error = store.try_open(Copied::All, 1).unwrap_err().to_string();
    assert!(
        error.contains("belongs to another server that runs: give this one its own --object-store-cache"),
        "{error}"
    );
    drop(mirror);
    let mirror = store.open(Copied::All);
    assert_eq!((store.refresh(&mirror), store.read().len()), (String::new(), 0));
    // What a process that was killed may leave, and what the store does not have.
    fs::write(mirror.folder().join("m/1/model.onnx"), "").unwrap();
    fs::rename(mirror.folder().join("n"), mirror.folder().join(".old")).unwrap();
    fs::create_dir_all(mirror.folder().join(".new/1")).unwrap();
    fs::create_dir_all(mirror.folder().join("unknown/1")).unwrap();
    drop(mirror);
    let mirror = store.open(Copied::All);
    assert_eq!((store.refresh(&mirror), store.read().len()), (String::new(), 2));
    assert_eq!(
        (content(&mirror, "m/1/model.onnx"), content(&mirror, "n/1/model.onnx")),
        (b"m".to_vec(), b"n".to_vec())
    );
    assert_eq!(names(&mirror), ["m", "n"]);
    let mut left: Vec<_> = fs::read_dir(mirror.folder()).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".copied.json", ".lock", "m", "n"]);
}

#[test]
fn a_model_that_changes_while_it_is_copied_is_of_one_moment() {
    let large = |byte| vec![byte; 3 * PART_BYTES as usize];
    let store = Fixture::new(&[("models/m/1/data", &large(1)), ("models/m/1/model.onnx", b"1")]);
    let mirror = store.open(Copied::All);
    // While it is read: the first part is of the old version.
    *store.store.meanwhile.lock() = vec![("models/m/1/data", large(2)), ("other/x", vec![])];
    assert_eq!(store.refresh(&mirror), "");
    assert!(content(&mirror, "m/1/data") == large(2));
    // After it was taken, while another object is read.
    store.put("models/m/1/model.onnx", b"2");
    *store.store.meanwhile.lock() = vec![("models/m/1/data", large(3))];
    assert_eq!(store.refresh(&mirror), "");
    assert!(content(&mirror, "m/1/data") == large(3));
    // One that never rests leaves the copy as it was.
    *store.store.meanwhile.lock() = (0..9).map(|it| ("models/m/1/model.onnx", vec![it; 2])).collect();
    store.put("models/m/1/model.onnx", b"3");
    let error = store.refresh(&mirror);
    assert_eq!(
        error,
        "cannot copy model 'm' of s3://bucket/models: its objects change while they are copied: the next look at the store tries again"
    );
    assert_eq!(content(&mirror, "m/1/model.onnx"), b"2");
    store.store.meanwhile.lock().clear();
    assert_eq!((store.refresh(&mirror), content(&mirror, "m/1/model.onnx").len()), (String::new(), 2));
}

#[test]
fn models_beyond_the_limit_are_not_copied_and_others_are() {
    let store = Fixture::new(&[("models/a/1/model.onnx", b"12345"), ("models/b/1/model.onnx", b"1234567")]);
    let mirror = store.try_open(Copied::All, 10).unwrap();
    let error = store.refresh(&mirror);
    assert_eq!(
        error,
        "cannot copy model 'b' of s3://bucket/models: it has 7 bytes, and the other copies have 5, which is more than --object-store-max-bytes 10"
    );
    assert_eq!((names(&mirror), store.read()), (vec!["a".to_owned()], vec!["models/a/1/model.onnx".to_owned()]));
    store.put("models/b/1/model.onnx", b"12345");
    assert_eq!((store.refresh(&mirror), names(&mirror).len()), (String::new(), 2));
}

#[test]
fn models_that_are_loaded_by_name_are_copied_then() {
    let store = Fixture::new(&[("models/m/1/model.onnx", b"m"), ("models/n/1/model.onnx", b"n")]);
    let mirror = store.open(Copied::Loaded);
    assert_eq!(
        (store.refresh(&mirror), store.read().len(), mirror.names()),
        (String::new(), 0, vec!["m".into(), "n".into()])
    );
    assert_eq!((store.fetch(&mirror, "m"), store.fetch(&mirror, "nosuch")), (String::new(), String::new()));
    assert_eq!((names(&mirror), store.read()), (vec!["m".to_owned()], vec!["models/m/1/model.onnx".to_owned()]));
    store.put("models/m/1/model.onnx", b"m2");
    assert_eq!((store.fetch(&mirror, "m"), content(&mirror, "m/1/model.onnx")), (String::new(), b"m2".to_vec()));
    store.delete("models/m/1/model.onnx");
    assert_eq!((store.fetch(&mirror, "m"), names(&mirror).len()), (String::new(), 0));
}

#[test]
fn empty_objects_that_stand_for_folders_are_folders() {
    let store = Fixture::new(&[
        ("models/ensemble/config.pbtxt", b"c"),
        ("models/ensemble/1", b""),
        ("models/m/1", b""),
        ("models/m/1/model.onnx", b"m"),
        ("models/m/1/empty", b""),
    ]);
    let mirror = store.open(Copied::All);
    assert_eq!(store.refresh(&mirror), "");
    assert!(mirror.folder().join("ensemble/1").is_dir() && mirror.folder().join("m/1/empty").is_file());
    assert_eq!((content(&mirror, "m/1/model.onnx"), store.read().len()), (b"m".to_vec(), 2));
    assert_eq!((store.refresh(&mirror), store.read().len()), (String::new(), 0));
    // An object and others below it cannot both be files.
    store.put("models/m/1", b"file");
    let error = store.refresh(&mirror);
    assert!(error.starts_with("cannot copy model 'm' of s3://bucket/models: cannot write FOLDER: "), "{error}");
    assert_eq!(content(&mirror, "m/1/model.onnx"), b"m");
}

#[test]
fn an_empty_prefix_is_an_error_and_removes_what_was_deleted() {
    let store = Fixture::new(&[("model/m/1/model.onnx", b"m"), ("models/README.md", b"")]);
    let mirror = store.open(Copied::All);
    let nothing =
        "cannot read s3://bucket/models: there is nothing in a folder below it: check the bucket and the prefix";
    assert_eq!(store.refresh(&mirror), nothing);
    store.put("models/m/1/model.onnx", b"m");
    assert_eq!((store.refresh(&mirror), names(&mirror).len()), (String::new(), 1));
    store.delete("models/m/1/model.onnx");
    assert_eq!((store.refresh(&mirror), names(&mirror).len()), (nothing.to_owned(), 0));
}

#[test]
fn each_address_has_its_own_folder() {
    let all =
        ["s3://bucket/models", "s3://bucket-models", "gs://bucket/models", "s3://bucket/models/"].map(folder_name);
    assert!(all[0].starts_with("s3---bucket-models-") && all.iter().all(|name| !name.contains('/')), "{all:?}");
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}
