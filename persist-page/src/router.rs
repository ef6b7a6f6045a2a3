//! What is at which address.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use persist::Persist;

use crate::app::App;
use crate::options::Options;
use crate::{api, assets, guard, live, pages, probes};

/// The pages, the JSON and the probes over a store, for a server of one's own, or for [`serve`](crate::serve). The handle is only
/// read through; who made it closes it. Its paths are absolute: give it a host of its own and no prefix.
pub fn router(persist: Persist, options: Options) -> Router {
    let app = App::new(persist, options);
    let asking = Router::new()
        .route("/", get(pages::jobs))
        .route("/jobs", get(pages::jobs))
        .route("/jobs/{id}", get(pages::job))
        .route("/find", get(pages::find))
        .route("/vms", get(pages::vms))
        .route("/orphans", get(pages::orphans))
        .route("/stats", get(pages::stats))
        .route("/health", get(pages::health))
        .route("/api/v1/jobs", get(api::jobs))
        .route("/api/v1/jobs/{id}", get(api::job))
        .route("/api/v1/vms", get(api::vms))
        .route("/api/v1/orphans", get(api::orphans))
        .route("/api/v1/refusals", get(api::refusals))
        .route("/api/v1/stats", get(api::stats))
        .route("/api/v1/health", get(api::health))
        .route("/api/v1/events", get(live::events))
        .route("/live", get(live::brief))
        .layer(from_fn_with_state(app.clone(), guard::bound));
    Router::new()
        .merge(asking)
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .route("/assets/{name}", get(assets::asset))
        .fallback(api::nothing)
        .layer(from_fn_with_state(app.clone(), guard::dress))
        .with_state(app)
}
