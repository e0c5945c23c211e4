//! In Triton's place: its clients, unmodified, against its repository and its flags.

use crate::server::{Suite, small_models};

#[test]
fn clients_load_and_unload_models() {
    let models = small_models();
    let server = Suite::triton(models.path(), &["--model-control-mode=explicit", "--load-model=identity"]);
    let told = server.python("repository.py", &[models.path().to_str().unwrap()]);
    assert!(told.ends_with("repository ok\n"), "{told}");
}
