//! The page at `/`: a photograph asked on every lane, side by side, and what the services do.
//!
//! A browser speaks no gRPC, and the lanes' ports are other origins to it. So the server asks its own lanes, as a client
//! over their sockets: whatever stands between a client and a lane stands between the page and a lane.

mod ask;
mod asker;
mod connection;
mod files;
mod lane;
mod request;
mod runs;
mod state;
mod status;

use std::{io, path::PathBuf, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};

use self::{asker::Asker, state::Page};
pub use self::{
    asker::Limits,
    lane::{Lane, Protocol},
};

/// The routes of a page that asks these lanes, and shows the runs of the benchmark in the folder `results`.
///
/// # Errors
/// When the page's thread cannot be started.
pub fn router(lanes: Vec<Lane>, results: PathBuf, limits: Limits) -> io::Result<Router> {
    let page = Page { lanes, asker: Asker::start(limits)?, results };
    Ok(Router::new()
        .route("/", get(files::index))
        .route("/page/files/{file}", get(files::file))
        .route("/page/ask", post(ask::ask))
        .route("/page/status", get(status::status))
        .route("/page/metrics/{service}", get(status::metrics))
        .route("/page/runs", get(runs::list))
        .route("/page/runs/{run}/{file}", get(runs::file))
        .with_state(Arc::new(page)))
}
