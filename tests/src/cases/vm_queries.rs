//! What a list of VMs lets pass, and in which order.

use persist_core::VmState::{self, Destroyed, Failed, Prepared, Running, Stopped};
use persist_core::{ErrorKind, IdRange, Order, StateTable as _, TimeRange, VmQuery, VmUpdate};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, day, id, vm};
use crate::walk;

cases! { "vm_queries":
    vms_are_found_by_their_job,
    vms_are_found_by_name,
    vms_are_found_by_each_state,
    vms_are_found_by_any_of_some_states,
    vms_are_found_by_hypervisor,
    vms_are_found_by_the_time_of_their_creation,
    vms_are_found_by_a_range_of_ids,
    filters_are_joined_by_and,
    filters_look_at_the_row_and_not_at_its_history,
    vms_are_listed_in_each_order,
    vms_are_listed_by_creation_and_not_by_update,
    vms_of_one_job_are_paged,
    any_combination_of_filters_means_what_matches_says,
}

/// Six VMs of three jobs, one slot each, ten seconds apart.
async fn fixture(ctx: &Ctx) -> CaseResult {
    let vm = |n: u64, name: &str, state, time| VmUpdate::new(id(n), name, state).at(at(time));
    ctx.apply([
        vm(1, "a", Prepared, 10).backend("libvirt"),
        vm(1, "b", Running, 20).backend("libvirt"),
        vm(2, "a", Stopped, 30).backend("bhyve"),
        vm(2, "c", Failed, 40),
        vm(3, "b", Destroyed, 50).backend("libvirt"),
        vm(3, "d", Prepared, 60).backend("bhyve"),
    ])
    .await?;
    Ok(())
}

/// Job and name of what a query finds, the oldest first, in small pages.
async fn found(ctx: &Ctx, query: VmQuery) -> CaseResult<String> {
    listed(ctx, query.order(Order::OldestFirst)).await
}

async fn listed(ctx: &Ctx, query: VmQuery) -> CaseResult<String> {
    let rows = walk::vms(ctx.backend(), query.limit(2)).await?;
    let label = |vm: &persist_core::Vm| {
        let number = (0..100).find(|n| id(*n) == vm.request_id).unwrap_or_default();
        format!("{number}{}", vm.domain_name)
    };
    Ok(rows.iter().map(label).collect::<Vec<_>>().join(" "))
}

async fn vms_are_found_by_their_job(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    for (n, expected) in [(1, "1a 1b"), (2, "2a 2c"), (3, "3b 3d"), (4, "")] {
        ensure_eq!(
            found(ctx, VmQuery::default().request_id(id(n))).await?,
            expected,
            "the VMs of job {n}"
        );
    }
    Ok(())
}

async fn vms_are_found_by_name(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    for (name, expected) in [("a", "1a 2a"), ("b", "1b 3b"), ("c", "2c"), ("A", ""), ("ab", "")] {
        ensure_eq!(
            found(ctx, VmQuery::default().domain_name(name)).await?,
            expected,
            "VMs named {name}"
        );
    }
    Ok(())
}

async fn vms_are_found_by_each_state(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let expected = [
        (Prepared, "1a 3d"),
        (Running, "1b"),
        (Stopped, "2a"),
        (Failed, "2c"),
        (Destroyed, "3b"),
    ];
    for (state, vms) in expected {
        ensure_eq!(
            found(ctx, VmQuery::default().states([state])).await?,
            vms,
            "those that are {state}"
        );
    }
    Ok(())
}

async fn vms_are_found_by_any_of_some_states(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let expected: [(&[VmState], &str); 6] = [
        (&[], "1a 1b 2a 2c 3b 3d"),
        (
            &[Prepared, Running, Stopped, Failed, Destroyed],
            "1a 1b 2a 2c 3b 3d",
        ),
        (&[Prepared, Running], "1a 1b 3d"),
        (&[Stopped, Failed, Destroyed], "2a 2c 3b"),
        (&[Running, Failed], "1b 2c"),
        (&[Prepared, Running, Destroyed, Running], "1a 1b 3b 3d"),
    ];
    for (states, vms) in expected {
        let query = VmQuery::default().states(states.iter().copied());
        ensure_eq!(found(ctx, query).await?, vms, "those in any of {states:?}");
    }
    Ok(())
}

async fn vms_are_found_by_hypervisor(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    for (backend, expected) in [
        ("libvirt", "1a 1b 3b"),
        ("bhyve", "2a 3d"),
        ("Libvirt", ""),
        ("lib", ""),
    ] {
        ensure_eq!(
            found(ctx, VmQuery::default().backend(backend)).await?,
            expected,
            "on {backend}"
        );
    }
    Ok(())
}

