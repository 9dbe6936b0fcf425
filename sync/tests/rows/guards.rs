use gatehouse_admin as central;
use gatehouse_central::{GuardFault, SyncError};
use gatehouse_config::{Config, Environment};
use gatehouse_sync::rows::Writer;
use gatehouse_testkit::certs::Certificates;
use gatehouse_testkit::tls::{Opening, TlsFront};

use crate::support::{Bed, deliver_all, events, identity};

async fn refused(bed: &Bed, device: &str, environment: Environment) -> SyncError {
    let identity = gatehouse_central::rows::Identity { environment, ..identity(device) };
    Writer::open(&bed.rows(), identity).await.err().unwrap()
}

#[tokio::test]
async fn environments_never_mix_and_nothing_is_written_before_that_is_known() {
    use Environment::{Dev, Prod, Staging};
    for theirs in [Dev, Staging, Prod] {
        let bed = Bed::empty("mix").await;
        central::init(&bed.config(theirs.as_str())).await.unwrap();
        for ours in [Dev, Staging, Prod] {
            if ours == theirs {
                continue;
            }
            let error = refused(&bed, "edge-1", ours).await;
            assert!(matches!(error, SyncError::Guard(GuardFault::Environment { .. })), "{error}");
            assert!(error.stops_sink() && error.to_string().contains(theirs.as_str()), "{error}");
            let error = central::init(&bed.config(ours.as_str())).await.unwrap_err();
            assert!(matches!(error, SyncError::Guard(GuardFault::Environment { .. })), "{error}");
        }
        assert_eq!(bed.count("select count(*) from gatehouse.devices").await, 0);
        let identity = gatehouse_central::rows::Identity { environment: theirs, ..identity("edge-1") };
        Writer::open(&bed.rows(), identity).await.unwrap();
    }
}

#[tokio::test]
async fn a_mark_that_changes_under_an_open_session_stops_the_next_batch() {
    let bed = Bed::new("remark").await;
    let mut writer = bed.writer("edge-1").await;
    writer.deliver(&events(1..=3)).await.unwrap();
    let client = bed.database.connect().await.unwrap();
    client.execute("update gatehouse.environment set name = 'prod'", &[]).await.unwrap();
    let error = writer.deliver(&events(4..=5)).await.unwrap_err();
    assert!(matches!(error, SyncError::Guard(GuardFault::Environment { .. })), "{error}");
    bed.assert_whole("edge-1", 3).await;
}

#[tokio::test]
async fn a_second_state_directory_under_the_same_device_id_is_refused() {
    let bed = Bed::new("foreign").await;
    deliver_all(&mut bed.writer("edge-1").await, &events(1..=3)).await.unwrap();
    let other = gatehouse_central::rows::Identity { state_id: "another".into(), ..identity("edge-1") };
    let error = Writer::open(&bed.rows(), other).await.err().unwrap();
    assert!(matches!(error, SyncError::Guard(GuardFault::ForeignState { .. })), "{error}");
    assert!(error.to_string().contains("device.id"), "{error}");
    bed.assert_whole("edge-1", 3).await;
}

