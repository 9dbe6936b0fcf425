//! The camera, the listener and both brokers.

use std::time::Duration;

use anyhow::Result;
use gatehouse_testkit::broker::{Broker, BrokerOptions};
use gatehouse_testkit::camera::{Address, Camera, Listener, all_taken};
use gatehouse_testkit::embedded::EmbeddedBroker;

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn nothing_is_lost_over_a_restart_of_the_broker() -> Result<()> {
    let broker = Broker::start()?;
    let address = Address::local(broker.port());
    let listener = Listener::subscribe("all", &address, &["t/#"], TIMEOUT).await?;
    let camera = Camera::connect("one", &address);
    let mut receipts = Vec::new();
    for number in 0..2000 {
        receipts.push(camera.send("t/x", format!("{number}"), false));
        if number == 1000 {
            broker.stop()?;
        }
    }
    broker.restart()?;
    all_taken(receipts, TIMEOUT).await?;
    let seen = || {
        let mut numbers: Vec<u32> = listener.with(|all| {
            all.iter().filter_map(|m| String::from_utf8_lossy(&m.payload).parse().ok()).collect()
        });
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    };
    gatehouse_testkit::wait::until_async("all messages", TIMEOUT, || async { seen() == 2000 }).await
}

#[tokio::test]
async fn the_embedded_broker_serves_a_camera_and_keeps_a_session() -> Result<()> {
    let broker = EmbeddedBroker::start()?;
    let address = Address::local(broker.port());
    let camera = Camera::connect("one", &address);
    let first = Listener::subscribe("all", &address, &["t/#"], TIMEOUT).await?;
    camera.publish("t/x", "one", false, TIMEOUT).await?;
    first.wait_for("the first", TIMEOUT, |m| m.payload == b"one").await?;
    drop(first);
    tokio::time::sleep(Duration::from_millis(300)).await;
    camera.publish("t/x", "two", false, TIMEOUT).await?;
    let second = Listener::subscribe("all", &address, &["t/#"], TIMEOUT).await?;
    second.wait_for("what came while it was away", TIMEOUT, |m| m.payload == b"two").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_tls_listens() -> Result<()> {
    let users = vec![("house".to_owned(), "secret".to_owned())];
    let broker = Broker::start_with(&BrokerOptions { users, ..BrokerOptions::default() })?;
    let mut address = Address::local(broker.port());
    address.credentials = Some(("house".into(), "wrong".into()));
    let short = Duration::from_secs(1);
    assert!(Listener::subscribe("bad", &address, &["t/#"], short).await.is_err());
    address.credentials = Some(("house".into(), "secret".into()));
    Listener::subscribe("good", &address, &["t/#"], TIMEOUT).await?;
    let tls =
        Broker::start_with(&BrokerOptions { tls: true, client_certificates: true, ..Default::default() })?;
    assert!(tls.url().starts_with("mqtts://") && tls.certificates().is_some());
    Ok(())
}
