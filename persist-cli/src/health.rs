//! `persist health`: how the database is, within a deadline.

use chrono::TimeDelta;
use persist::{Deadlines, Error, Health};
use tokio::time::timeout;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::span::human;
use crate::visible::visible;

pub(crate) async fn run(context: &mut Context) -> Result<Code, Failure> {
    let mut deadlines = Deadlines::default();
    // All of it has the deadline of one health check: who asks is often a probe with a deadline of its own.
    let within = deadlines.health;
    deadlines.connect = within;
    let answer = timeout(within, ask(context, deadlines)).await;
    let health = answer.unwrap_or_else(|_| Err(Error::deadline("health", within).into()))?;
    match context.format {
        Format::Table => context.out.line(&visible(&line(&health)))?,
        Format::Json | Format::Jsonl => context.out.json(&health)?,
    }
    Ok(Code::Ok)
}

async fn ask(context: &Context, deadlines: Deadlines) -> Result<Health, Failure> {
    let backend = context.database.existing(deadlines).await?;
    if let Some(schema) = backend.schema() {
        schema.check().await?;
    }
    // The program ends after this: nothing is gained by waiting for connections to close.
    Ok(backend.health().await?)
}

fn line(health: &Health) -> String {
    let mut line = format!("{}: {}", health.backend, health.mode.name());
    if let Some(micros) = health.latency_us {
        let took = i64::try_from(micros).map_or(TimeDelta::MAX, TimeDelta::microseconds);
        line.push_str(&format!(", answered in {}", human(took)));
    }
    let facts = [("", &health.server), ("schema ", &health.schema_version)];
    for (lead, fact) in facts {
        if let Some(fact) = fact {
            line.push_str(&format!(", {lead}{fact}"));
        }
    }
    if let Some(id) = health.instance_id {
        line.push_str(&format!(", store {id}"));
    }
    line.push_str(if health.durable {
        ", durable"
    } else {
        ", not durable"
    });
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist::Mode;

    #[test]
    fn a_line_tells_what_is_known() {
        let mut health = Health::new("postgres", Mode::Ready);
        health.latency_us = Some(1_234);
        health.server = Some("PostgreSQL 15.3".into());
        health.durable = true;
        assert_eq!(
            line(&health),
            "postgres: ready, answered in 1 ms, PostgreSQL 15.3, durable"
        );
        assert_eq!(
            line(&Health::new("memory", Mode::Ready)),
            "memory: ready, not durable"
        );
    }
}
