use gatehouse_journal::Position;

use super::*;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const YEAR: i64 = 365 * DAY;
/// 2026-11-20T10:00:00Z.
const NOON: i64 = 1_795_168_800_000_000;

fn reading(boot: u8, uptime: i64, wall: i64) -> Reading {
    Reading { boot: [boot; 16], uptime, wall: Timestamp(wall) }
}

fn reference(boot: u8, uptime: i64, time: i64, source: ClockSource) -> ReferenceTime {
    ReferenceTime { boot: [boot; 16], uptime, time: Timestamp(time), uncertainty: 50_000, source }
}

/// The fold as in the views, with each record at the next number.
#[derive(Default)]
struct Fold {
    boots: Vec<Boot>,
    number: u64,
}

impl Fold {
    fn next(&mut self) -> Position {
        self.number += 1;
        Position { lsn: self.number, seq: self.number }
    }

    fn read(&mut self, reading: Reading) -> &mut Self {
        let at = self.next();
        match self.boots.last_mut().filter(|boot| boot.id == reading.boot) {
            Some(boot) => boot.mark(at, &reading),
            None => self.boots.push(Boot::new(at, &reading)),
        }
        self
    }

    fn learn(&mut self, reference: ReferenceTime) -> &mut Self {
        self.next();
        if let Some(boot) = self.boots.iter_mut().rfind(|boot| boot.id == reference.boot) {
            boot.learn(reference);
        }
        self
    }

    /// The number of the next event.
    fn event(&mut self) -> Moment {
        Moment::Event(self.next().seq)
    }

    fn when(&self, moment: Moment, wall: i64) -> Known {
        Clocks::new(self.boots.clone()).when(moment, Timestamp(wall))
    }
}

fn off(known: Known, expected: i64) -> u64 {
    known.at.0.abs_diff(expected).div_ceil(1000)
}

#[test]
fn event_of_1970_gets_its_time_from_a_reference_time_a_month_later() {
    let mut fold = Fold::default();
    let event = fold.read(reading(1, 60 * SECOND, 60 * SECOND)).event();
    assert_eq!(fold.when(event, 60 * SECOND), Known::unsure(Timestamp(60 * SECOND)));
    fold.learn(reference(1, 30 * DAY, NOON, ClockSource::Rows));
    let known = fold.when(event, 60 * SECOND);
    assert_eq!(known.at.0, NOON - 30 * DAY + 60 * SECOND);
    // The drift of a crystal by 200 millionths, and the uncertainty of the two readings.
    let drift = (30 * 86_400 - 60) * DRIFT_PPM / 1000;
    assert_eq!(known.uncertainty_ms, Some(u64::try_from(drift + 150).unwrap()));
}

#[test]
fn a_clock_that_was_right_stays_as_it_was() {
    let mut fold = Fold::default();
    let event = fold.read(reading(1, 60 * SECOND, NOON)).event();
    fold.learn(reference(1, 61 * SECOND, NOON + SECOND + 20_000, ClockSource::Rows));
    assert_eq!(fold.when(event, NOON), Known { at: Timestamp(NOON), uncertainty_ms: Some(171) });
}

#[test]
fn each_event_goes_by_the_clock_that_was_in_force_when_it_came() {
    let mut fold = Fold::default();
    let mut events = Vec::new();
    for (second, years) in [(10, 0), (20, 50), (30, -50), (40, 0)] {
        let wall = NOON + second * SECOND + years * YEAR;
        events.push((fold.read(reading(1, second * SECOND, wall)).event(), wall, second));
    }
    fold.learn(reference(1, 50 * SECOND, NOON + 50 * SECOND, ClockSource::Rows));
    for (event, wall, second) in events {
        let known = fold.when(event, wall);
        assert!(off(known, NOON + second * SECOND) <= known.uncertainty_ms.unwrap(), "{known:?}");
        assert!(known.uncertainty_ms.unwrap() < 200, "{known:?}");
    }
}

