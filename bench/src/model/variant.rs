//! A variant of a lane: its connection policy, and the form and transport of its images.

use crate::model::{
    connection::Policy, data::Data, encoding::Encoding, lane::Lane, protocol::Protocol, settings::Settings,
    transport::Transport,
};

/// What is compared under one load: a lane, its connections, and the form of its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// The lane.
    pub lane: Lane,
    /// The connection policy of its requests.
    pub connection: Policy,
    /// The form of its images.
    pub payload: Encoding,
    /// The transport of its tensors.
    pub transport: Transport,
}

impl Variant {
    /// A lane with all defaults.
    pub fn plain(lane: Lane) -> Self {
        let payload = Encoding::default_of(Protocol::of(lane));
        Self { lane, connection: Policy::Reused, payload, transport: Transport::Tcp }
    }

    /// Every combination that the settings select, lane by lane. The first of a lane represents it in tables of lanes.
    pub fn all(settings: &Settings, lanes: &[Lane]) -> Vec<Self> {
        let mut variants = Vec::new();
        for &lane in lanes {
            let protocol = Protocol::of(lane);
            let mut payloads: Vec<_> = settings.payloads.iter().copied().filter(|p| p.fits(protocol)).collect();
            if settings.data != Data::Photos {
                payloads = vec![Encoding::Tensors];
            } else if payloads.is_empty() {
                payloads.push(Encoding::default_of(protocol));
            }
            for &connection in &settings.connections {
                for &payload in &payloads {
                    let fits = |transport: &Transport| transport.fits(lane, payload);
                    let mut transports: Vec<_> = settings.transports.iter().copied().filter(fits).collect();
                    if transports.is_empty() {
                        transports.push(Transport::Tcp);
                    }
                    variants.extend(transports.into_iter().map(|transport| Self {
                        lane,
                        connection,
                        payload,
                        transport,
                    }));
                }
            }
        }
        variants
    }
}
