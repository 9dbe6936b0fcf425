use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// What a push of the script does.
enum Act {
    Deliver(u64),
    /// Says that more waits and delivers nothing.
    Pretend,
    Fail,
    Stop,
    Panic,
    /// Takes this long.
    Slow(Duration),
}

struct Script {
    acts: Arc<Mutex<VecDeque<Act>>>,
    pushes: Arc<AtomicU32>,
    resets: Arc<AtomicU32>,
}

impl SinkDriver for Script {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        self.pushes.fetch_add(1, Ordering::SeqCst);
        let act = {
            let mut acts = self.acts.lock().unwrap();
            // The last act is played for ever.
            if acts.len() > 1 {
                acts.pop_front().unwrap()
            } else {
                acts.pop_front().map(|a| next_act(&mut acts, a)).unwrap()
            }
        };
        match act {
            Act::Deliver(delivered) => Ok(Progress { delivered, ..Progress::default() }),
            Act::Pretend => Ok(Progress { more: true, ..Progress::default() }),
            Act::Fail => Err(SyncError::Unreachable { doing: "connect", message: "refused".into() }),
            Act::Stop => Err(SyncError::Setup("wrong".into())),
            Act::Panic => panic!("a fault of the sink"),
            Act::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(Progress { delivered: 1, ..Progress::default() })
            }
        }
    }

    fn reset(&mut self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }
}

fn next_act(acts: &mut VecDeque<Act>, act: Act) -> Act {
    acts.push_back(match &act {
        Act::Deliver(n) => Act::Deliver(*n),
        Act::Pretend => Act::Pretend,
        Act::Fail => Act::Fail,
        Act::Stop => Act::Stop,
        Act::Panic => Act::Panic,
        Act::Slow(time) => Act::Slow(*time),
    });
    act
}

struct Bed {
    head: watch::Sender<Position>,
    now: Arc<Notify>,
    stop: watch::Sender<bool>,
    paused: watch::Sender<Option<Instant>>,
    gauge: Gauge,
    pushes: Arc<AtomicU32>,
    resets: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

fn bed(min: Duration, acts: Vec<Act>) -> Bed {
    bed_with(min, acts, DeliveryHours::at(None))
}

fn bed_with(min: Duration, acts: Vec<Act>, hours_open: DeliveryHours) -> Bed {
    let (head, stop, now) =
        (watch::Sender::new(Position { lsn: 0, seq: 0 }), watch::Sender::new(false), Arc::new(Notify::new()));
    let (pushes, resets) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let driver =
        Script { acts: Arc::new(Mutex::new(acts.into())), pushes: pushes.clone(), resets: resets.clone() };
    let gauge = Gauge::new(Sink::Rows, true);
    let paused = watch::Sender::new(None);
    let wake = Wake {
        head: head.subscribe(),
        now: now.clone(),
        stop: stop.subscribe(),
        paused: paused.subscribe(),
        hours_open,
    };
    let backoff = Backoff::new(min, min * 10);
    let task = tokio::spawn(run(driver, Sink::Rows, gauge.clone(), backoff, wake));
    Bed { head, now, stop, paused, gauge, pushes, resets, task }
}

impl Bed {
    fn pushes(&self) -> u32 {
        self.pushes.load(Ordering::SeqCst)
    }

