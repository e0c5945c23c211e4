//! Emulates or measures the link between client and server.
//!
//! [`LinkSpec`] describes a link. [`model`] computes when each byte arrives (pure, in virtual time), [`proxy`] delays real
//! bytes until then, and [`clock`] wakes it on time. [`measure`] measures a real link, with [`tcp_info`].

use std::io;

use crate::{client::target::Target, link::proxy::Proxy, model::link::LinkSpec};

pub mod clock;
pub mod measure;
pub mod model;
pub mod proxy;

/// Puts one emulated link between the client and all `targets`, which share its rates. It lasts as long as the proxies.
///
/// # Errors
/// When no port can be bound.
pub async fn between(spec: LinkSpec, seed: u64, targets: &mut [Target]) -> io::Result<Vec<Proxy>> {
    let link = proxy::EmulatedLink::new(spec, seed)?;
    let mut proxies = Vec::with_capacity(targets.len());
    for target in targets {
        if let Some(path) = target.endpoint.socket() {
            let reason =
                format!("{} is a Unix domain socket: a link is emulated for TCP addresses only", path.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let proxy = Proxy::start(link.clone(), target.endpoint.clone()).await?;
        target.endpoint = target.endpoint.clone().through(proxy.address, spec.rtt);
        proxies.push(proxy);
    }
    Ok(proxies)
}