async fn vms_are_found_by_the_time_of_their_creation(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    for (from, until, expected) in [
        (Some(20), Some(50), "1b 2a 2c"),
        (Some(21), Some(51), "2a 2c 3b"),
        (None, Some(20), "1a"),
        (Some(60), None, "3d"),
        (Some(30), Some(30), ""),
    ] {
        let query = VmQuery::default().created(TimeRange::new(from.map(at), until.map(at)));
        ensure_eq!(
            found(ctx, query.clone()).await?,
            expected,
            "half open: {from:?} belongs to it, {until:?} not"
        );
        ensure_eq!(
            listed(ctx, query.order(Order::ById)).await?,
            expected,
            "in the order of ids too"
        );
    }
    ctx.one(VmUpdate::new(id(1), "a", Running).at(at(90))).await?;
    let late = VmQuery::default().created(TimeRange::new(Some(at(90)), None));
    ensure_eq!(
        found(ctx, late).await?,
        "",
        "an update does not move the creation"
    );
    let wrong = VmQuery::default().created(TimeRange::new(Some(at(1)), Some(at(0))));
    let Err(error) = ctx.backend().vms(&wrong).await else {
        return Err(Stop::Failed(
            "a range that ends before it begins is refused".into(),
        ));
    };
    ensure_eq!(
        (error.kind(), error.context("field")),
        (ErrorKind::InvalidInput, Some("created")),
        "by name"
    );
    Ok(())
}

async fn vms_are_found_by_a_range_of_ids(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    for (from, to, expected) in [
        (Some(2), None, "2a 2c 3b 3d"),
        (None, Some(2), "1a 1b 2a 2c"),
        (Some(2), Some(2), "2a 2c"),
        (Some(3), Some(2), ""),
    ] {
        let query = VmQuery::default().ids(IdRange::new(from.map(id), to.map(id)));
        ensure_eq!(
            found(ctx, query.clone()).await?,
            expected,
            "closed: {from:?} and {to:?} belong to it"
        );
        ensure_eq!(
            listed(ctx, query.order(Order::ById)).await?,
            expected,
            "in the order of ids too"
        );
    }
    Ok(())
}

async fn filters_are_joined_by_and(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let mut query = VmQuery::default().backend("libvirt");
    query = query.domain_name("b");
    ensure_eq!(found(ctx, query.clone()).await?, "1b 3b", "two filters");
    query = query.states([Running, Prepared]).request_id(id(1));
    ensure_eq!(found(ctx, query.clone()).await?, "1b", "four filters");
    query = query
        .created(TimeRange::new(Some(at(20)), Some(at(21))))
        .ids(IdRange::new(Some(id(1)), Some(id(1))));
    ensure_eq!(found(ctx, query.clone()).await?, "1b", "all filters");
    ensure_eq!(
        found(ctx, query.request_id(id(2))).await?,
        "",
        "and one that does not match"
    );
    Ok(())
}

async fn filters_look_at_the_row_and_not_at_its_history(ctx: &Ctx) -> CaseResult {
    ctx.each([
        vm(1, "a", Prepared).backend("libvirt"),
        vm(1, "a", Running).backend("bhyve"),
    ])
    .await?;
    ensure_eq!(
        found(ctx, VmQuery::default().states([Prepared])).await?,
        "",
        "it was prepared, it is not"
    );
    ensure_eq!(
        found(ctx, VmQuery::default().backend("libvirt")).await?,
        "",
        "a value of a lower slot"
    );
    ensure_eq!(
        found(ctx, VmQuery::default().backend("bhyve")).await?,
        "1a",
        "the row's value"
    );
    Ok(())
}

async fn vms_are_listed_in_each_order(ctx: &Ctx) -> CaseResult {
    let vm = |n, name, time| VmUpdate::new(id(n), name, Running).at(at(time));
    ctx.apply([
        vm(2, "b", 10),
        vm(1, "z", 30),
        vm(2, "a", 10),
        vm(1, "a", 40),
        vm(3, "m", 10),
    ])
    .await?;
    // Where they go on later is of no account.
    let ended = |n, name, time| VmUpdate::new(id(n), name, Stopped).at(at(time));
    ctx.apply([ended(1, "z", 700), ended(2, "b", 800), ended(2, "a", 900)])
        .await?;
    let query = VmQuery::default();
    let oldest = listed(ctx, query.clone().order(Order::OldestFirst)).await?;
    ensure_eq!(oldest, "2a 2b 3m 1z 1a", "by time, then job, then name");
    let newest = listed(ctx, query.clone().order(Order::NewestFirst)).await?;
    ensure_eq!(newest, "1a 1z 3m 2b 2a", "and backwards");
    ensure_eq!(
        listed(ctx, query.clone().order(Order::ById)).await?,
        "1a 1z 2a 2b 3m",
        "by job, then name"
    );
    let first = ctx.backend().vms(&query.limit(1)).await?.items;
    ensure!(
        first[0].request_id == id(1) && first[0].domain_name == "a",
        "the newest unless said otherwise"
    );
    Ok(())
}

