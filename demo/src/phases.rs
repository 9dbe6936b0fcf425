//! The phases: normal operation, an outage of the central services, the catch-up, and the verification.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::answers::{Answers, Latency};
use crate::environment::Environment;
use crate::report::Report;
use crate::screen::{Keep, Screen};
use crate::traffic::Traffic;
use crate::verification;

/// How often cameras and answers are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Visits per second in normal operation: as many as can be read.
const VISITS_PER_SECOND: u32 = 5;
/// Visits per second during the outage, so that a backlog builds up.
const OUTAGE_VISITS_PER_SECOND: u32 = 20;
/// Lines per second that can be read; further ones are only counted.
const READABLE_LINES_PER_SECOND: usize = 6;
/// Answers of each phase that the picture shows.
const PICTURE_LINES: usize = 5;
/// How often ledger and status are queried on a terminal.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How often ledger and status are queried where each query prints further lines.
const PLAIN_STATUS_INTERVAL: Duration = Duration::from_secs(3);
/// Minimum length of a phase: something must happen in it.
const PHASE_DURATION_MIN: Duration = Duration::from_secs(3);
/// Time that the end and the verification take at most.
const CLOSING_DURATION_MAX: Duration = Duration::from_secs(3);
/// After an outage of seconds the catch-up takes about one second; on a loaded machine more.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs all phases; true if the verification found no difference.
pub(crate) async fn run(screen: &Screen, end: Instant, gatehoused: Option<PathBuf>) -> Result<bool> {
    screen.line(&screen.bold("Gatehouse: cameras, an appliance and the central services on this machine"));
    screen.heading("Starting an appliance and its central services");
    let environment = Environment::start(screen, gatehoused).await?;
    let mut demo = Demo {
        screen,
        traffic: Traffic::new(environment.broker.port(), environment.residents.clone()),
        answers: Answers::default(),
        environment,
    };
    let left = end.saturating_duration_since(Instant::now()).saturating_sub(CLOSING_DURATION_MAX);
    let length = |share: f64| left.mul_f64(share).max(PHASE_DURATION_MIN);

    screen.heading("Normal operation: each visit is answered, then delivered");
    for line in [
        "0.305 < 0.470: distance of the encodings and threshold; smaller is a match.",
        "ms: from PUBLISH of the event to the answer at the camera.",
        "rows: events to Postgres; objects: pictures to S3.",
        "A few percent of a person's own pictures are too poor to match, on purpose.",
    ] {
        screen.line(&screen.dim(&format!("   {line}")));
    }
    demo.phase(length(0.45), VISITS_PER_SECOND).await?;

    screen.heading("Outage: Postgres and S3 are stopped; the answers continue");
    let note = format!("   {OUTAGE_VISITS_PER_SECOND} visits per second now; some of them are shown.");
    screen.line(&screen.dim(&note));
    demo.environment.interrupt()?;
    demo.phase(length(0.3), OUTAGE_VISITS_PER_SECOND).await?;

    screen.heading("Postgres and S3 are back: the backlog is delivered while visits go on");
    let note = "   Events arrive first; pictures follow in batches, each with its thumbnail.";
    screen.line(&screen.dim(note));
    demo.catch_up().await?;
    demo.phase(length(0.1), VISITS_PER_SECOND).await?;

    screen.heading("End: the cameras stop, the appliance delivers the rest, all is compared");
    demo.traffic.settle().await?;
    demo.drain().await?;
    // The last answers are counted, not shown.
    drop(demo.lines());
    let Demo { traffic, mut answers, environment, .. } = demo;
    verification::run(screen, environment, &traffic, &mut answers).await
}

/// The running demo.
struct Demo<'a> {
    screen: &'a Screen,
    traffic: Traffic,
    answers: Answers,
    environment: Environment,
}

/// When the next step of a phase is due.
struct Schedule {
    rate: u32,
    next_visit: Instant,
    next_status: Instant,
    second: Instant,
    lines_in_second: usize,
    lines: usize,
}

impl Schedule {
    fn new(rate: u32) -> Self {
        let now = Instant::now();
        Self { rate, next_visit: now, next_status: now, second: now, lines_in_second: 0, lines: 0 }
    }
}

