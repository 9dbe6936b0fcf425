use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, all_taken};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use crate::house::PATIENCE;
use std::time::Duration;
#[tokio::test(flavor = "multi_thread")]
async fn tmp_window() {
    for (max, wait) in [(1000u16, 1000usize), (100, 100), (1000, 400)] {
    let broker = Broker::start().unwrap();
    let mut o = MqttOptions::new("x", "127.0.0.1", broker.port());
    o.set_clean_start(false).set_session_expiry_interval(Some(100)).set_receive_maximum(Some(max)).set_manual_acks(true);
    let (client, mut el) = AsyncClient::new(o, 100_000);
    client.try_subscribe("a/#", QoS::AtLeastOnce).unwrap();
    let c2 = client.clone();
    let t = tokio::spawn(async move { let mut got = 0i64; let mut written=0i64; let mut held = vec![]; let (mut max_un, mut max_q) = (0,0); let mut queued=0i64;
      loop { match tokio::time::timeout(Duration::from_secs(2), el.poll()).await {
        Ok(Ok(Event::Incoming(Packet::Publish(p)))) => { got += 1; held.push(p); if held.len() >= wait { for p in held.drain(..) { c2.try_ack(&p).unwrap(); queued += 1; } } },
        Ok(Ok(Event::Outgoing(rumqttc::Outgoing::PubAck(_)))) => written += 1,
        Ok(Ok(_)) => {}, Ok(Err(e)) => {eprintln!("{e}"); break}, Err(_) => break }
        max_un = max_un.max(got - written); max_q = max_q.max(queued - written); } (got, written, max_un, max_q) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let camera = Camera::connect("c", &Address::local(broker.port()));
    let r: Vec<_> = (0..5000).map(|n| camera.send("a/b", n.to_string(), false)).collect();
    all_taken(r, PATIENCE).await.unwrap();
    eprintln!("receive max {max}: {:?}", t.await.unwrap());
    drop(client);
    }
}
