use super::super::check::check_with;
use super::super::{check, init};
use super::*;
use crate::finding::Finding;

/// The one finding that is bad: what, its words and its advice in one.
fn bad(findings: &[Finding]) -> (String, String) {
    let bad: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    assert_eq!(bad.len(), 1, "{findings:?}");
    (bad[0].what.clone(), format!("{} / {}", bad[0].message, bad[0].advice.as_deref().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn init_prepares_a_bucket_once_and_check_is_content_with_it() {
    for server in lenient_servers() {
        let (looker, device) = (server.looker(), Device::new());
        let config = device.config(&looker, "dev", "");
        let steps = init(&config).await.unwrap();
        assert!(steps.iter().take(3).all(|step| step.changed), "{steps:?}");
        let rules = device.objects(&looker).client.get_bucket_lifecycle(BUCKET).unwrap().build();
        let rules = device.objects(&looker).call("test", rules).await.unwrap().config().unwrap().rules;
        let days = |prefix: &str| {
            let of_prefix = |rule: &&minio::s3::lifecycle_config::LifecycleRule| {
                rule.filter.prefix.as_deref() == Some(prefix) && rule.expiration_days.is_some()
            };
            rules.iter().find(of_prefix).and_then(|rule| rule.expiration_days)
        };
        assert_eq!((days("temp/"), days("quarantine/"), days("devices/")), (Some(7), Some(30), Some(365)));

        let again = init(&config).await.unwrap();
        assert!(again.iter().all(|step| !step.changed), "{again:?}");
        let findings = check(&config).await;
        assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");
        assert!(findings.len() >= 6, "{findings:?}");
        assert_eq!(looker.list(BUCKET, "").await.unwrap(), ["environment.json"], "check leaves nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_others_are_not_changed() {
    use minio::s3::lifecycle_config::{LifecycleConfig, LifecycleRule};

    for server in servers() {
        let (looker, device) = (server.looker(), Device::new());
        let objects = device.objects(&looker);
        objects.make_bucket().await.unwrap();
        let filter = minio::s3::types::Filter { prefix: Some("theirs/".into()), ..Default::default() };
        let theirs = LifecycleRule {
            id: "theirs".into(),
            status: true,
            filter,
            expiration_days: Some(3),
            ..Default::default()
        };
        let rules = LifecycleConfig { rules: vec![theirs] };
        let put = objects.client.put_bucket_lifecycle(BUCKET).unwrap().life_cycle_config(rules).build();
        objects.call("test", put).await.unwrap();

        let steps = init(&device.config(&looker, "dev", "")).await.unwrap();
        assert!(steps.last().unwrap().what.contains("of its own"), "{steps:?}");
        let kept = objects.client.get_bucket_lifecycle(BUCKET).unwrap().build();
        let kept = objects.call("test", kept).await.unwrap().config().unwrap().rules;
        assert_eq!(kept.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["theirs"]);
    }
}

#[tokio::test]
async fn a_server_without_lifecycle_rules_is_reported_and_no_failure() {
    let device = Device::new();
    let (looker, _) =
        fake::start(|_| (501, "<Error><Code>NotImplemented</Code><Message>no</Message></Error>")).await;
    let steps = device.objects(&looker).make_rules().await.unwrap();
    assert_eq!(steps.len(), 1);
    assert!(!steps[0].changed && steps[0].what.contains("501"), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong() {
    for server in servers() {
        let (looker, device) = (server.looker(), Device::new());
        let (what, message) = bad(&check(&device.config(&looker, "dev", "")).await);
        assert!(what.ends_with("bucket") && message.contains("central init"), "{what}: {message}");

        device.objects(&looker).make_bucket().await.unwrap();
        let (what, message) = bad(&check(&device.config(&looker, "dev", "")).await);
        assert!(what.ends_with("environment") && message.contains("central init"), "{what}: {message}");

        device.objects(&looker).make_mark().await.unwrap();
        let (what, message) = bad(&check(&device.config(&looker, "prod", "")).await);
        assert!(what.ends_with("environment") && message.contains("`prod`"), "{what}: {message}");

        let wrong = Looker { secret_key: "wrong-wrong".into(), ..looker.clone() };
        let (what, message) = bad(&check(&device.config(&wrong, "dev", "")).await);
        assert!(what.ends_with("keys") && message.contains("correct the secret key"), "{what}: {message}");
    }
}

#[tokio::test]
async fn check_says_how_far_it_got() {
    let device = Device::new();
    let at = |endpoint: &str| Looker { endpoint: endpoint.into(), ..S3Server::start().unwrap().objects() };
    let config = |endpoint: &str| device.config(&at(endpoint), "dev", "");
    let (what, _) = bad(&check(&config("http://nowhere.invalid:9000")).await);
    assert!(what.ends_with("name"), "{what}");
    let (what, message) = bad(&check(&config("http://127.0.0.1:9")).await);
    assert!(what.ends_with("connection") && message.contains("refused"), "{what}: {message}");
    let silent = fake::silent().await;
    let (what, message) = bad(&check_with(&config(&silent.endpoint), Limits::short(SHORT_TIMEOUT)).await);
    assert!(what.ends_with("server") && message.contains("no answer"), "{what}: {message}");
    let (portal, _) = fake::start(|_| (200, "<html>please sign in</html>")).await;
    let (what, message) = bad(&check(&config(&portal.endpoint)).await);
    assert!(what.ends_with("environment") && message.contains("captive portal"), "{what}: {message}");
}
