//! `gatehouse central enroll-device` and `retire-device`: the Postgres role of one appliance.
//!
//! The role, the row of the appliance with its cursor, and the line in the audit log are one transaction. Postgres
//! receives only a verifier of the password, so that no log of the server contains the password.

use std::time::Duration;

use gatehouse_central::error::SyncError;
use gatehouse_central::finding::Step;
use gatehouse_central::objects::policy::policy;
use gatehouse_central::rows::shared_people::SCHEMA_WITH_PEOPLE;
use gatehouse_central::rows::{self, CALL_TIMEOUT, Link, timed};
use gatehouse_central::services::{database_of, ready};
use gatehouse_config::{Config, Secret, device_id};
use postgres_protocol::password::scram_sha_256;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::shared_people::CENTRAL;

/// Connection limit of a role: one session writes, others may be left from broken connections.
const SESSIONS_MAX: u32 = 8;
/// Attempts to remove a role after its sessions were terminated, and the pause between them.
const REMOVAL_ATTEMPTS_MAX: u32 = 20;
const REMOVAL_PAUSE: Duration = Duration::from_millis(250);

const DOING: &str = "enroll the appliance";
const RETIRING: &str = "retire the appliance";

/// The role name contains the database and the appliance, so that two databases of one server never share a role. A
/// name longer than the 63 bytes of Postgres ends with a digest.
const ROLE_NAME: &str = "select case when octet_length(name) <= 63 then name \
     else left(name, 50) || '_' || left(md5(name), 12) end from (select current_database() || '_' || $1::text as name) n";

/// An enrolled appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its id.
    pub device: String,
    /// Its role in Postgres.
    pub role: String,
    /// Whether the role existed before. Its earlier password or certificate is no longer valid.
    pub rotated: bool,
    /// Permissions for its S3 keys. None if no bucket is configured.
    pub policy: Option<Value>,
}

/// How an appliance signs in at Postgres.
#[derive(Debug, Clone, Copy)]
pub enum SignIn<'a> {
    /// With this password.
    Password(&'a Secret),
    /// With a certificate whose common name is the role. The server must be configured to request one.
    Certificate,
}

/// A random password of 244 bits, in characters that need no quoting.
pub fn new_password() -> Secret {
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    Secret::new(format!("{}{}", one.simple(), two.simple()).into_bytes())
}