async fn vms_are_listed_by_creation_and_not_by_update(ctx: &Ctx) -> CaseResult {
    let vm = |n, state, time| VmUpdate::new(id(n), "a", state).at(at(time));
    ctx.apply([(1, 10), (2, 20), (3, 30)].map(|(n, time)| vm(n, Prepared, time)))
        .await?;
    // Who came first ends last.
    ctx.apply([(1, 300), (2, 200), (3, 100)].map(|(n, time)| vm(n, Destroyed, time)))
        .await?;
    for (order, expected) in [(Order::OldestFirst, "1a 2a 3a"), (Order::NewestFirst, "3a 2a 1a")] {
        let found = listed(ctx, VmQuery::default().order(order)).await?;
        ensure_eq!(found, expected, "the age of a VM is that of its first update");
    }
    Ok(())
}

async fn vms_of_one_job_are_paged(ctx: &Ctx) -> CaseResult {
    let names: Vec<_> = (0..9).map(|n| format!("vm-{n}")).collect();
    let of = |n: u64| {
        names
            .iter()
            .enumerate()
            .map(move |(time, name)| (n, name.clone(), time as i64 / 3))
    };
    let update = |(n, name, time)| VmUpdate::new(id(n), name, Running).at(at(time));
    ctx.apply(of(1).chain(of(2)).chain(of(3)).map(update)).await?;
    for order in [Order::OldestFirst, Order::NewestFirst, Order::ById] {
        for limit in [1, 2, 3, 9, 10] {
            let query = VmQuery::default().request_id(id(2)).order(order).limit(limit);
            let rows = walk::vms(ctx.backend(), query).await?;
            let mut found: Vec<_> = rows.iter().map(|vm| vm.domain_name.clone()).collect();
            ensure!(
                rows.iter().all(|vm| vm.request_id == id(2)),
                "only VMs of this job"
            );
            if order == Order::NewestFirst {
                found.reverse();
            }
            ensure_eq!(found, names, "each once, {order:?}, in pages of {limit}");
        }
    }
    Ok(())
}

async fn any_combination_of_filters_means_what_matches_says(ctx: &Ctx) -> CaseResult {
    ctx.apply(day(22, 100)).await?;
    ctx.apply(
        (0..100)
            .step_by(3)
            .map(|n| vm(n, "shared", Running).backend("bhyve").at(at(n as i64 * 500))),
    )
    .await?;
    let all = walk::vms(
        ctx.backend(),
        VmQuery::default().order(Order::OldestFirst).limit(1_000),
    )
    .await?;
    let mut random = StdRng::seed_from_u64(23);
    for _ in 0..60 {
        let mut query = VmQuery::default()
            .order(Order::OldestFirst)
            .limit(random.random_range(1..50));
        let some = all
            .choose(&mut random)
            .ok_or_else(|| Stop::Failed("the day has VMs".into()))?;
        let other = all.choose(&mut random).unwrap_or(some);
        if random.random_bool(0.2) {
            query = query.request_id(some.request_id);
        }
        if random.random_bool(0.3) {
            query = query.domain_name(&some.domain_name);
        }
        if random.random_bool(0.5) {
            query = query.states(
                VmState::TABLE
                    .iter()
                    .map(|line| line.state)
                    .filter(|_| random.random_bool(0.5)),
            );
        }
        if random.random_bool(0.3) {
            query = query.backend(*["libvirt", "bhyve"].choose(&mut random).unwrap_or(&""));
        }
        if random.random_bool(0.4) {
            let (from, until) = (
                some.created_at.min(other.created_at),
                some.created_at.max(other.created_at),
            );
            query = query.created(TimeRange::new(Some(from), Some(until)));
        }
        if random.random_bool(0.4) {
            let (from, to) = (
                some.request_id.min(other.request_id),
                some.request_id.max(other.request_id),
            );
            query = query.ids(IdRange::new(Some(from), Some(to)));
        }
        let checked = query.check()?;
        let expected: Vec<_> = all.iter().filter(|row| checked.matches(row)).cloned().collect();
        ensure_eq!(
            walk::vms(ctx.backend(), query.clone()).await?,
            expected,
            "one meaning: {query:?}"
        );
    }
    Ok(())
}
