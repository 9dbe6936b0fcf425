//! The acts: an ordinary evening, an outage of the central side, the catch-up, and the proof.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use gatehouse_testkit::synthetic::SyntheticPerson;

use crate::answers::Answers;
use crate::books::Books;
use crate::proof;
use crate::screen::Screen;
use crate::stage::Stage;
use crate::traffic::Traffic;

/// How often cameras and answers are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Visits per second on an ordinary evening: as many as can be read.
const CALM: u32 = 5;
/// Visits per second during the outage, so that something piles up.
const BUSY: u32 = 30;
/// Lines per second that can be read; further ones are only counted.
const READABLE: usize = 6;
/// How often ledger and status are asked for, on a terminal and elsewhere.
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Shortest act in which something happens.
const ACT_MIN: Duration = Duration::from_secs(3);
/// What ending and proving take at most.
const CLOSING: Duration = Duration::from_secs(3);
/// After an outage of seconds the catch-up takes about one; a loaded machine more.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);

/// Tells everything; true where it adds up.
pub(crate) async fn tell(screen: &Screen, end: Instant, gatehoused: Option<PathBuf>) -> Result<bool> {
    screen.line(&screen.bold("Gatehouse: cameras, appliance and central side on this machine"));
    screen.heading("Bringing up a house and its central side");
    let stage = Stage::build(screen, gatehoused).await?;
    let people: Vec<SyntheticPerson> = stage.people.iter().map(|(person, _)| person.clone()).collect();
    let mut show = Show {
        screen,
        traffic: Traffic::new(stage.broker.port(), people),
        answers: Answers::default(),
        stage,
    };
    let left = end.saturating_duration_since(Instant::now()).saturating_sub(CLOSING);
    let act = |share: f64| left.mul_f64(share).max(ACT_MIN);

    screen.heading("An evening: visitors come, each gets an answer, the central side follows");
    show.act(act(0.5), CALM).await?;

    screen.heading("The central side goes away; the door does not notice");
    show.stage.cut()?;
    show.act(act(0.3), BUSY).await?;

    screen.heading("It is back: everything is delivered, once, in order");
    let waiting = show.waiting()?;
    show.stage.mend()?;
    show.catch_up(waiting).await?;
    show.act(act(0.15), CALM).await?;

    screen.heading("The end: the cameras go, the appliance drains");
    show.traffic.settle().await?;
    show.catch_up(0).await?;
    show.listen();
    let Show { traffic, mut answers, stage, .. } = show;
    proof::close(screen, stage, &traffic, &mut answers).await
}

/// What goes on while an act lasts.
struct Show<'a> {
    screen: &'a Screen,
    traffic: Traffic,
    answers: Answers,
    stage: Stage,
}

impl Show<'_> {
    /// Visitors come at `rate` per second for `duration`.
    async fn act(&mut self, duration: Duration, rate: u32) -> Result<()> {
        let begin = Instant::now();
        let look = if self.screen.is_live() { LOOK.0 } else { LOOK.1 };
        let (mut next_visit, mut next_look) = (begin, begin + look);
        let (mut window, mut shown) = (begin, 0);
        let mut ticks = tokio::time::interval(TICK);
        while begin.elapsed() < duration {
            ticks.tick().await;
            let now = Instant::now();
            if now >= next_visit {
                self.traffic.step()?;
                next_visit += Duration::from_secs(1) / rate;
            }
            if now >= window + Duration::from_secs(1) {
                (window, shown) = (now, 0);
            }
            for line in self.lines() {
                shown += 1;
                if shown <= READABLE {
                    self.screen.line(&line);
                }
            }
            if now >= next_look {
                next_look = now + look;
                self.look()?;
            }
        }
        Ok(())
    }

    /// Events and pictures that wait for a central side that is there.
    fn waiting(&self) -> Result<u64> {
        Ok(self.owed(&Books::read(&self.stage.daemon)?))
    }

    fn owed(&self, books: &Books) -> u64 {
        if self.stage.rows.is_some() { books.pending() } else { books.number("files", "pending") }
    }

    /// Waits until everything that was sent is stored and delivered, with a progress bar over what `waited`.
    async fn catch_up(&mut self, waited: u64) -> Result<()> {
        let begin = Instant::now();
        let (events, files) = (self.traffic.visits.len() as u64, self.traffic.pictures());
        let bar = self.screen.progress("delivering what waited", waited);
        loop {
            let books = Books::read(&self.stage.daemon)?;
            let owed = self.owed(&books);
            bar.set_position(waited.saturating_sub(owed));
            // What is on its way from the broker is not in the ledger yet.
            if owed == 0
                && books.number("events", "stored") >= events
                && books.number("files", "stored") >= files
            {
                break;
            }
            if begin.elapsed() > CATCH_UP_PATIENCE {
                bail!("{owed} events and pictures are still pending:\n{}", self.stage.daemon.log_tail());
            }
            tokio::time::sleep(TICK).await;
        }
        bar.finish_and_clear();
        if waited > 0 {
            let seconds = begin.elapsed().as_secs_f64();
            let words = format!("   {waited} waiting events and pictures delivered in {seconds:.1} s");
            self.screen.line(&self.screen.green(&words));
        }
        Ok(())
    }

    /// Takes the last answers without showing them.
    fn listen(&mut self) {
        drop(self.lines());
    }

    fn lines(&mut self) -> Vec<String> {
        self.answers.take(&self.stage.listener, &self.traffic, &self.stage.people, self.screen)
    }

    /// Shows where things stand.
    fn look(&mut self) -> Result<()> {
        let books = Books::read(&self.stage.daemon)?;
        let (p50, p99) = self.answers.latency();
        let mark =
            if books.add_up() { self.screen.green("adds up") } else { self.screen.red("DOES NOT ADD UP") };
        let Answers { right, missed, strangers, wrong, identified, .. } = &self.answers;
        let visits = identified.len();
        self.screen.status([
            format!(
                "visits   {visits}: recognised {right}, missed {missed}, strangers {strangers}, wrong {wrong}"
            ),
            format!("latency  PUBLISH to answer: p50 {p50:.1} ms, p99 {p99:.1} ms"),
            format!("central  {}", books.sinks()),
            format!("events   {}", books.received("events")),
            format!("         {}  {mark}", books.stored("events")),
            format!("pictures {}", books.stored("files")),
        ]);
        Ok(())
    }
}