#[test]
fn boot_without_reference_time_is_between_its_neighbours() {
    let mut fold = Fold::default();
    let alone = fold.read(reading(1, 10 * SECOND, 10 * SECOND)).event();
    fold.read(reading(2, 10 * SECOND, NOON)).learn(reference(2, 20 * SECOND, NOON, ClockSource::Rows));
    let between = fold.read(reading(3, 10 * SECOND, 10 * SECOND)).event();
    fold.read(reading(4, SECOND, 0)).learn(reference(
        4,
        20 * SECOND,
        NOON + 3600 * SECOND,
        ClockSource::Rows,
    ));
    let after = fold.read(reading(5, SECOND, 0)).event();

    let known = fold.when(between, 10 * SECOND);
    assert!((1_780_000..1_800_000).contains(&known.uncertainty_ms.unwrap()), "{known:?}");
    assert!(off(known, NOON + 1_795 * SECOND) < 1000, "{known:?}");
    let right = fold.when(between, NOON + 1000 * SECOND);
    assert_eq!(right.uncertainty_ms, None, "a time that is impossible in its boot has unknown uncertainty");
    // With a neighbour on one side only, the neighbour's time is used with unknown uncertainty.
    let known = fold.when(alone, 10 * SECOND);
    assert!(known.uncertainty_ms.is_none() && off(known, NOON - 20 * SECOND) < 1000, "{known:?}");
    let known = fold.when(after, 0);
    assert!(known.uncertainty_ms.is_none() && known.at.0 > NOON + 3590 * SECOND, "{known:?}");
}

#[test]
fn without_reference_time_the_later_clock_setting_is_used_with_unknown_uncertainty() {
    let mut fold = Fold::default();
    let event = fold.read(reading(1, 10 * SECOND, 0)).event();
    fold.read(reading(1, 20 * SECOND, NOON));
    assert_eq!(fold.when(event, 0), Known::unsure(Timestamp(NOON - 10 * SECOND)));
}

#[test]
fn of_contradicting_reference_times_the_system_or_else_the_later_one_is_kept() {
    let (wrong, right) = (NOON - DAY, NOON);
    let time = |sources: [ClockSource; 2]| {
        let mut fold = Fold::default();
        let event = fold.read(reading(1, 0, 0)).event();
        fold.learn(reference(1, 0, right, sources[0])).learn(reference(1, 0, wrong, sources[1]));
        fold.when(event, 0).at.0
    };
    assert_eq!(time([ClockSource::System, ClockSource::Rows]), right);
    assert_eq!(time([ClockSource::Rows, ClockSource::System]), wrong);
    assert_eq!(time([ClockSource::Rows, ClockSource::Rows]), wrong);
}

#[test]
fn reference_time_is_recorded_only_if_it_improves_the_bounds() {
    let mut boot = Boot::new(Position::default(), &reading(1, 0, NOON));
    assert!(boot.would_learn(&reference(1, 0, NOON, ClockSource::Rows)));
    boot.learn(reference(1, 0, NOON, ClockSource::System));
    let minute = reference(1, 60 * SECOND, NOON + 60 * SECOND, ClockSource::Rows);
    assert!(!boot.would_learn(&minute));
    assert!(boot.would_learn(&reference(1, DAY, NOON + DAY, ClockSource::Rows)));
    let strange = ReferenceTime { time: Timestamp(NOON + 3600 * SECOND), ..minute };
    assert!(!boot.would_learn(&strange));
    assert!(boot.would_learn(&ReferenceTime { source: ClockSource::System, ..strange }));
}