/// Creates the role of an appliance, or changes how it signs in. Returns the policy for its S3 keys. An appliance that
/// delivered with another role keeps its cursor.
///
/// # Errors
/// [`SyncError`]. Nothing was changed then.
pub async fn enroll(config: &Config, device: &str, sign_in: SignIn<'_>) -> Result<Enrolled, SyncError> {
    // The settings of the central tools have this id, changes made by them have it as their author, and the central key of
    // receipts has it in its name.
    if device == CENTRAL {
        let message = format!("`{CENTRAL}` names the central services: give the appliance another id");
        return Err(SyncError::Setup(message));
    }
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
            "role `{role}` exists already and is not that of `{device}`: find out its purpose, and remove it with \
             `drop role` if it is not used"
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
    // %L of NULL is NULL: no password is valid then.
    let verifier = match sign_in {
        SignIn::Password(password) => Some(scram_sha_256(password.bytes())),
        SignIn::Certificate => None,
    };
    run_formatted(&transaction, DOING, &statement, &[&role, &verifier]).await?;
    run_formatted(&transaction, DOING, "format('grant gatehouse_device to %I', $1::text)", &[&role]).await?;
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

/// Refuses a role with attributes that an appliance must not have. They are only read, because only a superuser may
/// mention them in `alter role`.
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

/// Removes the role of an appliance. Its rows stay. Its open sessions lose access and are terminated. If it is `lost`,
/// receipts of erasures say so, and it may have been retired before.
///
/// # Errors
/// [`SyncError`] if it has no role, or the database refuses. Nothing was changed then.
pub async fn retire(config: &Config, device: &str, lost: bool) -> Result<Vec<Step>, SyncError> {
    let mut link = checked(config, device).await?;
    let lost = lost && rows::version(&link).await? >= SCHEMA_WITH_PEOPLE;
    let transaction = begin(&mut link, RETIRING).await?;
    let marked = match lost {
        true => declare_lost(&transaction, device).await?,
        false => 0,
    };
    let query = "select role_name from gatehouse.devices where device_id = $1 and role_name is not null";
    let Some(row) = timed(RETIRING, CALL_TIMEOUT, transaction.query_opt(query, &[&device])).await? else {
        if marked > 0 {
            timed(RETIRING, CALL_TIMEOUT, transaction.commit()).await?;
            return Ok(vec![lost_step(marked)]);
        }
        return Err(SyncError::Setup(format!(
            "`{device}` has no role here: it was not enrolled, or was retired"
        )));
    };
    let role: String = row.get(0);
    run_formatted(&transaction, RETIRING, "format('alter role %I nologin', $1::text)", &[&role]).await?;
    run_formatted(&transaction, RETIRING, "format('revoke gatehouse_device from %I', $1::text)", &[&role])
        .await?;
    let note = "update gatehouse.devices set role_name = null where device_id = $1";
    timed(RETIRING, CALL_TIMEOUT, transaction.execute(note, &[&device])).await?;
    audit(&transaction, RETIRING, "device.retire", device, &json!({ "role": role })).await?;
    timed(RETIRING, CALL_TIMEOUT, transaction.commit()).await?;
    let mut steps =
        vec![Step { what: format!("database: `{role}` may not sign in any more"), changed: true }];
    steps.extend((marked > 0).then(|| lost_step(marked)));
    steps.push(match remove(&link, &role).await {
        Ok(()) => Step { what: format!("database: role `{role}` is removed"), changed: true },
        Err(error) => {
            Step { what: format!("database: role `{role}` stays, without rights: {error}"), changed: false }
        }
    });
    Ok(steps)
}

/// No statement of the appliance is expected any more. Returns how many were.
async fn declare_lost(transaction: &Transaction<'_>, device: &str) -> Result<u64, SyncError> {
    const LOST: &str = "update gatehouse.erasure_places set given_up = 'lost', given_up_at = now() \
         where device_id = $1 and statement is null and given_up is distinct from 'lost'";
    let marked = timed(RETIRING, CALL_TIMEOUT, transaction.execute(LOST, &[&device])).await?;
    audit(transaction, RETIRING, "device.lost", device, &json!({ "erasures": marked })).await?;
    Ok(marked)
}

fn lost_step(marked: u64) -> Step {
    Step {
        what: format!("database: the appliance is lost; it is not expected to state {marked} erasures"),
        changed: true,
    }
}

/// Terminates the sessions of a role and removes the role. Their temporary tables disappear a moment later.
async fn remove(link: &Link, role: &str) -> Result<(), SyncError> {
    join_role(link, role).await?;
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1";
    timed(RETIRING, CALL_TIMEOUT, link.client.query_one(end, &[&role])).await?;
    let query = "select format('drop role %I', $1::text)";
    let drop: String = timed(RETIRING, CALL_TIMEOUT, link.client.query_one(query, &[&role])).await?.get(0);
    let mut removed = timed(RETIRING, CALL_TIMEOUT, link.client.batch_execute(&drop)).await;
    for _ in 1..REMOVAL_ATTEMPTS_MAX {
        if removed.is_ok() {
            break;
        }
        tokio::time::sleep(REMOVAL_PAUSE).await;
        removed = timed(RETIRING, CALL_TIMEOUT, link.client.batch_execute(&drop)).await;
    }
    removed
}

/// Makes the session a member of the role: only a member or a superuser may terminate its sessions. Since Postgres 16
/// the creator of a role is not a member.
async fn join_role(link: &Link, role: &str) -> Result<(), SyncError> {
    let query = "select pg_has_role($1, 'usage'), format('grant %I to current_user', $1::text)";
    let row = timed(RETIRING, CALL_TIMEOUT, link.client.query_one(query, &[&role])).await?;
    let (is_member, grant): (bool, String) = (row.get(0), row.get(1));
    match is_member {
        true => Ok(()),
        false => timed(RETIRING, CALL_TIMEOUT, link.client.batch_execute(&grant)).await,
    }
}

/// A connection to a database with roles. Validates the device id.
async fn checked(config: &Config, device: &str) -> Result<Link, SyncError> {
    device_id(device).map_err(|message| SyncError::Setup(format!("the id of an appliance {message}")))?;
    ready(database_of(config)?, config).await
}

/// A transaction that excludes other changes of roles.
async fn begin<'a>(link: &'a mut Link, doing: &'static str) -> Result<Transaction<'a>, SyncError> {
    let transaction = timed(doing, CALL_TIMEOUT, link.client.transaction()).await?;
    timed(doing, CALL_TIMEOUT, transaction.batch_execute(&rows::lock())).await?;
    Ok(transaction)
}

/// Runs a statement without parameters, which the server formats from quoted values.
async fn run_formatted(
    transaction: &Transaction<'_>,
    doing: &'static str,
    expression: &str,
    values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<(), SyncError> {
    let query = format!("select {expression}");
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
