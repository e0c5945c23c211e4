//! Set-up shared by `run` and `slo`: emulated link, photographs, Ctrl-C.

use std::path::Path;

use anyhow::Context as _;
use quintet_preprocess::Preparation;

use crate::{
    client::{
        payload::{self, Payload},
        target::Target,
    },
    link::{self, proxy::Proxy},
    model::{data::Data, encoding::Encoding, settings::Settings},
    run::setup::Stop,
};

/// Puts the emulated link of `--link` in front of the lanes.
pub(crate) async fn emulate(settings: &Settings, targets: &mut [Target]) -> anyhow::Result<Vec<Proxy>> {
    match settings.link {
        Some(link) => link::between(link, settings.seed, targets).await.context("--link"),
        None => Ok(Vec::new()),
    }
}

/// The photographs to send, in batches up to the largest, prepared as the model takes them; none if other data is sent.
pub(crate) fn payload(
    settings: &Settings,
    images: Option<&Path>,
    preparation: &Preparation,
    largest_batch: usize,
) -> anyhow::Result<Payload> {
    if settings.data != Data::Photos {
        return Ok(Payload::prepared(&[], 0, preparation)?);
    }
    let photographs = match images {
        Some(folder) => payload::from_folder(folder)?,
        None => payload::compiled_in(),
    };
    let payload = Payload::prepared(&photographs, largest_batch, preparation)?;
    Ok(if settings.payloads.contains(&Encoding::Jpeg224) { payload.with_small()? } else { payload })
}

/// The first Ctrl-C ends the run after the current block, the second at once; a third does not wait for the report.
pub(crate) async fn stop_at_ctrl_c(stop: Stop) {
    if tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("\nstopping after this block; the report keeps what was measured (press Ctrl-C again to stop now)");
        stop.soon.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.now.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}
