//! Updates of few subjects from many writers: forward, late, filling, repeated and refused ones, all at once.

use persist_core::{JobState, JobUpdate, StateTable as _, Update, VmState, VmUpdate};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::sample::{at, id};

/// A few updates of one round. All writers of a round meet on its two jobs and their VMs.
pub fn updates(round: u64, random: &mut StdRng) -> Vec<Update> {
    let count = random.random_range(1..=4);
    (0..count).map(|_| update(round, random)).collect()
}

fn update(round: u64, random: &mut StdRng) -> Update {
    // Rounds share their jobs with the next few: a writer that runs ahead meets one that is behind.
    let id = id(1 + (round / 4) + random.random_range(0..2));
    let attempt = random.random_range(1..=2);
    let time = at(random.random_range(0..1_000));
    if random.random_bool(0.3) {
        let state = VmState::TABLE.choose(random).expect("is not empty").state;
        let mut update = VmUpdate::new(id, "vm-1", state).attempt(attempt).at(time);
        if random.random_bool(0.5) {
            update = update.backend(*["libvirt", "bhyve"].choose(random).expect("is not empty"));
        }
        if random.random_bool(0.3) {
            update = update.overlay_path(format!("/var/vm/{}", random.random_range(0..3)));
        }
        return update.into();
    }
    let state = JobState::TABLE.choose(random).expect("is not empty").state;
    let mut update = JobUpdate::new(id, state).attempt(attempt).at(time);
    if random.random_bool(0.5) {
        update = update.runs_on(*["small", "large"].choose(random).expect("is not empty"));
    }
    if random.random_bool(0.3) {
        update = update.commit_sha(format!("{:04x}", random.random_range(0..3)));
    }
    if random.random_bool(0.3) {
        update = update.reason(format!("round {round}"));
    }
    update.into()
}
