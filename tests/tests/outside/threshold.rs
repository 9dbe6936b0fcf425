//! No threshold without known error rates: a misspelt model and encodings of another norm shut the door, in words, and a
//! calibration opens it. On the built programs, with a real broker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::synthetic::{EventMessage, SyntheticPerson, people};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
/// People whose encodings calibrate the model.
const PEOPLE: usize = 300;
/// A share of strangers that so few people cover.
const TARGET: f64 = 0.01;

/// A daemon with a door, whose settings name a model.
struct Setup {
    daemon: Daemon,
    answers: Listener,
    camera: Camera,
    visits: usize,
    _broker: Broker,
}

impl Setup {
    async fn of(model: &str) -> Result<Self> {
        let broker = Broker::start()?;
        let settings = BTreeMap::from([(
            "gallery".to_owned(),
            format!("model = \"{model}\"\ntarget_fpir = {TARGET}\n"),
        )]);
        let mqtt_url = broker.url();
        let mut daemon = Daemon::new(DaemonOptions {
            device: "edge".into(),
            mqtt_url,
            settings,
            ..DaemonOptions::default()
        })?;
        daemon.start()?;
        daemon.wait_connected(TIMEOUT)?;
        let address = Address::local(broker.port());
        let answers =
            Listener::subscribe("door", &address, &["gatehouse/door/identification"], TIMEOUT).await?;
        let camera = Camera::connect("door", &address);
        Ok(Self { daemon, answers, camera, visits: 0, _broker: broker })
    }

    async fn visit(&mut self, face: &[f32]) -> Result<Value> {
        self.visits += 1;
        let event = EventMessage::face(&format!("visit-{}", self.visits), face.to_vec()).payload();
        self.camera.publish("gatehouse/door/event", event, false, TIMEOUT).await?;
        self.answers.until_count(self.visits, TIMEOUT).await?;
        Ok(self.answers.messages()[self.visits - 1].json())
    }

    fn is_shut(&self, answer: &Value, words: &str) -> Result<()> {
        ensure!(answer["threshold_basis"] == "unknown" && answer["actionable"] == false, "{answer}");
        ensure!(
            answer["faces"][0]["outcome"] == "stranger" && answer["faces"][0]["threshold"] == 0.0,
            "{answer}"
        );
        let status = self.daemon.json(&["status"])?;
        ensure!(status["no_threshold"].as_str().is_some_and(|text| text.contains(words)), "{status:#}");
        let report = self.daemon.cli(&["gallery", "report"])?;
        ensure!(
            report.stdout.contains("RED: no face is recognized") && report.stdout.contains(words),
            "{report:?}"
        );
        let doctor = self.daemon.json(&["doctor"]).unwrap_or_default().to_string();
        let doctor = doctor + &self.daemon.cli(&["doctor"])?.stdout;
        ensure!(doctor.contains("every face is a stranger"), "{doctor}");
        Ok(())
    }
}

fn enrolled() -> (SyntheticPerson, Vec<Vec<f32>>) {
    let person = people(5, 1).remove(0);
    let samples = person.samples(&mut fastrand::Rng::with_seed(6), 3);
    (person, samples)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misspelt_model_shuts_the_door_until_a_calibration_opens_it() -> Result<()> {
    let mut setup = Setup::of("dlib128").await?;
    let (person, samples) = enrolled();
    let answer = setup.daemon.enroll(&person.id, &person.name, &samples)?;
    ensure!(
        answer["no_threshold"].as_str().is_some_and(|text| text.contains("did you mean dlib-128")),
        "{answer}"
    );
    let answer = setup.visit(&samples[0]).await?;
    setup.is_shut(&answer, "did you mean dlib-128")?;

    let folder = Folder::new("threshold")?;
    let (csv, calibration) = (folder.path().join("people.csv"), folder.path().join("model.json"));
    let mut lines = String::new();
    let mut random = fastrand::Rng::with_seed(7);
    for (number, person) in people(77, PEOPLE).iter().enumerate() {
        for sample in person.samples(&mut random, 4) {
            let numbers: Vec<String> = sample.iter().map(f32::to_string).collect();
            lines.push_str(&format!("p{number},{}\n", numbers.join(",")));
        }
    }
    std::fs::write(&csv, lines)?;
    let (csv, file) = (csv.to_string_lossy(), calibration.to_string_lossy());
    let measured =
        ["gallery", "evaluate", "--encodings", &csv, "--model", "dlib128", "--save-calibration", &file];
    setup.daemon.json(&measured)?;
    let damaged = folder.path().join("damaged.json");
    std::fs::write(
        &damaged,
        std::fs::read_to_string(&calibration)?.replace("\"format\": 1", "\"format\": 2"),
    )?;
    let refused = setup.daemon.cli(&["gallery", "calibrate", &damaged.to_string_lossy()])?;
    ensure!(refused.code == 1 && refused.stderr.contains("has format 2"), "{refused:?}");
    let lines = setup.daemon.json(&["gallery", "calibrate", &file])?;
    ensure!(lines[0]["basis"] == "model" && lines[0]["no_threshold"].is_null(), "{lines}");
    let answer = setup.visit(&samples[0]).await?;
    ensure!(answer["threshold_basis"] == "model" && answer["actionable"] == true, "{answer}");
    ensure!(answer["faces"][0]["person"]["id"] == person.id.as_str(), "{answer}");

    // It survives a kill.
    setup.daemon.kill()?;
    setup.daemon.start()?;
    let lines = setup.daemon.json(&["gallery", "list"])?;
    ensure!(lines[0]["basis"] == "model", "{lines}");
    let lines = setup.daemon.json(&["gallery", "calibrate", "--remove"])?;
    ensure!(lines[0]["basis"] == "unknown", "{lines}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encodings_of_another_norm_are_noticed_at_the_first_enrollment() -> Result<()> {
    let mut setup = Setup::of("dlib-128").await?;
    let (person, samples) = enrolled();
    let unit = |face: &Vec<f32>| {
        let norm = face.iter().map(|x| x * x).sum::<f32>().sqrt();
        face.iter().map(|x| x / norm).collect::<Vec<f32>>()
    };
    let samples: Vec<Vec<f32>> = samples.iter().map(unit).collect();
    let answer = setup.daemon.enroll(&person.id, &person.name, &samples)?;
    let words = "the mean norm of the enrolled encodings is 1.000, the model's is 1.427";
    ensure!(answer["no_threshold"].as_str().is_some_and(|text| text.contains(words)), "{answer}");
    let answer = setup.visit(&samples[0]).await?;
    setup.is_shut(&answer, words)
}
