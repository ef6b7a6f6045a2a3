//! The VMs.

use askama::Template;
use axum::extract::{RawQuery, State};

use super::{Shell, page};
use crate::app::App;
use crate::failure::Answer;
use crate::filter::{self, For};
use crate::shown::{Choice, VmRow, choices};
use crate::walk;

#[derive(Template)]
#[template(path = "vms.html")]
struct Vms {
    shell: Shell,
    states: Vec<Choice>,
    job: String,
    name: String,
    backend: String,
    since: String,
    until: String,
    rows: Vec<VmRow>,
    is_narrow: bool,
    /// By what, in words.
    narrowed: String,
    is_first: bool,
    beginning: String,
    next: Option<String>,
}

pub(crate) async fn vms(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let filter = filter::vms(query.as_deref(), &*app.options.clock, For::Page)?;
    let from = app.followed_from().await;
    let listed = walk::vms(&*app.backend, &filter.query).await?;
    let now = app.now();
    page(&Vms {
        shell: Shell::new(&app, "VMs", "vms").followed(from.as_ref(), ""),
        states: choices(&filter.query.states),
        job: filter.field("job"),
        name: filter.field("name"),
        backend: filter.field("backend"),
        since: filter.field("since"),
        until: filter.field("until"),
        rows: listed.items.iter().map(|vm| VmRow::new(vm, now)).collect(),
        is_narrow: filter.is_narrow(),
        narrowed: filter.narrowed(),
        is_first: filter.after.is_none(),
        beginning: filter.beginning(),
        next: listed.next.map(|next| filter.next(&next)),
    })
}
