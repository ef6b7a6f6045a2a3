//! VMs: the current row and the query over it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::attributes::Attribute;
use crate::cursor::{self, Cursor, Position};
use crate::error::Result;
use crate::limits;
use crate::merge::Row;
use crate::page::{IdRange, Order, TimeRange};
use crate::state::{State, VmState};
use crate::subject::VmKey;
use crate::time::{self, Timestamp};

/// A VM as it stands: the fold of its slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Vm {
    /// The job that it was booted for.
    pub request_id: Uuid,
    /// Its libvirt domain.
    pub domain_name: String,
    /// State of the highest slot.
    pub state: VmState,
    /// Attempt of the highest slot: the VM's own starts, independent of the job's attempts.
    pub attempt: Attempt,
    /// Hypervisor back end; `None` until an update brings it.
    pub backend: Option<String>,
    /// Disk overlay.
    pub overlay_path: Option<String>,
    /// Cloud-init seed image.
    pub seed_path: Option<String>,
    /// The earliest `at` of any slot.
    #[serde(with = "time::rfc3339")]
    pub created_at: Timestamp,
    /// The latest `at` of any slot.
    #[serde(with = "time::rfc3339")]
    pub updated_at: Timestamp,
}

impl Vm {
    /// A VM of one slot, without attributes; set those that are known. For backends.
    pub fn new(key: VmKey, state: VmState, attempt: Attempt, at: Timestamp) -> Self {
        Self {
            request_id: key.request_id,
            domain_name: key.domain_name,
            state,
            attempt,
            backend: None,
            overlay_path: None,
            seed_path: None,
            created_at: at,
            updated_at: at,
        }
    }

    /// The VM of a folded history, or `None` if the row is a job's.
    pub fn from_row(key: VmKey, row: &Row) -> Option<Self> {
        let State::Vm(state) = row.state else { return None };
        let attribute = |attribute| row.attributes.get(attribute).map(str::to_owned);
        Some(Self {
            request_id: key.request_id,
            domain_name: key.domain_name,
            state,
            attempt: row.rank.attempt(),
            backend: attribute(Attribute::Backend),
            overlay_path: attribute(Attribute::OverlayPath),
            seed_path: attribute(Attribute::SeedPath),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }

    /// Its key.
    pub fn key(&self) -> VmKey {
        VmKey::new(self.request_id, self.domain_name.clone())
    }
}

/// Which VMs, in which order, how many. Filters are joined by "and"; an empty one lets everything pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VmQuery {
    /// The VMs of this job.
    pub request_id: Option<Uuid>,
    /// VMs of this name, to the byte.
    pub domain_name: Option<String>,
    /// Any of these; empty for all.
    pub states: Vec<VmState>,
    /// This hypervisor back end, to the byte.
    pub backend: Option<String>,
    /// `created_at` in this range.
    pub created: TimeRange,
    /// `request_id` in this range.
    pub ids: IdRange,
    /// The order of the listing.
    pub order: Order,
    /// Continue after this cursor of a query in the same order.
    pub after: Option<Cursor>,
    /// Rows of the page: 1 to 1,000, 50 unless set.
    pub limit: u32,
}

impl Default for VmQuery {
    fn default() -> Self {
        Self {
            request_id: None,
            domain_name: None,
            states: Vec::new(),
            backend: None,
            created: TimeRange::default(),
            ids: IdRange::default(),
            order: Order::default(),
            after: None,
            limit: limits::PAGE,
        }
    }
}

impl VmQuery {
    /// The VMs of this job.
    #[must_use]
    pub fn request_id(mut self, request_id: Uuid) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// VMs of this name.
    #[must_use]
    pub fn domain_name(mut self, domain_name: impl Into<String>) -> Self {
        self.domain_name = Some(domain_name.into());
        self
    }

    /// Any of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = VmState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// This hypervisor back end.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<String>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Created in this range.
    #[must_use]
    pub fn created(mut self, created: TimeRange) -> Self {
        self.created = created;
        self
    }

    /// With job ids in this range.
    #[must_use]
    pub fn ids(mut self, ids: IdRange) -> Self {
        self.ids = ids;
        self
    }

    /// In this order.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// After this cursor.
    #[must_use]
    pub fn after(mut self, after: Option<Cursor>) -> Self {
        self.after = after;
        self
    }

    /// At most this many rows.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Normalises the filters as stored values are. Every backend calls this first.
    ///
    /// # Errors
    /// `InvalidInput` naming the field.
    pub fn check(&self) -> Result<Self> {
        let query = Self {
            request_id: self.request_id,
            domain_name: limits::text("domain_name", self.domain_name.clone(), limits::DOMAIN_NAME_BYTES)?,
            states: self.states.clone(),
            backend: limits::text("backend", self.backend.clone(), limits::BACKEND_BYTES)?,
            created: self.created.check()?,
            ids: self.ids,
            order: self.order,
            after: self.after.clone(),
            limit: limits::page(self.limit)?,
        };
        query.position()?;
        Ok(query)
    }

    /// Where the page begins: the key of the row before it.
    ///
    /// # Errors
    /// `InvalidInput` for a damaged cursor or one of another listing or order.
    pub fn position(&self) -> Result<Option<(Timestamp, VmKey)>> {
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Vm(order, at, id, name)) if order == self.order => {
                Ok(Some((at, VmKey::new(id, name))))
            }
            Some(_) => Err(cursor::foreign()),
        }
    }

    /// The cursor after this row in this query's order.
    pub fn cursor(&self, vm: &Vm) -> Cursor {
        let position = Position::Vm(self.order, vm.created_at, vm.request_id, vm.domain_name.clone());
        Cursor::encode(&position)
    }

    /// Whether the (checked) filters let this VM pass; order, cursor and limit aside.
    pub fn matches(&self, vm: &Vm) -> bool {
        self.request_id.is_none_or(|id| id == vm.request_id)
            && self
                .domain_name
                .as_ref()
                .is_none_or(|name| *name == vm.domain_name)
            && (self.states.is_empty() || self.states.contains(&vm.state))
            && (self.backend.is_none() || self.backend == vm.backend)
            && self.created.contains(vm.created_at)
            && self.ids.contains(vm.request_id)
    }
}
