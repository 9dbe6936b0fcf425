//! TLS, certificates, passwords, access lists.

use gatehouse_testkit::broker::{Broker, BrokerOptions};
use gatehouse_testkit::wait;

use super::setup::{Setup, TEST_TIMEOUT, connected};

fn tls() -> BrokerOptions {
    BrokerOptions { tls: true, client_certificates: true, ..BrokerOptions::default() }
}

fn certificates(broker: &Broker) -> String {
    let files = broker.certificates().unwrap();
    format!(
        "ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"",
        files.ca.display(),
        files.client.display(),
        files.client_key.display()
    )
}

async fn error(setup: &Setup, part: &str) {
    let pipeline = setup.start();
    let is_reported = || async { pipeline.stats().error.is_some_and(|words| words.contains(part)) };
    let found = wait::until_async("the error", TEST_TIMEOUT, is_reported).await;
    assert!(found.is_ok(), "{:?}", pipeline.stats().error);
    assert!(!pipeline.stats().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_lets_it_in_over_tls() {
    let setup = Setup::with_broker(&tls(), certificates).await;
    let pipeline = setup.start();
    connected(&pipeline).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_a_foreign_authority_is_not_trusted() {
    let foreign = |broker: &Broker| {
        let files = broker.certificates().unwrap();
        certificates(broker).replace(&*files.ca.to_string_lossy(), &files.stranger_ca.to_string_lossy())
    };
    let words =
        "the broker's certificate: it is signed by an unknown authority; set mqtt.ca_file to its authority";
    error(&Setup::with_broker(&tls(), foreign).await, words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_the_own_certificate_is_distinguished_from_one_that_is_not_trusted() {
    let expired = |broker: &Broker| {
        let files = broker.certificates().unwrap();
        let text = |path: &std::path::Path| path.display().to_string();
        certificates(broker)
            .replace(&text(&files.client), &text(&files.expired.certificate))
            .replace(&text(&files.client_key), &text(&files.expired.key))
    };
    let setup = Setup::with_broker(&tls(), expired).await;
    error(&setup, "the broker does not accept this appliance's certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_file_is_named() {
    let missing = |broker: &Broker| certificates(broker).replace("client.pem", "nowhere.pem");
    error(&Setup::with_broker(&tls(), missing).await, "nowhere.pem").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_signs_in_and_a_wrong_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let options = BrokerOptions { users: vec![("edge".into(), "secret".into())], ..BrokerOptions::default() };
    let file = |name: &str, password: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, password).unwrap();
        format!("username = \"edge\"\npassword_file = \"{}\"", path.display())
    };
    let setup = Setup::with_broker(&options, |_| file("right", "secret\n")).await;
    let pipeline = setup.start();
    connected(&pipeline).await;
    assert!(pipeline.drain(TEST_TIMEOUT).await);
    error(&Setup::with_broker(&options, |_| file("wrong", "guess")).await, "mqtt.username").await;
}
