//! The versions of the libraries that run a session: ONNX Runtime, and on a GPU CUDA, TensorRT and the driver.

use std::ffi::c_int;

use libloading::os::unix::{Library, RTLD_NOW};
use quintet_onnxruntime::Loaded;

use super::provider::Provider;
use crate::observe::gpu;

/// Names of CUDA's runtime library, the newest first.
const CUDA: [&str; 3] = ["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"];
/// Names of TensorRT's library, the newest first.
const TENSORRT: [&str; 3] = ["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8"];

/// Names and versions of the libraries that run a session on this provider. One that does not say its version is left out.
pub(super) fn of_session(library: &Loaded, provider: Provider) -> Vec<(String, String)> {
    let mut versions = vec![("onnxruntime", Some(library.version()))];
    if provider != Provider::Cpu {
        versions.push(("cuda", loaded(&CUDA).as_ref().and_then(cuda)));
        if provider == Provider::TensorRt {
            versions.push(("tensorrt", loaded(&TENSORRT).as_ref().and_then(tensorrt)));
        }
        versions.push(("nvidia-driver", gpu::driver()));
    }
    let known = versions.into_iter().filter_map(|(name, version)| Some((name.to_owned(), version?)));
    known.filter(|(_, version)| !version.contains(char::is_whitespace)).collect()
}

/// The first of these libraries that this process has loaded.
fn loaded(names: &[&str]) -> Option<Library> {
    let open = |name: &&str| {
        // SAFETY: with RTLD_NOLOAD the system returns a library that is loaded already, or fails: no initialiser runs. The
        // handle counts as one more user of the library, so it stays loaded while `Library` exists.
        unsafe { Library::open(Some(*name), RTLD_NOW | libc::RTLD_NOLOAD) }.ok()
    };
    names.iter().find_map(open)
}

/// The version of CUDA's runtime, e.g. `12.8`.
fn cuda(library: &Library) -> Option<String> {
    // SAFETY: `cudaError_t cudaRuntimeGetVersion(int*)` in all versions of the library; it writes one int, to `version`, and
    // keeps no pointer to it.
    let (error, version) = unsafe {
        let function = library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cudaRuntimeGetVersion\0").ok()?;
        let mut version: c_int = 0;
        (function(&raw mut version), version)
    };
    (error == 0).then(|| cuda_text(version))
}

/// The version of TensorRT, e.g. `10.9.0`.
fn tensorrt(library: &Library) -> Option<String> {
    // SAFETY: `int32_t getInferLibVersion()` in all versions of the library; it has no arguments and no effect.
    let version = unsafe {
        let function = library.get::<unsafe extern "C" fn() -> i32>(b"getInferLibVersion\0").ok()?;
        function()
    };
    Some(tensorrt_text(version))
}

/// CUDA's number is 1000 × major + 10 × minor.
fn cuda_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// TensorRT's number is 10,000 × major + 100 × minor + patch; before version 10 it was 1,000 × major.
fn tensorrt_text(version: i32) -> String {
    let unit = if version < 10_000 { 1_000 } else { 10_000 };
    format!("{}.{}.{}", version / unit, version % unit / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quintet_onnxruntime::ThreadPool;

    #[test]
    fn numbers_are_read_as_the_libraries_count_them() {
        assert_eq!([cuda_text(12_080), cuda_text(13_000), cuda_text(11_080)], ["12.8", "13.0", "11.8"]);
        assert_eq!(
            [tensorrt_text(100_900), tensorrt_text(101_302), tensorrt_text(8_601)],
            ["10.9.0", "10.13.2", "8.6.1"]
        );
    }

    #[test]
    fn only_loaded_libraries_are_asked() {
        assert!(loaded(&["libquintet-none.so.1"]).is_none());
        let library = loaded(&["libquintet-none.so.1", "libc.so.6"]).unwrap();
        assert_eq!((cuda(&library), tensorrt(&library)), (None, None), "it has no such function");
    }

    #[test]
    fn a_session_on_the_cpu_names_onnx_runtime_alone() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let [(name, version)] = &of_session(library, Provider::Cpu)[..] else { panic!("one library") };
        assert_eq!((name.as_str(), version.split('.').next()), ("onnxruntime", Some("1")));
    }
}
