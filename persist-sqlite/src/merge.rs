//! How one claim is merged: its slot, then its row.
//!
//! Runs inside a transaction that held the lock from its beginning, so that no other writer comes between.

use persist_core::merge::{Fill, outcome_of_held};
use persist_core::{Bell, Claim, Outcome};
use rusqlite::Connection;

use crate::error::Failed;
use crate::flush::Work;
use crate::rows::Rows;
use crate::slots::Slots;

/// The work of a store: what waits is merged, in its order.
#[derive(Debug, Default)]
pub(crate) struct Merging {
    /// For who watches the store.
    pub(crate) bell: Bell,
}

impl Work for Merging {
    type Item = Vec<Claim>;
    type Answer = Vec<Outcome>;

    const NAME: &'static str = "sqlite";

    fn updates(claims: &Vec<Claim>) -> usize {
        claims.len()
    }

    fn work(&self, connection: &Connection, items: &[&Vec<Claim>]) -> Result<Vec<Vec<Outcome>>, Failed> {
        let mut merge = Merge::begin(connection)?;
        let mut all = Vec::with_capacity(items.len());
        for claims in items {
            let each = claims.iter().map(|claim| merge.one(claim));
            all.push(each.collect::<Result<Vec<_>, _>>()?);
        }
        merge.finish()?;
        Ok(all)
    }

    fn committed(&self, _: &Connection, _: &[&Vec<Claim>]) {
        self.bell.ring();
    }

    fn in_doubt(&self) {
        self.bell.ring();
    }
}

/// Merges claims in the transaction that the connection is in.
pub(crate) struct Merge<'c, 'f> {
    slots: Slots<'c>,
    jobs: Rows<'c, 'f>,
    vms: Rows<'c, 'f>,
}

impl<'c, 'f> Merge<'c, 'f> {
    pub(crate) fn begin(connection: &'c Connection) -> Result<Self, Failed> {
        Ok(Self {
            slots: Slots::begin(connection)?,
            jobs: Rows::of_jobs(connection)?,
            vms: Rows::of_vms(connection)?,
        })
    }

    pub(crate) fn one(&mut self, claim: &'f Claim) -> Result<Outcome, Failed> {
        let (slots, subject) = (&mut self.slots, claim.subject());
        let rows = if subject.is_vm() {
            &mut self.vms
        } else {
            &mut self.jobs
        };
        if slots.claim(claim)? {
            let joined = rows.join(subject, claim)?;
            return Ok(if joined.is_forward {
                Outcome::Applied {
                    created: joined.is_new,
                }
            } else {
                Outcome::Late {
                    current: joined.current,
                }
            });
        }
        let mut slot = slots.standing(claim)?;
        let fill = slot.fill(claim);
        let mut current = rows.current(subject)?;
        if fill == Fill::Filled {
            slots.fill(claim)?;
            current = rows.join(subject, &slot)?.current;
        }
        Ok(outcome_of_held(fill, slot.state, current))
    }

    /// Writes what is held until now: rows, and the numbers that were given.
    pub(crate) fn finish(self) -> Result<(), Failed> {
        self.jobs.finish()?;
        self.vms.finish()?;
        self.slots.finish()
    }
}
