#[path = "rows/support.rs"]
#[allow(dead_code)]
mod support;
use futures_util::{SinkExt, StreamExt};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let bed = support::Bed::new("speed").await;
    let n = 100_000u64;
    let all = support::events(1..=n);
    let mut w = bed.writer("edge-1").await;
    let t = std::time::Instant::now();
    for c in all.chunks(1000) { support::deliver_all(&mut w, c).await.unwrap(); }
    let ours = t.elapsed().as_secs_f64();
    let c = bed.database.connect().await.unwrap();
    let out: Vec<bytes::Bytes> = c.copy_out("copy (select * from gatehouse.events) to stdout (format binary)").await.unwrap().map(|x| x.unwrap()).collect().await;
    let bytes: usize = out.iter().map(|b| b.len()).sum();
    c.batch_execute("truncate gatehouse.events").await.unwrap();
    let t = std::time::Instant::now();
    let mut s = Box::pin(c.copy_in::<_, bytes::Bytes>("copy gatehouse.events from stdin (format binary)").await.unwrap());
    for b in out { s.feed(b).await.unwrap(); }
    s.as_mut().finish().await.unwrap();
    let bare = t.elapsed().as_secs_f64();
    println!("ours {:.0}/s bare {:.0}/s ratio {:.2} bytes/row {}", n as f64 / ours, n as f64 / bare, bare / ours, bytes as u64 / n);
}
