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
    screen.line(&screen.bold("Gatehouse: who is at the door, and nothing is ever lost"));
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

    screen.heading("An evening: visitors come, the door hears at once, the central side follows");
    show.act(act(0.45), CALM).await?;

    screen.heading("The central side goes away; the door does not notice");
    show.stage.cut()?;
    show.act(act(0.3), BUSY).await?;

    screen.heading("It is back: everything is delivered, once, in order");
    show.stage.mend()?;
    show.catch_up().await?;
    show.act(act(0.15), CALM).await?;

    screen.heading("The end: the cameras go, the appliance drains");
    show.traffic.settle().await?;
    show.catch_up().await?;
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

    /// Waits until nothing is pending for a configured sink, with a progress bar.
    async fn catch_up(&mut self) -> Result<()> {
        let begin = Instant::now();
        let waiting = |books: &Books| match self.stage.rows {
            Some(_) => books.pending(),
            None => books.number("files", "pending"),
        };
        // What is on its way from the broker is not in the ledger yet.
        let expected = (self.traffic.visits.len() as u64, self.traffic.pictures());
        let first = waiting(&Books::read(&self.stage.daemon)?);
        let bar = self.screen.progress("delivering what waited", first);
        loop {
            let books = Books::read(&self.stage.daemon)?;
            let left = waiting(&books);
            bar.set_position(first.saturating_sub(left));
            let has_all = books.number("events", "stored") >= expected.0
                && books.number("files", "stored") >= expected.1;
            if left == 0 && has_all {
                break;
            }
            if begin.elapsed() > CATCH_UP_PATIENCE {
                bail!("{left} events and files are still pending:\n{}", self.stage.daemon.log_tail());
            }
            tokio::time::sleep(TICK).await;
        }
        bar.finish_and_clear();
        if first > 0 {
            let seconds = begin.elapsed().as_secs_f64();
            let words = format!("   {first} waiting events and pictures delivered in {seconds:.1} s");
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
        let visitors = format!(
            "visitors {}  recognised {}  strangers {}  missed {}  wrong {}  PUBLISH to answer p50 {p50:.1} ms, p99 {p99:.1} ms",
            self.answers.identified.len(),
            self.answers.right,
            self.answers.strangers,
            self.answers.missed,
            self.answers.wrong,
        );
        let pending = format!(
            "pending {} events, {} pictures  central: {}",
            books.number("events", "pending"),
            books.number("files", "pending"),
            books.sinks(),
        );
        let ledger = format!("ledger {mark}  {}", books.sentence("events"));
        self.screen.status([visitors, pending, ledger]);
        Ok(())
    }
}
