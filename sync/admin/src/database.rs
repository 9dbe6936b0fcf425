//! The database's part of `init`, `migrate` and `check`.

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::finding::{Finding, Step};
use gatehouse_central::rows::{self, CALL_TIMEOUT, Link, MIGRATIONS, SCHEMA_NEEDED, timed};
use gatehouse_config::{Config, Device, Environment, Gallery, Rows};

const WHAT_CONNECTION: &str = "database: connection";
const WHAT_SCHEMA: &str = "database: schema";
const WHAT_ENVIRONMENT: &str = "database: environment";
const WHAT_DEVICE: &str = "database: this appliance";
const WHAT_COMPLETE: &str = "database: completeness";
/// SQLSTATE of a migration that needs a missing feature of the server.
const UNSUPPORTED: &str = "0A000";
const RUN_INIT: &str = "run `gatehouse central init`";
/// Oldest supported server: views with `security_invoker`.
const SERVER_MIN: i32 = 150_000;

/// Creates schema and environment mark. A database of another environment is refused before any change.
pub(super) async fn init(rows: &Rows, config: &Config) -> Result<Vec<Step>, SyncError> {
    let ours = config.device.environment.as_str();
    let link = rows::connect(rows).await?;
    // Only people need pgvector.
    let (mut steps, without_people) = match migrated(&link, rows, ours, None).await {
        Err(SyncError::Busy { code, message, .. }) if code == UNSUPPORTED => {
            let before = rows::shared_people::SCHEMA_WITH_PEOPLE - 1;
            (migrated(&link, rows, ours, Some(before)).await?, Some(message))
        }
        steps => (steps?, None),
    };
    if steps.is_empty() {
        let version = rows::version(&link).await?;
        steps.push(Step { what: format!("database: schema version {version}"), changed: false });
    }
    let mark = "insert into gatehouse.environment (name) values ($1) on conflict do nothing";
    let changed = timed("mark the database", CALL_TIMEOUT, link.client.execute(mark, &[&ours])).await? > 0;
    refuse_foreign(rows::environment(&link.client).await?, ours)?;
    steps.push(Step { what: format!("database: environment {ours}"), changed });
    // So that the first event of a month does not wait for its partition.
    let months = "select gatehouse.ensure_month(now()), gatehouse.ensure_month(now() + interval '1 month')";
    timed("create a partition", CALL_TIMEOUT, link.client.query_one(months, &[])).await?;
    steps.push(Step { what: "database: partitions of this month and the next".to_owned(), changed: false });
    if let Some(message) = without_people {
        steps.push(Step { what: format!("database: people are not shared: {message}"), changed: false });
        return Ok(steps);
    }
    let Gallery { model, dimensions, .. } = &config.gallery;
    let index = "select gatehouse.ensure_template_index($1, $2)";
    let size = i32::try_from(*dimensions).unwrap_or(i32::MAX);
    let row = timed("create an index", CALL_TIMEOUT, link.client.query_one(index, &[model, &size])).await?;
    steps.push(Step { what: format!("database: index of templates of {model}"), changed: row.get(0) });
    Ok(steps)
}

/// Brings the schema to version `to`, or to the newest. A downgrade discards data of later versions, so it must be
/// requested explicitly.
pub(super) async fn migrate(
    rows: &Rows,
    environment: Environment,
    to: Option<i32>,
    discard: bool,
) -> Result<Vec<Step>, SyncError> {
    let link = rows::connect(rows).await?;
    let version = rows::version(&link).await?;
    if to.is_some_and(|to| to < version) && !discard {
        return Err(SyncError::Setup(format!(
            "the schema has version {version}: a downgrade discards data that only later versions have; add --discard to \
             confirm"
        )));
    }
    let steps = migrated(&link, rows, environment.as_str(), to).await?;
    if !steps.is_empty() {
        return Ok(steps);
    }
    Ok(vec![Step { what: format!("database: schema version {version}"), changed: false }])
}

/// Applies the migrations. A database of another environment is refused before the first.
async fn migrated(
    link: &Link,
    rows: &Rows,
    ours: &'static str,
    to: Option<i32>,
) -> Result<Vec<Step>, SyncError> {
    if rows::version(link).await? >= SCHEMA_NEEDED {
        refuse_foreign(rows::environment(&link.client).await?, ours)?;
    }
    let step = |done: rows::Migrated| {
        let back = if done.up { "" } else { ", reverted" };
        Step { what: format!("database: migration {} ({}){back}", done.version, done.name), changed: true }
    };
    Ok(rows::migrate(rows, to).await?.into_iter().map(step).collect())
}

pub(super) fn refuse_foreign(theirs: Option<String>, ours: &'static str) -> Result<(), SyncError> {
    match theirs {
        Some(theirs) if theirs != ours => {
            Err(GuardFault::Environment { place: "the database", theirs, ours }.into())
        }
        _ => Ok(()),
    }
}