impl Demo<'_> {
    /// Generates `rate` visits per second for `duration`.
    async fn phase(&mut self, duration: Duration, rate: u32) -> Result<()> {
        let begin = Instant::now();
        let mut schedule = Schedule::new(rate);
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        while begin.elapsed() < duration {
            ticks.tick().await;
            self.step(&mut schedule)?;
        }
        self.record_status()
    }

    /// Sends the next visit, prints new answers and updates the status, as far as each is due.
    fn step(&mut self, schedule: &mut Schedule) -> Result<()> {
        let now = Instant::now();
        if now >= schedule.next_visit {
            self.traffic.step()?;
            schedule.next_visit += Duration::from_secs(1) / schedule.rate;
        }
        if now >= schedule.second + Duration::from_secs(1) {
            (schedule.second, schedule.lines_in_second) = (now, 0);
        }
        for line in self.lines() {
            schedule.lines += 1;
            schedule.lines_in_second += 1;
            if schedule.lines_in_second <= READABLE_LINES_PER_SECOND {
                let is_pictured = schedule.lines <= PICTURE_LINES;
                self.screen.print(&line, if is_pictured { Keep::Everywhere } else { Keep::Output });
            }
        }
        if now >= schedule.next_status {
            let interval = if self.screen.is_live() { STATUS_INTERVAL } else { PLAIN_STATUS_INTERVAL };
            schedule.next_status = now + interval;
            let lines = self.status()?;
            self.screen.status(lines);
        }
        Ok(())
    }

    /// Events and pictures that wait for delivery to services that exist.
    fn pending(&self, report: &Report) -> u64 {
        if self.environment.rows.is_some() { report.pending() } else { report.number("files", "pending") }
    }

    /// Events and pictures that are delivered.
    fn delivered(report: &Report) -> u64 {
        report.number("events", "delivered") + report.number("files", "delivered")
    }

    /// Restores the central services and waits until the backlog of the outage is delivered. Visits continue.
    async fn catch_up(&mut self) -> Result<()> {
        let before = Report::read(&self.environment.daemon)?;
        let backlog = self.pending(&before);
        self.environment.restore()?;
        let begin = Instant::now();
        let bar = self.screen.progress("delivering the backlog", backlog);
        let mut schedule = Schedule::new(VISITS_PER_SECOND);
        // In the picture the line below says enough.
        schedule.lines = PICTURE_LINES;
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        let mut next_report = begin;
        loop {
            ticks.tick().await;
            self.step(&mut schedule)?;
            if Instant::now() < next_report {
                continue;
            }
            next_report = Instant::now() + STATUS_INTERVAL / 2;
            let report = Report::read(&self.environment.daemon)?;
            let done = Self::delivered(&report).saturating_sub(Self::delivered(&before)).min(backlog);
            bar.set_position(done);
            if done >= backlog {
                break;
            }
            if begin.elapsed() > CATCH_UP_TIMEOUT {
                let left = backlog - done;
                bail!(
                    "{left} events and pictures are still pending:\n{}",
                    self.environment.daemon.log_tail()
                );
            }
        }
        bar.finish_and_clear();
        let seconds = begin.elapsed().as_secs_f64();
        let line = format!("   {backlog} waiting events and pictures delivered in {seconds:.1} s");
        self.screen.line(&self.screen.green(&line));
        Ok(())
    }

    /// Waits until everything that was sent is stored and delivered.
    async fn drain(&mut self) -> Result<()> {
        let begin = Instant::now();
        let (events, files) = (self.traffic.visits.len() as u64, self.traffic.pictures());
        loop {
            let report = Report::read(&self.environment.daemon)?;
            let pending = self.pending(&report);
            // A message that the broker still has is not in the ledger.
            if pending == 0
                && report.number("events", "stored") >= events
                && report.number("files", "stored") >= files
            {
                return Ok(());
            }
            if begin.elapsed() > CATCH_UP_TIMEOUT {
                bail!(
                    "{pending} events and pictures are still pending:\n{}",
                    self.environment.daemon.log_tail()
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn lines(&mut self) -> Vec<String> {
        let Environment { listener, residents, .. } = &self.environment;
        self.answers.take(listener, &self.traffic, residents, self.screen)
    }

    /// Adds the status to the picture.
    fn record_status(&mut self) -> Result<()> {
        let lines = self.status()?;
        self.screen.record("");
        lines.iter().for_each(|line| self.screen.record(line));
        Ok(())
    }

    /// The status lines.
    fn status(&mut self) -> Result<[String; crate::screen::STATUS_LINES]> {
        let report = Report::read(&self.environment.daemon)?;
        let Latency { p50, p99 } = self.answers.latency();
        let mark =
            if report.add_up() { self.screen.green("adds up") } else { self.screen.red("DOES NOT ADD UP") };
        let Answers { right, missed, strangers, wrong, identified, .. } = &self.answers;
        let visits = identified.len();
        Ok([
            format!(
                "visits   {visits}: {right} identified, {missed} missed, {strangers} strangers, {wrong} mistaken"
            ),
            format!("latency  PUBLISH to answer: p50 {p50:.1} ms, p99 {p99:.1} ms"),
            format!("central  {}", report.sinks()),
            format!("events   {}", report.received("events")),
            format!("         {}  {mark}", report.stored("events")),
            format!("pictures {}", report.stored("files")),
        ])
    }
}
