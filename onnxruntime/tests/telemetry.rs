//! The one test of this process, so that nothing else uses the environment meanwhile.

use std::env;

use quintet_onnxruntime::disable_telemetry;

#[test]
fn telemetry_is_off_unless_someone_has_decided() {
    // SAFETY: the only other thread of this process waits for this test.
    unsafe {
        env::remove_var("ORT_DISABLE_TELEMETRY");
        disable_telemetry();
        assert_eq!(env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
        env::set_var("ORT_DISABLE_TELEMETRY", "0");
        disable_telemetry();
    }
    assert_eq!(env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("0"));
}
