//! `gatehouse central enroll-device` and `retire-device`: the role with which one appliance signs in.
//!
//! The role, the appliance's row with its cursor and the line in the audit log are one transaction. Postgres never gets
//! the password, only what it checks one against, so that no log of the server has it.

use std::time::Duration;

use gatehouse_central::error::SyncError;
use gatehouse_central::finding::Step;
use gatehouse_central::objects::policy::policy;
use gatehouse_central::rows::{self, CALL_TIMEOUT, Link, timed};
use gatehouse_central::services::{database_of, ready};
use gatehouse_config::{Config, Secret, device_id};
use postgres_protocol::password::scram_sha_256;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Transaction;
use uuid::Uuid;

/// Sessions of one role: one writes, others may be left from a line that broke.
const SESSIONS_MAX: u32 = 8;
/// How often a role whose sessions were ended is tried to be removed, and how long apart.
const REMOVALS_MAX: u32 = 20;
const REMOVAL_PAUSE: Duration = Duration::from_millis(250);

const DOING: &str = "enroll the appliance";
const RETIRING: &str = "retire the appliance";

/// Of the database and the appliance, so that two databases of one server never share a role. A name of more than the
/// 63 bytes that Postgres keeps ends with a digest of the whole.
const ROLE_NAME: &str = "select case when octet_length(name) <= 63 then name \
     else left(name, 50) || '_' || left(md5(name), 12) end from (select current_database() || '_' || $1::text as name) n";

/// An appliance that may sign in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its id.
    pub device: String,
    /// Its role in Postgres.
    pub role: String,
    /// Whether it had the role before: what it signed in with is of no use now.
    pub rotated: bool,
    /// What its keys may do in the bucket, for the settings' S3 server; none where the settings name no bucket.
    pub policy: Option<Value>,
}

/// How an appliance signs in at Postgres.
#[derive(Debug, Clone, Copy)]
pub enum SignIn<'a> {
    /// With this password.
    Password(&'a Secret),
    /// With a certificate whose common name is the role; the server must be told to ask for one.
    Certificate,
}

/// A password that nobody can guess: 244 bits of the system's random numbers, in characters that need no quoting.
pub fn new_password() -> Secret {
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    Secret::new(format!("{}{}", one.simple(), two.simple()).into_bytes())
}

/// Makes the role of an appliance, or changes how it signs in, and tells what its S3 keys should be held to. An
/// appliance that has delivered with another role goes on where it was.
///
/// # Errors
/// [`SyncError`]; nothing was changed then.
pub async fn enroll(config: &Config, device: &str, sign_in: SignIn<'_>) -> Result<Enrolled, SyncError> {
    let mut link = checked(config, device).await?;
    let transaction = begin(&mut link, DOING).await?;
    let role: String = timed(DOING, CALL_TIMEOUT, transaction.query_one(ROLE_NAME, &[&device])).await?.get(0);
    let query = "select (select role_name from gatehouse.devices where device_id = $1), \
                 exists (select from pg_roles where rolname = $2)";
    let row = timed(DOING, CALL_TIMEOUT, transaction.query_one(query, &[&device, &role])).await?;
    let (has, there): (Option<String>, bool) = (row.get(0), row.get(1));
    let rotated = has.as_ref() == Some(&role) && there;
    if there && !rotated {
        return Err(SyncError::Setup(format!(
            "role `{role}` is there already and is not known as that of `{device}`: see whose it is, and remove it with \
             `drop role` if it is nobody's"
        )));
    }
    let verb = if rotated {
        refuse_powerful(&transaction, &role).await?;
        "alter role %I"
    } else {
        "create role %I nosuperuser nocreatedb nocreaterole noreplication"
    };
    let statement =
        format!("format('{verb} login connection limit {SESSIONS_MAX} password %L', $1::text, $2::text)");
    // %L of nothing is NULL: no password opens then.
    let verifier = match sign_in {
        SignIn::Password(password) => Some(scram_sha_256(password.bytes())),
        SignIn::Certificate => None,
    };
    run_made(&transaction, DOING, &statement, &[&role, &verifier]).await?;
    run_made(&transaction, DOING, "format('grant gatehouse_device to %I', $1::text)", &[&role]).await?;
    let note = "insert into gatehouse.devices (device_id, site, state_id, version, role_name) values ($1, '', '', '', $2) \
                on conflict (device_id) do update set role_name = excluded.role_name";
    timed(DOING, CALL_TIMEOUT, transaction.execute(note, &[&device, &role])).await?;
    let cursor = "insert into gatehouse.device_cursors (device_id) values ($1) on conflict do nothing";
    timed(DOING, CALL_TIMEOUT, transaction.execute(cursor, &[&device])).await?;
    let details = json!({ "role": role, "rotated": rotated, "certificate": verifier.is_none() });
    audit(&transaction, DOING, "device.enroll", device, &details).await?;
    timed(DOING, CALL_TIMEOUT, transaction.commit()).await?;
    let policy = config.central.objects.as_ref().and_then(|_| config.bucket()).map(|b| policy(&b, device));
    Ok(Enrolled { device: device.to_owned(), role, rotated, policy })
}

