use super::*;
use crate::error::{GuardFault, SyncError};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_ours_is_not_written_to() {
    for server in lenient_servers() {
        let (looker, device) = (server.looker(), Device::new());
        let dev = device.objects(&looker);
        let error = dev.guard().await.unwrap_err();
        assert!(matches!(error, SyncError::Guard(GuardFault::NotPrepared { .. })), "{error}");
        assert!(error.to_string().contains("gatehouse central init"), "{error}");
        assert!(error.stops_sink());

        dev.make_bucket().await.unwrap();
        let error = dev.guard().await.unwrap_err();
        assert!(matches!(error, SyncError::Guard(GuardFault::NotPrepared { .. })), "{error}");
        assert!(error.to_string().contains("environment.json"), "{error}");

        dev.make_mark().await.unwrap();
        dev.guard().await.unwrap();
        for environment in ["staging", "prod"] {
            let config = device.config(&looker, environment, "");
            let other = Objects::open(&config, Limits::default()).unwrap();
            let error = other.guard().await.unwrap_err();
            assert!(
                error.to_string().contains(&format!("`dev`, this appliance of `{environment}`")),
                "{error}"
            );
            assert!(error.stops_sink());
            assert!(super::super::init(&config).await.is_err(), "init must not mark it again");
        }
        assert_eq!(looker.list(BUCKET, "").await.unwrap(), ["environment.json"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_stop_the_sink_and_are_never_shown() {
    for server in servers() {
        let (looker, device) = (server.looker(), Device::new());
        device.prepared(&looker).await;
        let task = device.task("a.jpg", &content(10));
        let wrong = [
            Looker { secret_key: "not-the-secret".into(), ..looker.clone() },
            Looker { access_key: "unknown".into(), ..looker.clone() },
        ];
        for wrong in wrong {
            let objects = device.objects(&wrong);
            assert!(!format!("{:?}", objects.client).contains("not-the-secret"));
            let push = objects.push(&task, device.files.open_file(&task.media.id).unwrap());
            for error in [objects.guard().await.unwrap_err(), push.await.unwrap_err()] {
                assert!(matches!(error, SyncError::Denied { .. }), "{error}");
                assert!(error.stops_sink() && !error.is_permanent());
                assert!(!error.to_string().contains("not-the-secret"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_mark_that_gatehouse_did_not_write_is_not_believed() {
    let server = S3Server::start().unwrap();
    let (looker, device) = (server.objects(), Device::new());
    let objects = device.objects(&looker);
    objects.make_bucket().await.unwrap();
    for mark in [&b"<html>"[..], b"{}", b"", b"{\"environment\":7}", &[b'x'; 100_000]] {
        looker.put(BUCKET, "environment.json", mark.to_vec()).await.unwrap();
        let error = objects.guard().await.unwrap_err();
        assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
    }
}

#[test]
fn invalid_settings_are_reported_before_anything_is_sent() {
    let device = Device::new();
    let looker = Looker {
        endpoint: "http://127.0.0.1:9".into(),
        region: "us-east-1".into(),
        access_key: "a".into(),
        secret_key: "b".into(),
    };
    let ca = device.write("ca.pem", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n");
    let config = device.config(&looker, "dev", &format!("ca_file = {ca:?}"));
    let message = |error: SyncError| {
        assert!(error.stops_sink());
        error.to_string()
    };
    assert!(message(Objects::open(&config, Limits::default()).err().unwrap()).contains("ca.pem"));
    let config = device.config(&looker, "dev", "");
    std::fs::remove_file(device.folder.path().join("secret")).unwrap();
    assert!(message(Objects::open(&config, Limits::default()).err().unwrap()).contains("secret"));
}