    async fn reaches(&self, pushes: u32) {
        let start = Instant::now();
        while self.pushes() < pushes {
            assert!(start.elapsed() < Duration::from_secs(10), "{} of {pushes} pushes", self.pushes());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A loaded machine may need longer than the time in which nothing is to happen.
    async fn comes_to(&self, state: SinkState) {
        let start = Instant::now();
        while self.gauge.read().state != state {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}, not {state:?}", self.gauge.read());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn news(&self) {
        self.head.send_modify(|head| head.lsn += 1);
    }

    async fn ends(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const SHORT_DELAY: Duration = Duration::from_millis(60);

#[tokio::test]
async fn news_during_a_push_is_pushed_after_it_and_silence_is_silent() {
    let bed = bed(HOUR, vec![Act::Slow(SHORT_DELAY), Act::Deliver(0)]);
    bed.reaches(1).await;
    bed.news();
    bed.reaches(2).await;
    tokio::time::sleep(SHORT_DELAY * 3).await;
    assert_eq!(bed.pushes(), 2, "nothing new, nothing pushed");
    assert_eq!(bed.gauge.read().delivered, 1);
    bed.ends().await;
}

#[tokio::test]
async fn after_a_failure_news_must_wait_and_an_operator_need_not() {
    let bed = bed(HOUR, vec![Act::Fail, Act::Deliver(5)]);
    bed.reaches(1).await;
    bed.news();
    tokio::time::sleep(SHORT_DELAY * 2).await;
    assert_eq!((bed.pushes(), bed.resets.load(Ordering::SeqCst)), (1, 1));
    assert!(bed.gauge.read().error.is_some());
    bed.now.notify_one();
    bed.reaches(2).await;
    tokio::time::sleep(SHORT_DELAY).await;
    assert_eq!((bed.gauge.read().error, bed.gauge.read().delivered), (None, 5));
    bed.ends().await;
}

#[tokio::test]
async fn sync_now_tries_the_service_although_nothing_is_pending() {
    let bed = bed(HOUR, vec![Act::Deliver(1), Act::Fail]);
    bed.reaches(1).await;
    tokio::time::sleep(SHORT_DELAY).await;
    let mut pushes = bed.gauge.pushes();
    bed.now.notify_one();
    pushes.changed().await.unwrap();
    assert_eq!(bed.resets.load(Ordering::SeqCst), 2, "once for the question, once after the failure");
    assert!(bed.gauge.read().error.is_some());
    bed.ends().await;
}

#[tokio::test]
async fn neither_failures_nor_empty_promises_make_a_hot_loop() {
    for act in [Act::Fail, Act::Stop, Act::Pretend, Act::Panic] {
        let (begin, bed) = (Instant::now(), bed(Duration::from_millis(50), vec![act]));
        bed.reaches(2).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Every wait is of 50 ms or more, and the promises get their first turns free.
        let (pushes, waits) = (bed.pushes(), begin.elapsed().as_millis() / 50);
        assert!(u128::from(pushes) <= u128::from(PUSHES_WITHOUT_PROGRESS_MAX) + waits + 2, "{pushes} pushes");
        bed.ends().await;
    }
}

#[tokio::test]
async fn a_closed_store_ends_the_loop_and_the_status_says_stopped() {
    let Bed { head, gauge, task, stop, .. } = bed(HOUR, vec![Act::Deliver(0)]);
    drop(head);
    tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    assert_eq!(gauge.read().state, crate::SinkState::Stopped);
    drop(stop);
}

#[tokio::test]
async fn a_pause_holds_everything_until_it_ends_or_is_ended() {
    let bed = bed(HOUR, vec![Act::Deliver(0)]);
    bed.reaches(1).await;
    bed.paused.send_replace(Some(Instant::now() + HOUR));
    bed.news();
    bed.now.notify_one();
    bed.comes_to(SinkState::Paused).await;
    tokio::time::sleep(SHORT_DELAY * 2).await;
    assert_eq!((bed.pushes(), bed.gauge.read().state), (1, SinkState::Paused));
    assert!(bed.gauge.read().next_retry.is_some());
    bed.paused.send_replace(None);
    bed.reaches(2).await;
    bed.paused.send_replace(Some(Instant::now() + SHORT_DELAY));
    bed.news();
    bed.reaches(3).await;
    bed.paused.send_replace(Some(Instant::now() + HOUR));
    tokio::time::sleep(SHORT_DELAY).await;
    bed.ends().await;
}

/// The clock of the next test, in seconds since midnight.
static CLOCK: AtomicU32 = AtomicU32::new(12 * 3600);

#[tokio::test]
async fn outside_its_hours_a_sink_waits_and_says_until_when() {
    let clock = || CLOCK.load(Ordering::SeqCst);
    let hours = gatehouse_config::Hours::parse("22:00-06:00");
    let hours_open = DeliveryHours { hours, clock, recheck_interval: Duration::from_millis(5) };
    let bed = bed_with(HOUR, vec![Act::Deliver(0)], hours_open);
    bed.news();
    bed.comes_to(SinkState::Scheduled).await;
    tokio::time::sleep(SHORT_DELAY).await;
    let status = bed.gauge.read();
    assert_eq!((bed.pushes(), status.state), (0, SinkState::Scheduled));
    let left = status.next_retry.unwrap().0 - gatehouse_model::Timestamp::now().0;
    assert!((9 * HOUR.as_secs()..=10 * HOUR.as_secs()).contains(&(left as u64 / 1_000_000)), "{left}");
    // A clock that is set right is believed.
    CLOCK.store(22 * 3600, Ordering::SeqCst);
    bed.reaches(1).await;
    bed.paused.send_replace(Some(Instant::now() + HOUR));
    bed.comes_to(SinkState::Paused).await;
    bed.paused.send_replace(None);
    bed.reaches(2).await;
    CLOCK.store(6 * 3600, Ordering::SeqCst);
    bed.news();
    bed.comes_to(SinkState::Scheduled).await;
    tokio::time::sleep(SHORT_DELAY).await;
    assert_eq!((bed.pushes(), bed.gauge.read().state), (2, SinkState::Scheduled));
    bed.ends().await;
}
