//! The link between client and server: emulated in user space, or measured.
//!
//! [`LinkSpec`] says what a link is, [`model`] when each byte arrives on it (pure, in virtual time), [`proxy`]
//! holds real bytes back until then, [`clock`] wakes it up on time. [`measure`] finds out what a real one is
//! like, with the help of [`tcp_info`].

use std::io;

use crate::{client::target::Target, link::proxy::Proxy, model::link::LinkSpec};

pub mod clock;
pub mod measure;
pub mod model;
pub mod proxy;
pub mod tcp_info;

/// Puts one emulated link between the client and all `targets`, which share its rates. It is there as long
/// as the proxies are.
///
/// # Errors
/// When no port can be bound.
pub async fn between(spec: LinkSpec, seed: u64, targets: &mut [Target]) -> io::Result<Vec<Proxy>> {
    let link = proxy::EmulatedLink::new(spec, seed)?;
    let mut proxies = Vec::with_capacity(targets.len());
    for target in targets {
        if let Some(path) = target.endpoint.socket() {
            let reason = format!("{} is on this machine: a link goes to a TCP address", path.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let proxy = Proxy::start(link.clone(), target.endpoint.clone()).await?;
        target.endpoint = target.endpoint.clone().through(proxy.address);
        proxies.push(proxy);
    }
    Ok(proxies)
}
