//! `gatehouse central migrate`, `enroll-device` and `retire-device`.

use gatehouse_admin as central;
use gatehouse_admin::SignIn;
use gatehouse_central::rows::MIGRATIONS;
use gatehouse_central::{GuardFault, SyncError};
use gatehouse_config::{Rows, Secret};
use gatehouse_sync::rows::Writer;
use gatehouse_testkit::postgres::SUPERUSER;

use crate::support::{Bed, DEVICE_PASSWORD, deliver_all, event, events, identity};

#[tokio::test]
async fn an_appliance_that_delivers_gets_its_role_and_goes_on_where_it_was() {
    let bed = Bed::new("takeover").await;
    deliver_all(&mut bed.writer("edge-1").await, &events(1..=5)).await.unwrap();
    let rows = bed.enrolled("edge-1").await;
    let mut writer = Writer::open(&rows, identity("edge-1")).await.unwrap();
    assert_eq!(writer.cursor().seq, 5);
    deliver_all(&mut writer, &events(6..=9)).await.unwrap();
    bed.assert_whole("edge-1", 9).await;
    let reported =
        bed.text("select details::text from gatehouse.audit_log where action = 'device.enroll'").await;
    assert!(reported.contains("\"rotated\": false") && !reported.contains(DEVICE_PASSWORD), "{reported}");
}

#[tokio::test]
async fn enrolling_again_gives_a_new_password_and_the_old_one_is_refused() {
    let bed = Bed::new("rotate").await;
    let rows = bed.enrolled("edge-1").await;
    deliver_all(&mut Writer::open(&rows, identity("edge-1")).await.unwrap(), &events(1..=3)).await.unwrap();
    let password = central::new_password();
    assert_ne!(password, central::new_password());
    let again = central::enroll(&bed.config("dev"), "edge-1", SignIn::Password(&password)).await.unwrap();
    assert!(again.rotated && again.policy.is_none());
    let error = Writer::open(&rows, identity("edge-1")).await.err().unwrap();
    assert!(matches!(&error, SyncError::Denied { code, .. } if code == "28P01"), "{error}");
    std::fs::write(rows.password_file.as_ref().unwrap(), password.text().unwrap()).unwrap();
    let writer = Writer::open(&rows, identity("edge-1")).await.unwrap();
    assert_eq!(writer.cursor().seq, 3, "the state directory stays bound, and the rows are there");
    let kept = format!("select rolpassword from pg_authid where rolname = '{}'", again.role);
    assert!(bed.text(&kept).await.starts_with("SCRAM-SHA-256$"));
}

#[tokio::test]
async fn an_appliance_with_a_certificate_has_no_password_any_more() {
    let bed = Bed::new("certificate").await;
    let rows = bed.enrolled("edge-1").await;
    deliver_all(&mut Writer::open(&rows, identity("edge-1")).await.unwrap(), &events(1..=3)).await.unwrap();
    let again = central::enroll(&bed.config("dev"), "edge-1", SignIn::Certificate).await.unwrap();
    assert!(again.rotated);
    let error = Writer::open(&rows, identity("edge-1")).await.err().unwrap();
    assert!(matches!(&error, SyncError::Denied { code, .. } if code == "28P01"), "{error}");
    let query =
        format!("select count(*) from pg_authid where rolname = '{}' and rolpassword is null", again.role);
    assert_eq!(bed.count(&query).await, 1);
}

#[tokio::test]
async fn a_retired_appliance_loses_its_session_and_leaves_its_rows() {
    let bed = Bed::new("retire").await;
    let rows = bed.enrolled("edge-1").await;
    let mut writer = Writer::open(&rows, identity("edge-1")).await.unwrap();
    deliver_all(&mut writer, &events(1..=3)).await.unwrap();
    let role = bed.role("edge-1").await;
    // Its session is open, and so is the table that it made.
    let steps = central::retire(&bed.config("dev"), "edge-1", false).await.unwrap();
    assert!(steps.iter().all(|step| step.changed), "{steps:?}");
    assert!(writer.deliver(&[event(4, 4)]).await.is_err());
    assert!(bed.database.connect_as(&role, DEVICE_PASSWORD).await.is_err());
    assert_eq!(bed.count(&format!("select count(*) from pg_roles where rolname = '{role}'")).await, 0);
    bed.assert_whole("edge-1", 3).await;
    let error = central::retire(&bed.config("dev"), "edge-1", false).await.unwrap_err();
    assert!(error.to_string().contains("has no role here"), "{error}");
    // It can come back, with its own past.
    let rows = bed.enrolled("edge-1").await;
    assert_eq!(Writer::open(&rows, identity("edge-1")).await.unwrap().cursor().seq, 3);
}

