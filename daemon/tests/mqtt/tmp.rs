use std::time::Instant;
use gatehouse_testkit::camera::all_taken;
use crate::house::{House, PATIENCE, idle, visit};
#[tokio::test(flavor = "multi_thread")]
async fn tmp_speed() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_test_writer().init();
    let house = House::new().await;
    let pipeline = house.open().await;
    let begun = Instant::now();
    let receipts: Vec<_> = (0..5000).map(|n| house.camera.send("gatehouse/door/event", visit(&n.to_string()).to_string(), false)).collect();
    all_taken(receipts, PATIENCE).await.unwrap();
    eprintln!("published {:?}", begun.elapsed());
    house.stored(5000).await;
    eprintln!("stored {:?}", begun.elapsed());
    idle(&pipeline).await;
    eprintln!("idle {:?} {:?}", begun.elapsed(), pipeline.stats());
    let mut worst = vec![];
    for n in 0..200 { let t = Instant::now(); let id=format!("l{n}"); house.event(&visit(&id)).await; 
      loop { if house.listener.with(|m| m.last().is_some_and(|m| m.json()["event_id"]==id.as_str())) {break} tokio::task::yield_now().await; }
      worst.push(t.elapsed()); }
    worst.sort(); eprintln!("p50 {:?} p99 {:?}", worst[100], worst[198]);
}