/// Refuses a role with attributes that an appliance must not have. They are read here and not reset by `alter role`:
/// only a superuser may mention them there.
async fn refuse_powerful(transaction: &Transaction<'_>, role: &str) -> Result<(), SyncError> {
    let query = "select array_remove(array[case when rolsuper then 'superuser' end, \
                 case when rolcreatedb then 'createdb' end, case when rolcreaterole then 'createrole' end, \
                 case when rolreplication then 'replication' end, case when rolbypassrls then 'bypassrls' end], null) \
                 from pg_roles where rolname = $1";
    let attributes: Vec<String> =
        timed(DOING, CALL_TIMEOUT, transaction.query_one(query, &[&role])).await?.get(0);
    if attributes.is_empty() {
        return Ok(());
    }
    let reset: Vec<_> = attributes.iter().map(|attribute| format!("no{attribute}")).collect();
    Err(SyncError::Setup(format!(
        "role `{role}` has attributes that an appliance must not have ({}): nothing was changed; run \
         `alter role \"{role}\" {}` as a superuser, then enroll again",
        attributes.join(", "),
        reset.join(" ")
    )))
}

/// Takes the role of an appliance away; its rows stay. Its open sessions see nothing from then on and are ended.
///
/// # Errors
/// [`SyncError`] where it has no role, or the database refuses; nothing was changed then.
pub async fn retire(config: &Config, device: &str) -> Result<Vec<Step>, SyncError> {
    let mut link = checked(config, device).await?;
    let transaction = begin(&mut link, RETIRING).await?;
    let query = "select role_name from gatehouse.devices where device_id = $1 and role_name is not null";
    let Some(row) = timed(RETIRING, CALL_TIMEOUT, transaction.query_opt(query, &[&device])).await? else {
        return Err(SyncError::Setup(format!(
            "`{device}` has no role here: it was not enrolled, or was retired"
        )));
    };
    let role: String = row.get(0);
    run_made(&transaction, RETIRING, "format('alter role %I nologin', $1::text)", &[&role]).await?;
    run_made(&transaction, RETIRING, "format('revoke gatehouse_device from %I', $1::text)", &[&role]).await?;
    let note = "update gatehouse.devices set role_name = null where device_id = $1";
    timed(RETIRING, CALL_TIMEOUT, transaction.execute(note, &[&device])).await?;
    audit(&transaction, RETIRING, "device.retire", device, &json!({ "role": role })).await?;
    timed(RETIRING, CALL_TIMEOUT, transaction.commit()).await?;
    let mut steps =
        vec![Step { what: format!("database: `{role}` may not sign in any more"), changed: true }];
    steps.push(match remove(&link, &role).await {
        Ok(()) => Step { what: format!("database: role `{role}` is removed"), changed: true },
        Err(error) => {
            Step { what: format!("database: role `{role}` stays, without rights: {error}"), changed: false }
        }
    });
    Ok(steps)
}

/// Ends the sessions of a role and removes it. The table of a session goes with it, a moment later.
async fn remove(link: &Link, role: &str) -> Result<(), SyncError> {
    join(link, role).await?;
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1";
    timed(RETIRING, CALL_TIMEOUT, link.client.query_one(end, &[&role])).await?;
    let query = "select format('drop role %I', $1::text)";
    let drop: String = timed(RETIRING, CALL_TIMEOUT, link.client.query_one(query, &[&role])).await?.get(0);
    let mut removed = timed(RETIRING, CALL_TIMEOUT, link.client.batch_execute(&drop)).await;
    for _ in 1..REMOVALS_MAX {
        if removed.is_ok() {
            break;
        }
        tokio::time::sleep(REMOVAL_PAUSE).await;
        removed = timed(RETIRING, CALL_TIMEOUT, link.client.batch_execute(&drop)).await;
    }
    removed
}

/// Makes the session a member of the role: only a member, or a superuser, may end the role's sessions. From Postgres 16
/// on, who made a role is none.
async fn join(link: &Link, role: &str) -> Result<(), SyncError> {
    let query = "select pg_has_role($1, 'usage'), format('grant %I to current_user', $1::text)";
    let row = timed(RETIRING, CALL_TIMEOUT, link.client.query_one(query, &[&role])).await?;
    let (is_member, grant): (bool, String) = (row.get(0), row.get(1));
    match is_member {
        true => Ok(()),
        false => timed(RETIRING, CALL_TIMEOUT, link.client.batch_execute(&grant)).await,
    }
}

/// A connection to a database with roles, for an id that an appliance can have.
async fn checked(config: &Config, device: &str) -> Result<Link, SyncError> {
    device_id(device).map_err(|words| SyncError::Setup(format!("the id of an appliance {words}")))?;
    ready(database_of(config)?, config).await
}

/// A transaction that no other change of roles runs beside.
async fn begin<'a>(link: &'a mut Link, doing: &'static str) -> Result<Transaction<'a>, SyncError> {
    let transaction = timed(doing, CALL_TIMEOUT, link.client.transaction()).await?;
    timed(doing, CALL_TIMEOUT, transaction.batch_execute(&rows::lock())).await?;
    Ok(transaction)
}

/// Runs a statement that takes no parameters, made by the server from quoted ones.
async fn run_made(
    transaction: &Transaction<'_>,
    doing: &'static str,
    made: &str,
    values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<(), SyncError> {
    let query = format!("select {made}");
    let statement: String = timed(doing, CALL_TIMEOUT, transaction.query_one(&query, values)).await?.get(0);
    timed(doing, CALL_TIMEOUT, transaction.batch_execute(&statement)).await
}

async fn audit(
    transaction: &Transaction<'_>,
    doing: &'static str,
    action: &str,
    subject: &str,
    details: &Value,
) -> Result<(), SyncError> {
    let line = "select gatehouse.audit($1, $2, $3)";
    timed(doing, CALL_TIMEOUT, transaction.execute(line, &[&action, &subject, details])).await.map(drop)
}