#[tokio::test]
async fn what_is_not_to_be_enrolled_is_refused_and_changes_nothing() {
    let bed = Bed::new("refuse").await;
    let password = Secret::new(b"x".to_vec());
    let config = bed.config("dev");
    for id in ["", "a b", "a\"; drop role x; --", "ü", "central", &"x".repeat(49)] {
        let error = central::enroll(&config, id, SignIn::Password(&password)).await.unwrap_err();
        assert!(matches!(error, SyncError::Setup(_)), "{id}: {error}");
    }
    // A role of that name that another program made, even one with all permissions.
    let role = format!("{}_taken", bed.database.name);
    let admin = bed.database.connect().await.unwrap();
    admin.batch_execute(&format!("create role \"{role}\" superuser")).await.unwrap();
    let error = central::enroll(&config, "taken", SignIn::Password(&password)).await.unwrap_err();
    assert!(error.to_string().contains("drop role"), "{error}");
    let error =
        central::enroll(&bed.config("prod"), "edge-1", SignIn::Password(&password)).await.unwrap_err();
    assert!(matches!(error, SyncError::Guard(GuardFault::Environment { .. })), "{error}");
    assert_eq!(bed.count("select count(*) from gatehouse.devices").await, 0);
    assert_eq!(bed.count("select count(*) from gatehouse.audit_log").await, 0);
}

#[tokio::test]
async fn two_long_ids_that_begin_alike_get_two_roles() {
    let bed = Bed::new("a_database_with_a_long_name").await;
    let (one, two) = (format!("{}1", "x".repeat(47)), format!("{}2", "x".repeat(47)));
    for id in [&one, &two] {
        let rows: Rows = bed.enrolled(id).await;
        deliver_all(&mut Writer::open(&rows, identity(id)).await.unwrap(), &events(1..=2)).await.unwrap();
    }
    assert_ne!(bed.role(&one).await, bed.role(&two).await);
    bed.assert_whole(&two, 2).await;
}

#[tokio::test]
async fn an_owner_who_is_no_superuser_prepares_enrolls_and_retires() {
    let bed = Bed::empty("owner").await;
    let admin = bed.database.connect().await.unwrap();
    let (name, owner) = (&bed.database.name, format!("{}_admin", bed.database.name));
    // Another database of the server may have created the groups: then this role needs the permission to grant them.
    Bed::new("first").await;
    let make = format!(
        "create role \"{owner}\" login createrole password 'admin'; alter database \"{name}\" owner to \"{owner}\"; \
         grant gatehouse_device to \"{owner}\" with admin option"
    );
    admin.batch_execute(&make).await.unwrap();
    std::fs::write(bed.folder.path().join("password"), "admin").unwrap();
    let mut config = bed.config("dev");
    let rows = config.central.rows.as_mut().unwrap();
    rows.url = rows.url.replace(&format!("//{SUPERUSER}@"), &format!("//{owner}@"));
    // pgvector is a superuser's to bring: until then all but people are served.
    let steps = central::init(&config).await.unwrap();
    assert!(steps.last().unwrap().what.contains("create extension vector"), "{steps:?}");
    admin.batch_execute("create extension vector").await.unwrap();
    let steps = central::init(&config).await.unwrap();
    assert!(steps[0].changed && steps[0].what.contains("people"), "{steps:?}");
    let password = Secret::new(DEVICE_PASSWORD.into());
    let role = central::enroll(&config, "edge-1", SignIn::Certificate).await.unwrap().role;
    let again = central::enroll(&config, "edge-1", SignIn::Password(&password)).await.unwrap();
    assert!(again.rotated && again.role == role, "{again:?}");
    let device = bed.database.connect_as(&role, DEVICE_PASSWORD).await.unwrap();
    assert_eq!(device.query("select from gatehouse.devices", &[]).await.unwrap().len(), 1);
    let steps = central::retire(&config, "edge-1", false).await.unwrap();
    assert!(steps.iter().all(|step| step.changed), "{steps:?}");
    assert_eq!(bed.count("select count(*) from gatehouse.devices where role_name is null").await, 1);
}

