//! Flags of what is sent to a model: `--data` and `--shape`.

use anyhow::bail;
use clap::Args;
use quintet_preprocess::Preparation;

use crate::{
    client::target::Target,
    model::{
        data::{Data, InputShape},
        encoding::Encoding,
        protocol::Protocol,
        settings::Settings,
        signature::Signature,
    },
    run::preflight::describe,
    server::description::Description,
};

/// What is sent.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// What is sent: photos, random, zero, or a folder with a file for each input of the model, called NAME.npy, or NAME.bin
    /// or NAME with raw elements; several items in a file are several requests [photos if the model takes images, else
    /// random]. Names, types and shapes come from the server's metadata. Without photographs the jpeg lane is left out.
    #[arg(long, value_name = "photos|random|zero|DIR", help_heading = "Load")]
    pub data: Option<Data>,
    /// Lengths of an input's dynamic dimensions, without the batch or with a batch of 1; repeatable.
    #[arg(long, value_name = "NAME:1,3,224,224", help_heading = "Load")]
    pub shape: Vec<InputShape>,
}

impl DataArgs {
    /// Sets what is sent, and leaves out the lanes that cannot carry it. Asks a server what its model takes.
    ///
    /// # Errors
    /// When flags about images are combined with other data, or no lane is left.
    pub async fn apply(&self, settings: &mut Settings, targets: &mut Vec<Target>) -> anyhow::Result<Taken> {
        let signature = signature(settings, targets).await;
        let images = signature.as_ref().is_none_or(|signature| signature.image_input(encoding(settings)).is_some());
        settings.data = match &self.data {
            Some(data) => data.clone(),
            None if images && self.shape.is_empty() || !settings.payloads.is_empty() => Data::Photos,
            None => {
                eprintln!(
                    "data: random, because {}; --data chooses",
                    if images { "of --shape" } else { "the model takes no images" }
                );
                Data::Random
            }
        };
        settings.shapes.clone_from(&self.shape);
        if settings.data == Data::Photos {
            if !self.shape.is_empty() {
                bail!("--shape is for --data random, zero or a folder: photographs have their own shape");
            }
        } else {
            if !settings.payloads.is_empty() {
                bail!("--payload is for photographs: it cannot be combined with --data {}", settings.data);
            }
            targets.retain(|target| target.protocol() != Protocol::Jpeg);
            if targets.is_empty() {
                bail!("--data {}: no lane is left, because the jpeg lane takes only images", settings.data);
            }
        }
        let largest_batch = signature.as_ref().and_then(Signature::largest_batch);
        let images = signature.as_ref().and_then(|signature| signature.images(Encoding::Fp32));
        Ok(Taken { largest_batch, preparation: images.map_or_else(Preparation::default, |(_, images)| images) })
    }
}

/// What a model takes.
pub struct Taken {
    /// The largest batch, where known.
    pub largest_batch: Option<usize>,
    /// How photographs become the numbers of its input; as torchvision does, if nothing is known.
    pub preparation: Preparation,
}

/// The tensor form of photographs by which a model is asked for.
fn encoding(settings: &Settings) -> Encoding {
    let mut payloads = settings.payloads.iter().copied();
    payloads.find(|payload| payload.fits(Protocol::KserveHttp)).unwrap_or(Encoding::Fp32)
}

/// The inputs and outputs of the model at the first KServe lane that describes them. A lane that does not answer is
/// reported when it is measured.
async fn signature(settings: &Settings, targets: &[Target]) -> Option<Signature> {
    for target in targets.iter().filter(|target| target.protocol() != Protocol::Jpeg) {
        let target = Target { model: encoding(settings).model(&target.model), ..target.clone() };
        if let Ok(Description { signature: Some(signature), .. }) = describe(&target, settings.limits).await {
            return Some(signature);
        }
    }
    None
}
