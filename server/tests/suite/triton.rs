//! In Triton's place: its clients, unmodified, against its repository and its flags.

use crate::server::{Suite, small_models};

#[test]
fn clients_load_and_unload_models() {
    let models = small_models();
    let server = Suite::triton(models.path(), &["--model-control-mode=explicit", "--load-model=identity"]);
    let told = server.python("repository.py", &[models.path().to_str().unwrap()]);
    assert!(told.ends_with("repository ok\n"), "{told}");
}

#[test]
fn tensors_come_and_go_through_shared_memory() {
    let models = small_models();
    for (flag, mode) in [("--allow-client-shm=true", "on"), ("--allow-client-shm=false", "off")] {
        let server = Suite::triton(models.path(), &[flag]);
        let told = server.python("shared_memory.py", &[mode]);
        assert!(told.ends_with("shared memory ok\n"), "{told}");
    }
}

#[test]
fn clients_stream_requests() {
    let models = small_models();
    let server = Suite::triton(models.path(), &[]);
    let told = server.python("streaming.py", &[]);
    assert!(told.ends_with("streaming ok\n"), "{told}");
}