#[tokio::test]
async fn a_role_that_may_do_too_much_is_named_with_the_cure_and_stays_as_it_is() {
    let bed = Bed::new("powerful").await;
    bed.enrolled("edge-1").await;
    let role = bed.role("edge-1").await;
    let admin = bed.database.connect().await.unwrap();
    admin.batch_execute(&format!("alter role \"{role}\" createdb bypassrls")).await.unwrap();
    let password = central::new_password();
    let config = bed.config("dev");
    let error = central::enroll(&config, "edge-1", SignIn::Password(&password)).await.unwrap_err();
    assert!(error.to_string().contains("(createdb, bypassrls)"), "{error}");
    let cure = format!("alter role \"{role}\" nocreatedb nobypassrls");
    assert!(error.to_string().contains(&cure), "{error}");
    bed.database.connect_as(&role, DEVICE_PASSWORD).await.unwrap();
    admin.batch_execute(&cure).await.unwrap();
    assert!(central::enroll(&config, "edge-1", SignIn::Password(&password)).await.unwrap().rotated);
}

#[tokio::test]
async fn a_refusal_of_the_server_is_shown_with_its_detail_and_without_values_of_a_row() {
    let bed = Bed::new("detail").await;
    // A superuser made the role, so that the owner may not change it.
    bed.enrolled("edge-1").await;
    let admin = bed.database.connect().await.unwrap();
    let owner = format!("{}_admin", bed.database.name);
    let make = format!(
        "create role \"{owner}\" login createrole password 'admin'; \
         grant usage on schema gatehouse to \"{owner}\"; \
         grant all on all tables in schema gatehouse to \"{owner}\"; \
         grant gatehouse_privacy to \"{owner}\""
    );
    admin.batch_execute(&make).await.unwrap();
    std::fs::write(bed.folder.path().join("password"), "admin").unwrap();
    let mut config = bed.config("dev");
    let rows = config.central.rows.as_mut().unwrap();
    rows.url = rows.url.replace(&format!("//{SUPERUSER}@"), &format!("//{owner}@"));
    let error = central::enroll(&config, "edge-1", SignIn::Certificate).await.unwrap_err();
    assert!(error.to_string().contains("permission denied to alter role"), "{error}");
    assert!(
        error.to_string().contains("Only roles with the CREATEROLE attribute and the ADMIN option"),
        "{error}"
    );
}

#[tokio::test]
async fn the_schema_goes_down_only_where_that_is_meant() {
    let bed = Bed::new("downs").await;
    deliver_all(&mut bed.writer("edge-1").await, &events(1..=3)).await.unwrap();
    let config = bed.config("dev");
    let error = central::migrate(&config, Some(1), false).await.unwrap_err();
    assert!(error.to_string().contains("--discard"), "{error}");
    let error = central::migrate(&bed.config("prod"), Some(0), true).await.unwrap_err();
    assert!(matches!(error, SyncError::Guard(GuardFault::Environment { .. })), "{error}");
    let down = central::migrate(&config, Some(1), true).await.unwrap();
    assert_eq!(down.len(), MIGRATIONS.len() - 1);
    let error = central::person(&config, "anna").await.unwrap_err();
    assert!(error.to_string().contains("central init"), "{error}");
    let up = central::migrate(&config, None, false).await.unwrap();
    assert!(up.iter().all(|step| step.changed) && up.len() == down.len(), "{up:?}");
    assert!(!central::migrate(&config, None, false).await.unwrap()[0].changed);
    bed.assert_whole("edge-1", 3).await;
}
