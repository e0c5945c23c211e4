//! `cargo xtask demo` and `cargo xtask serve`: build the programs and a model, and serve the five lanes.

use std::{
    io::{IsTerminal as _, stderr, stdin},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;

use crate::{
    process::exit_code,
    server::{SUITE, Server},
    suite::{MODELS, bench_command, build_model, prepare, server_command, with_pixels},
};

/// Serves `arch`, also as a model of pixels, on free ports, and shows what the network costs (`quintet-bench demo`). On a terminal
/// it serves on until Ctrl-C, for its page. Returns the benchmark's exit status.
///
/// # Errors
/// When a build fails, or the server does not become ready.
pub(crate) fn demo(arch: &str, extra_args: &[String]) -> anyhow::Result<ExitCode> {
    let server = prepare(arch)?;
    build_model("release", arch, "u8")?;
    let mut server = Server::start(server_command(&server, Path::new(MODELS), &with_pixels(arch)), SUITE)?;
    let mut bench = bench_command("demo", &server, arch);
    let status = bench.args(extra_args).status().context("cannot start the benchmark")?;
    if stdin().is_terminal() && stderr().is_terminal() && status.success() {
        eprintln!("the page, until Ctrl-C: http://127.0.0.1:{}/", server.ports()["jpeg"]);
        server.wait()?;
    } else {
        eprintln!("the page: cargo xtask serve --arch {arch}, then http://127.0.0.1:8002/");
        server.stop()?;
    }
    Ok(exit_code(status))
}

/// Serves `arch`, also as a model of pixels, on the default ports until a signal ends the server.
///
/// # Errors
/// When a build fails.
pub(crate) fn serve(arch: &str, extra_args: &[String]) -> anyhow::Result<ExitCode> {
    let server = prepare(arch)?;
    build_model("release", arch, "u8")?;
    let mut command = server_command(&server, Path::new(MODELS), &with_pixels(arch));
    let status = command.args(extra_args).status().context("cannot start the server")?;
    Ok(exit_code(status))
}
