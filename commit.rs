//! The build script of the server and the benchmark: notes the commit that the program is built from.

#![allow(clippy::print_stdout, reason = "that is how cargo is spoken to")]

use std::process::Command;

fn main() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    println!("cargo::rerun-if-changed=../commit.rs");
    // Where HEAD moves; without git there is no commit to note.
    for log in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", log]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // A build without the repository, as that of an image, may name the commit.
    println!("cargo::rerun-if-env-changed=QUINTET_COMMIT");
    let named = std::env::var("QUINTET_COMMIT").ok();
    let commit = named.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])).unwrap_or_default();
    println!("cargo::rustc-env=QUINTET_COMMIT={commit}");
}
