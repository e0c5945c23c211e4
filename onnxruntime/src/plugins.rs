//! Execution providers in plug-in libraries: registered once, with the devices that they list and the reason for one that fails.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char},
    path::Path,
    sync::Mutex,
};

use ort::{AsPointer as _, device::Device, environment::Environment, memory::DeviceType};

use crate::{message::one_line, preload};

/// What became of each library, by the name that it was registered with.
#[derive(Debug, Default)]
pub(crate) struct Plugins(Mutex<BTreeMap<String, Result<(), String>>>);

impl Plugins {
    /// Registers a library unless one was registered with this name, whose outcome it then returns.
    pub(crate) fn register(&self, environment: &Environment, name: &str, path: &Path) -> Result<(), String> {
        let mut outcomes = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let register = || {
            // The dynamic loader searches its own folders for a path without a slash.
            let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
            if let Some(folder) = path.parent() {
                preload::beside_plugin(folder);
            }
            environment.register_ep_library(name, &path).map_err(|error| one_line(error.message()))
        };
        outcomes.entry(name.to_owned()).or_insert_with(register).clone()
    }

    /// Whether any library is registered.
    pub(crate) fn any(&self) -> bool {
        self.all().iter().any(|(_, outcome)| outcome.is_ok())
    }

    /// Every library and its outcome.
    pub(crate) fn all(&self) -> Vec<(String, Result<(), String>)> {
        let outcomes = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        outcomes.iter().map(|(name, outcome)| (name.clone(), outcome.clone())).collect()
    }
}

/// A device as a provider's library lists it.
pub struct ListedDevice {
    /// For [`ort::session::builder::SessionBuilder::with_devices`].
    pub device: Device<'static>,
    /// The provider, e.g. `OpenVINOExecutionProvider`.
    pub provider: String,
    /// `CPU`, `GPU` or `NPU`.
    pub kind: &'static str,
    /// Who made the device.
    pub vendor: String,
    /// The device's own name, where the provider gives it; else empty.
    pub name: String,
    /// The version of the provider; empty if it gives none.
    pub version: String,
}

/// Every device that the providers of an environment list, ONNX Runtime's own CPU provider first.
pub(crate) fn devices(environment: &'static Environment) -> Vec<ListedDevice> {
    environment.devices().map(listed).collect()
}

fn listed(device: Device<'static>) -> ListedDevice {
    let hardware = device.hardware_device();
    let kind = match hardware.ty() {
        DeviceType::GPU => "GPU",
        DeviceType::NPU => "NPU",
        _ => "CPU",
    };
    ListedDevice {
        provider: device.ep().unwrap_or_default().to_owned(),
        kind,
        vendor: hardware.vendor().unwrap_or_default().to_owned(),
        name: metadata(&device, c"FULL_DEVICE_NAME"),
        version: metadata(&device, c"version"),
        device,
    }
}

/// What the provider says of its device under this key; empty if it says nothing.
fn metadata(device: &Device<'_>, key: &CStr) -> String {
    let api = ort::api();
    // SAFETY: the device belongs to the environment, which lives as long as the process and owns the pairs.
    let pairs = unsafe { (api.EpDevice_EpMetadata)(device.ptr()) };
    if pairs.is_null() {
        return String::new();
    }
    // SAFETY: the pairs are alive and the key ends with NUL; the pairs own the value.
    let value: *const c_char = unsafe { (api.GetKeyValue)(pairs, key.as_ptr()) };
    if value.is_null() {
        return String::new();
    }
    // SAFETY: ONNX Runtime's values end with NUL, and nothing changes them after the library was registered.
    unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use crate::{ThreadPool, load};

    #[test]
    fn a_library_that_fails_keeps_its_reason() {
        let library = load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let reason = library.register("nowhere", "/no/such/library.so".as_ref()).unwrap_err();
        assert_eq!(reason, "/no/such/library.so: No such file or directory (os error 2)");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("library.so");
        std::fs::write(&file, "no library").unwrap();
        let reason = library.register("text", &file).unwrap_err();
        assert!(reason.contains("library.so") && !reason.contains('\n'), "{reason}");
        assert_eq!(library.register("text", "/another".as_ref()), Err(reason));
        assert!(library.plugins().iter().all(|(_, outcome)| outcome.is_err()) && !library.has_plugins());
        let devices = library.devices();
        assert_eq!(
            devices.iter().map(|it| (&*it.provider, it.kind)).collect::<Vec<_>>(),
            [("CPUExecutionProvider", "CPU")]
        );
    }
}