/// Checks the database, up to the first failure.
pub(super) async fn check(rows: &Rows, device: &Device) -> Vec<Finding> {
    let mut findings = Vec::new();
    let link = match rows::connect(rows).await {
        Ok(link) => link,
        Err(error) => {
            return vec![Finding::bad(WHAT_CONNECTION, error.to_string(), Some(advice_on_connect(&error)))];
        }
    };
    // The first failed check ends the list, because the later ones depend on it.
    let checks: [(&str, Check<'_>); 5] = [
        (WHAT_CONNECTION, Box::pin(server(&link))),
        (WHAT_SCHEMA, Box::pin(schema(&link))),
        (WHAT_ENVIRONMENT, Box::pin(environment(&link, device))),
        (WHAT_DEVICE, Box::pin(appliance(&link, device))),
        (WHAT_COMPLETE, Box::pin(complete(&link, device))),
    ];
    for (what, check_future) in checks {
        let finding = check_future.await.unwrap_or_else(|error| Finding::bad(what, error.to_string(), None));
        let ok = finding.ok;
        findings.push(finding);
        if !ok {
            break;
        }
    }
    findings
}

type Check<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Finding, SyncError>> + Send + 'a>>;

fn advice_on_connect(error: &SyncError) -> &'static str {
    match error {
        SyncError::Denied { code, .. } if code == "3D000" => {
            "create the database, then run `gatehouse central init`"
        }
        SyncError::Certificate { .. } => "name the authority of the server in central.rows.ca_file",
        SyncError::Denied { .. } => {
            "check the user in central.rows.url, and central.rows.password_file or cert_file"
        }
        SyncError::Setup(_) => "correct the settings",
        _ => {
            "check host, port and network; on a trusted network without TLS add ?sslmode=disable to central.rows.url"
        }
    }
}

async fn server(link: &Link) -> Result<Finding, SyncError> {
    let query = "select current_setting('server_version_num')::int, current_setting('server_version'), \
                 pg_is_in_recovery() or current_setting('transaction_read_only') = 'on'";
    let row =
        timed("query the version of the server", CALL_TIMEOUT, link.client.query_one(query, &[])).await?;
    let (number, version, read_only): (i32, String, bool) = (row.get(0), row.get(1), row.get(2));
    if number < SERVER_MIN {
        let message = format!("Postgres {version}");
        return Ok(Finding::bad(WHAT_CONNECTION, message, Some("use Postgres 15 or newer")));
    }
    if read_only {
        let message = format!("Postgres {version} is read-only");
        return Ok(Finding::bad(
            WHAT_CONNECTION,
            message,
            Some("name the primary server in central.rows.url"),
        ));
    }
    Ok(Finding::good(WHAT_CONNECTION, format!("Postgres {version}")))
}

async fn schema(link: &Link) -> Result<Finding, SyncError> {
    let version = rows::version(link).await?;
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    Ok(if version < newest {
        Finding::bad(
            WHAT_SCHEMA,
            format!("version {version}, the newest of this program is {newest}"),
            Some(RUN_INIT),
        )
    } else {
        Finding::good(WHAT_SCHEMA, format!("version {version}"))
    })
}

async fn environment(link: &Link, device: &Device) -> Result<Finding, SyncError> {
    let ours = device.environment.as_str();
    Ok(match rows::environment(&link.client).await? {
        Some(theirs) if theirs == ours => Finding::good(WHAT_ENVIRONMENT, theirs),
        Some(theirs) => Finding::bad(
            WHAT_ENVIRONMENT,
            format!("the database is of `{theirs}`, this appliance of `{ours}`"),
            Some("correct device.environment or central.rows.url; nothing is written until they agree"),
        ),
        None => Finding::bad(WHAT_ENVIRONMENT, "the database has no environment mark", Some(RUN_INIT)),
    })
}

async fn appliance(link: &Link, device: &Device) -> Result<Finding, SyncError> {
    let query = "select c.lsn, c.seq, to_char(d.last_seen at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                 from gatehouse.devices d join gatehouse.device_cursors c using (device_id) where device_id = $1";
    let row =
        timed("query this appliance", CALL_TIMEOUT, link.client.query_opt(query, &[&device.id])).await?;
    Ok(Finding::good(
        WHAT_DEVICE,
        match row {
            None => format!("`{}` has not delivered yet", device.id),
            Some(row) => {
                let (lsn, seq, seen): (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
                format!("`{}` has delivered {seq} events (journal record {lsn}), last seen {seen}", device.id)
            }
        },
    ))
}

async fn complete(link: &Link, device: &Device) -> Result<Finding, SyncError> {
    let query = "select whole, events, missing, lost from gatehouse.completeness where device_id = $1";
    let counted =
        timed("count the events", rows::BATCH_TIMEOUT, link.client.query_opt(query, &[&device.id])).await;
    let row = match counted {
        Err(SyncError::Deadline { .. }) => {
            return Ok(Finding::good(WHAT_COMPLETE, "not counted: too many events"));
        }
        counted => counted?,
    };
    let Some(row) = row else { return Ok(Finding::good(WHAT_COMPLETE, "no events yet")) };
    let (whole, events, missing, lost): (bool, i64, i64, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let advice = "compare view gatehouse.completeness with `gatehouse ledger`; rows were changed manually";
    Ok(match (whole, lost) {
        (false, _) => {
            Finding::bad(WHAT_COMPLETE, format!("{events} events, {missing} missing"), Some(advice))
        }
        (true, 0) => Finding::good(WHAT_COMPLETE, format!("{events} events, no gap")),
        (true, _) => {
            Finding::good(WHAT_COMPLETE, format!("{events} events, {lost} of them lost by a damaged disk"))
        }
    })
}