#[test]
fn a_jump_makes_nothing_older() {
    let mut fold = Fold::default();
    let before = fold.read(reading(1, 10 * SECOND, NOON)).event();
    let jumped = fold.read(reading(1, 20 * SECOND, NOON - 50 * YEAR)).event();
    let now = reading(1, 3600 * SECOND, NOON + 50 * YEAR);
    let age = |fold: &Fold, moment, wall, now: &Reading| {
        Clocks::new(fold.boots.clone()).least_age(moment, Timestamp(wall), now).as_secs()
    };
    assert_eq!(age(&fold, before, NOON, &now), 3590);
    assert_eq!(age(&fold, jumped, NOON - 50 * YEAR, &now), 3580);
    // In the next boot only its uptime is certain, until both boots have a reference time.
    fold.read(reading(2, 0, NOON + 50 * YEAR));
    let now = reading(2, 60 * SECOND, NOON + 50 * YEAR);
    assert_eq!(age(&fold, before, NOON, &now), 60);
    fold.learn(reference(1, 20 * SECOND, NOON, ClockSource::Rows)).learn(reference(
        2,
        0,
        NOON + DAY,
        ClockSource::Rows,
    ));
    assert!((86_400..86_500).contains(&age(&fold, before, NOON, &now)));
}

/// Whatever the clocks do, a known time must be right within its uncertainty. The order of numbers must never
/// change. The test runs 200 appliances with several boots each, with crystals up to the drift limit.
#[test]
fn what_is_claimed_holds_whatever_the_clocks_do() {
    let mut random = fastrand::Rng::with_seed(9);
    let mut claimed = 0;
    for run in 0..200 {
        let (mut fold, mut events, mut now) = (Fold::default(), Vec::new(), NOON);
        for boot in 0..random.u8(1..6) {
            now += random.i64(0..DAY);
            let crystal = random.i64(-DRIFT_PPM..=DRIFT_PPM);
            let (began, mut shift) = (now, [0, -50 * YEAR, 50 * YEAR][random.usize(0..3)]);
            let mut last: Option<Reading> = None;
            for _ in 0..random.usize(0..30) {
                now += random.i64(0..DAY / 8);
                let uptime = (now - began) + (now - began) / SECOND * crystal;
                if random.u8(0..4) == 0 {
                    shift = random.i64(-50 * YEAR..50 * YEAR);
                }
                let wall = began + uptime + shift;
                let here = reading(boot, uptime, wall);
                if !last.is_some_and(|last| last.agrees(&here)) {
                    fold.read(here);
                    last = Some(here);
                }
                events.push((fold.event(), wall, now));
                if random.u8(0..5) == 0 {
                    let wrong = random.i64(-50_000..=50_000);
                    fold.learn(reference(boot, uptime, now + wrong, ClockSource::Rows));
                }
            }
        }
        for (event, wall, expected) in events {
            let known = fold.when(event, wall);
            if let Some(claim) = known.uncertainty_ms {
                claimed += 1;
                assert!(
                    off(known, expected) <= claim,
                    "run {run}: {known:?} is off by {}",
                    off(known, expected)
                );
            }
        }
    }
    assert!(claimed > 2000, "{claimed} events claimed a time");
}

#[test]
fn a_boot_fits_into_one_piece_of_the_views_whatever_happens() {
    let mut boot = Boot::new(Position::default(), &reading(1, 0, 0));
    for number in 0..1000_i64 {
        let at = Position { lsn: u64::MAX - 1, seq: u64::MAX - 1 };
        boot.mark(at, &reading(1, i64::MAX - number, i64::MIN + number));
        boot.learn(reference(1, number * DAY, NOON + number * DAY, ClockSource::Rows));
    }
    assert!(postcard::to_allocvec(&boot).unwrap().len() < 8192);
}

#[test]
fn both_clocks_are_read_and_the_boot_is_named() {
    let (one, two) = (Reading::now(), Reading::now());
    assert!(one.boot == two.boot && one.uptime > 0 && one.uptime <= two.uptime);
    assert!(one.agrees(&one.earlier(Duration::from_secs(5), Timestamp(one.wall.0 - 5 * SECOND))));
    assert!(!one.agrees(&Reading { wall: Timestamp(one.wall.0 - 50 * YEAR), ..two }));
}
