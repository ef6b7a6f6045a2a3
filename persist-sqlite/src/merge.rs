//! How one claim is merged: its slot, then its row.
//!
//! Runs inside a transaction that held the lock from its beginning, so that no other writer comes between.

use persist_core::merge::{Brings as _, Fill, outcome_of_held};
use persist_core::{Claim, Outcome};
use rusqlite::Connection;

use crate::error::Failed;
use crate::rows::Rows;
use crate::slots::Slots;

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
        let filled = slots.fill(claim)?;
        let standing = slots.standing(claim)?;
        let mut current = rows.current(subject)?;
        let fill = if filled {
            current = rows.join(subject, &standing)?.current;
            Fill::Filled
        } else if standing.state() == claim.state() {
            Fill::Unchanged
        } else {
            Fill::Refused
        };
        Ok(outcome_of_held(fill, standing.state(), current))
    }

    /// Writes what is held until now: rows, and the numbers that were given.
    pub(crate) fn finish(self) -> Result<(), Failed> {
        self.jobs.finish()?;
        self.vms.finish()?;
        self.slots.finish()
    }
}
