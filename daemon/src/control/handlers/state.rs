//! Status, sinks, ledger.

use gatehouse_model::Timestamp;
use gatehouse_store::ledger::Column;
use gatehouse_store::store::ClockStatus;
use gatehouse_store::store::{Events, StoreError};
use gatehouse_sync::SinkStatus;

use super::ask;
use crate::control::Services;
use gatehouse_control::answers::{BrokerStatus, ClockLine, LedgerAnswer, SinkLine, Status, Sums};
use gatehouse_control::types::Fault;
use gatehouse_machine::checks::free_bytes;
use gatehouse_machine::gallery::differs;

pub(in crate::control) async fn status(services: &Services) -> Result<Status, Fault> {
    let sinks = sinks(services).await?;
    let store = ask(&services.store.upkeep, |upkeep| Ok::<_, StoreError>(upkeep.status())).await?;
    let config = services.settings.started();
    let models = services.store.galleries.current().models().clone();
    let derived = services.store.galleries.current().threshold(None);
    let oldest = sinks.iter().filter_map(|sink| sink.oldest_pending.clone());
    Ok(Status {
        device: config.device.id.clone(),
        site: config.device.site.clone(),
        environment: config.device.environment.to_string(),
        version: gatehouse_control::VERSION.to_owned(),
        uptime_seconds: services.started.elapsed().as_secs(),
        broker: broker(services),
        settings_differ: differs(config, &models.in_use),
        model: models.in_use.name,
        candidate: models.candidate.map(|model| model.name),
        people: store.people as u64,
        templates: store.templates as u64,
        threshold: derived.threshold,
        threshold_basis: derived.basis,
        no_threshold: derived.no_threshold.map(|cause| cause.to_string()),
        head_seq: store.head.seq,
        pending_events: store.pending_events,
        pending_media: store.pending_media,
        oldest_pending: oldest.chain(store.oldest_pending.map(|at| at.to_string())).min(),
        media_bytes: store.media_bytes,
        media_quota_bytes: store.media_quota_bytes,
        free_bytes: free_bytes(&config.state.directory),
        in_flight_bytes: services.pipeline.stats().in_flight_bytes,
        clock: clock(services).await?,
        sinks,
    })
}

pub(in crate::control) async fn clock(services: &Services) -> Result<ClockLine, Fault> {
    Ok(clock_line(ask(&services.store.events, Events::clock).await?))
}

pub(in crate::control) fn broker(services: &Services) -> BrokerStatus {
    let stats = services.pipeline.stats();
    BrokerStatus {
        address: services.settings.started().mqtt.url.clone(),
        connected: stats.connected,
        error: stats.error,
    }
}

pub(in crate::control) async fn sinks(services: &Services) -> Result<Vec<SinkLine>, Fault> {
    let status = services.sync.status().await.map_err(Fault::refused)?;
    Ok(status.sinks.into_iter().map(sink_line).collect())
}

pub(in crate::control) fn ledger(events: &Events) -> LedgerAnswer {
    let ledger = events.ledger();
    LedgerAnswer {
        holds: ledger.holds(),
        events: sums(ledger.events),
        files: sums(ledger.files),
        bytes: sums(ledger.bytes),
    }
}

fn sums(column: Column) -> Sums {
    Sums { received: column.received(), pending: column.pending(), column }
}

fn clock_line(ClockStatus { now, wall, reference }: ClockStatus) -> ClockLine {
    let apart = now.at.0.abs_diff(wall.0) / 1000;
    ClockLine {
        time: now.at.to_string(),
        uncertainty_ms: now.uncertainty_ms,
        source: reference.map(|reference| reference.source),
        wall: wall.to_string(),
        wrong_by_ms: now.uncertainty_ms.map_or(0, |off| apart.saturating_sub(off)),
    }
}

fn sink_line(status: SinkStatus) -> SinkLine {
    let text = |at: Timestamp| at.to_string();
    SinkLine {
        sink: status.sink,
        configured: status.configured,
        state: status.state,
        error: status.error,
        since: text(status.since),
        next_retry: status.next_retry.map(text),
        pending: status.pending,
        oldest_pending: status.oldest_pending.map(text),
        delivered: status.delivered,
        taken: status.taken,
        set_aside: status.set_aside,
        last_set_aside: status.last_set_aside,
    }
}
