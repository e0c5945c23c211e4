//! `cargo xtask under-fire`: attacks the server as strangers would, and prints what it cost: memory, time of health
//! probes, goodput under overload.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{
    process::{exit_code, run},
    project::{program, root},
    server::{Server, TRITON},
    setup::setup,
    suite::{MODELS, prepare},
};

/// The limit on connections of each listener, the server's default.
const MAX_CONNECTIONS: u32 = 1024;

/// Serves `arch` and a model that computes almost nothing, with this build and with the other programs `against`
/// (`NAME=PATH` of a `quintet-server`), and returns the exit status of `under_fire.py`. Makes the attacks whose names match
/// the regular expression `only`; each load takes `seconds`.
///
/// # Errors
/// When a build fails, or a server does not become ready.
pub(crate) fn under_fire(arch: &str, only: &str, seconds: u32, against: &[String]) -> anyhow::Result<ExitCode> {
    setup(true)?;
    let own = prepare(arch)?;
    let folder = std::env::temp_dir().join(format!("quintet-under-fire-{}", std::process::id()));
    let output = folder.to_str().context("the path of the folder for temporary files is not UTF-8")?;
    run(program("release", "quintet-models"), &["passthrough", "--output", output])?;
    let mut programs = Vec::new();
    for other in against {
        let (name, path) = other.split_once('=').with_context(|| format!("`{other}` is not NAME=PATH"))?;
        programs.push((name, PathBuf::from(path)));
    }
    programs.push(("quintet", own));
    let mut servers = programs
        .iter()
        .map(|(name, path)| Ok((*name, start(path, &folder, arch)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let described = servers.iter().map(|(name, server)| {
        let ports = TRITON.map(|listener| server.ports()[listener].to_string());
        format!("{name}={},{}", server.pid(), ports.join(","))
    });
    let status = Command::new(root().join(".quintet/venv/bin/python"))
        .arg(root().join("xtask/python/under_fire.py"))
        .args([only, arch, &MAX_CONNECTIONS.to_string(), &seconds.to_string()])
        .args(described)
        .status()
        .context("cannot start under_fire.py")?;
    for (_, server) in &mut servers {
        server.stop()?;
    }
    let _ = std::fs::remove_dir_all(&folder);
    Ok(exit_code(status))
}

/// Starts the server `program` in Triton mode with the models of both repositories.
fn start(program: &Path, passthrough: &Path, arch: &str) -> anyhow::Result<Server> {
    let mut command = Command::new(program);
    command.args(["--model-repository", MODELS, "--model-repository"]).arg(passthrough);
    command.args(["--model-control-mode=explicit", "--load-model", arch, "--load-model=identity"]);
    command.arg(format!("--max-connections={MAX_CONNECTIONS}")).current_dir(root());
    Server::start(command, &TRITON)
}