#[tokio::test]
async fn what_is_not_prepared_wrong_or_closed_is_said_in_words() {
    let bed = Bed::empty("bare").await;
    let error = refused(&bed, "edge-1", Environment::Dev).await;
    assert!(error.stops_sink() && error.to_string().contains("gatehouse central init"), "{error}");

    let mut rows = bed.rows();
    rows.url = rows.url.replace("/bare", "/nowhere");
    let error = Writer::open(&rows, identity("edge-1")).await.err().unwrap();
    assert!(matches!(&error, SyncError::Denied { code, .. } if code == "3D000"), "{error}");

    std::fs::write(bed.folder.path().join("password"), "wrong-secret").unwrap();
    let error = refused(&bed, "edge-1", Environment::Dev).await;
    assert!(matches!(error, SyncError::Denied { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong-secret"));

    std::fs::remove_file(bed.folder.path().join("password")).unwrap();
    let error = refused(&bed, "edge-1", Environment::Dev).await;
    assert!(matches!(error, SyncError::Setup(_)), "{error}");
}

#[tokio::test]
async fn check_names_the_first_fault_and_init_cures_it() {
    let bed = Bed::empty("check").await;
    let config = bed.config("dev");
    let findings = central::check(&config).await;
    let last = findings.last().unwrap();
    assert_eq!((last.what.as_str(), last.ok), ("database: schema", false));
    assert!(last.advice.as_deref().unwrap().contains("central init"));

    let steps = central::init(&config).await.unwrap();
    assert!(steps.iter().any(|step| step.changed && step.what.contains("migration 1")));
    assert!(
        central::init(&config).await.unwrap().iter().all(|step| !step.changed),
        "the second run changes nothing"
    );
    let findings = central::check(&config).await;
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");

    deliver_all(&mut bed.writer("edge-1").await, &events(1..=9)).await.unwrap();
    let client = bed.database.connect().await.unwrap();
    client.execute("delete from gatehouse.events where seq = 4", &[]).await.unwrap();
    let findings = central::check(&config).await;
    let last = findings.last().unwrap();
    assert!(!last.ok && last.message.contains("1 missing"), "{last:?}");

    let findings = central::check(&bed.config("prod")).await;
    assert_eq!(findings.last().unwrap().what, "database: environment");
}

#[tokio::test]
async fn settings_without_a_central_side_are_said_to_have_none() {
    let config = Config::from_text("[device]\nid = \"edge-1\"\nenvironment = \"dev\"\n").unwrap();
    assert!(central::init(&config).await.unwrap_err().to_string().contains("[central.rows]"));
    assert!(!central::check(&config).await[0].ok);
}

#[tokio::test]
async fn a_server_is_believed_only_with_a_certificate_of_the_named_authority() {
    let bed = Bed::new("tls").await;
    let certificates = Certificates::make(bed.folder.path()).unwrap();
    let front = TlsFront::start(bed.database.port, Opening::Postgres, &certificates.server()).unwrap();
    let mut rows = bed.rows_at(front.port());
    rows.ca_file = Some(certificates.ca.clone());
    let mut writer = Writer::open(&rows, identity("edge-1")).await.unwrap();
    deliver_all(&mut writer, &events(1..=10)).await.unwrap();
    bed.assert_whole("edge-1", 10).await;

    rows.ca_file = Some(certificates.stranger_ca.clone());
    let error = Writer::open(&rows, identity("edge-1")).await.err().unwrap();
    assert!(matches!(&error, SyncError::Certificate { .. }), "{error}");
    assert!(error.to_string().contains("ca_file"), "{error}");

    // Neither is a server that speaks no TLS at all.
    let plain = gatehouse_config::Rows { ca_file: Some(certificates.ca), ..bed.rows() };
    let error = Writer::open(&plain, identity("edge-1")).await.err().unwrap();
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn the_certificate_of_the_appliance_is_shown_to_a_server_that_asks_for_it() {
    let bed = Bed::new("client_certificate").await;
    let certificates = Certificates::make(bed.folder.path()).unwrap();
    let server = certificates.server();
    let front = TlsFront::asking(bed.database.port, Opening::Postgres, &server, &certificates.ca).unwrap();
    let without =
        gatehouse_config::Rows { ca_file: Some(certificates.ca.clone()), ..bed.rows_at(front.port()) };
    assert!(Writer::open(&without, identity("edge-1")).await.is_err());
    let (cert_file, key_file) = (Some(certificates.client), Some(certificates.client_key));
    let with = gatehouse_config::Rows { cert_file, key_file, ..without };
    let mut writer = Writer::open(&with, identity("edge-1")).await.unwrap();
    deliver_all(&mut writer, &events(1..=3)).await.unwrap();
    bed.assert_whole("edge-1", 3).await;
}
