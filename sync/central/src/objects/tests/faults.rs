use super::*;
use crate::error::SyncError;

const UPLOAD: &str = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";

/// A server that takes parts, and fails to put them together in the way of S3: 200, then an error.
fn fails_late(request: &str) -> (u16, &'static str) {
    match request.split(' ').next().unwrap_or_default() {
        "HEAD" => (404, ""),
        "POST" if request.contains("uploadId=") => (200, "<Error><Code>InternalError</Code></Error>"),
        "POST" => (200, UPLOAD),
        "DELETE" => (204, ""),
        _ => (200, ""),
    }
}

/// The same, but it keeps the failure to itself.
fn loses_quietly(request: &str) -> (u16, &'static str) {
    if request.starts_with("POST") && request.contains("uploadId=") {
        (200, "<Result/>")
    } else {
        fails_late(request)
    }
}

#[tokio::test]
async fn a_200_with_an_error_in_its_body_is_no_success() {
    let device = Device::new();
    let task = device.task("clip.mp4", &content(6 * 1024 * 1024));
    let (looker, seen) = fake::start(fails_late).await;
    let reader = device.files.open_file(&task.media.id).unwrap();
    let error = device.objects(&looker).push(&task, reader).await.unwrap_err();
    assert!(matches!(&error, SyncError::Busy { code, .. } if code == "InternalError"), "{error}");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().filter(|request| request.starts_with("PUT")).count(), 2);
    assert!(seen.last().unwrap().starts_with("DELETE"), "the upload is taken back: {seen:?}");

    let (looker, _) = fake::start(loses_quietly).await;
    let reader = device.files.open_file(&task.media.id).unwrap();
    let error = device.objects(&looker).push(&task, reader).await.unwrap_err();
    assert!(matches!(error, SyncError::Verify { .. }), "{error}");
    assert!(!error.is_permanent() && !error.stops_sink());

    // A small file whose PUT was answered with success and that is not there either.
    let task = device.task("a.jpg", &content(1000));
    let reader = device.files.open_file(&task.media.id).unwrap();
    let error = device.objects(&looker).push(&task, reader).await.unwrap_err();
    assert!(matches!(error, SyncError::Verify { .. }), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_within_the_deadline() {
    let device = Device::new();
    let looker = fake::silent().await;
    let objects = Objects::open(&device.config(&looker, "dev", ""), Limits::short(SHORT_TIMEOUT)).unwrap();
    let task = device.task("a.jpg", &content(1000));
    // The server never answers, so that only a deadline can end a call.
    let error = objects.guard().await.unwrap_err();
    assert!(matches!(error, SyncError::Deadline { after, .. } if after < 3 * SHORT_TIMEOUT), "{error:?}");
    let error = objects.push(&task, device.files.open_file(&task.media.id).unwrap()).await.unwrap_err();
    assert!(matches!(error, SyncError::Deadline { after, .. } if after < 3 * SHORT_TIMEOUT), "{error:?}");
    assert!(!error.is_permanent() && !error.stops_sink());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_or_breaks_in_its_middle_is_made_again() {
    use gatehouse_testkit::proxy::{Faults, Proxy};

    const CALL_TIMEOUT: Duration = Duration::from_secs(2);
    const RATE: u64 = 8 * 1024 * 1024;
    for server in servers() {
        let device = Device::new();
        device.prepared(&server.looker()).await;
        let proxy = Proxy::start(server.port()).unwrap();
        let looker = server.looker().at(proxy.port());
        let objects = Objects::open(&device.config(&looker, "dev", ""), Limits::short(CALL_TIMEOUT)).unwrap();
        let data = content(11 * 1024 * 1024);
        let task = device.task("clip.mp4", &data);
        let push = || objects.push(&task, device.files.open_file(&task.media.id).unwrap());

        proxy.set(Faults { rate: Some(RATE), ..Faults::default() });
        let stall = async {
            tokio::time::sleep(Duration::from_millis(900)).await;
            proxy.set(Faults { stall: true, ..Faults::default() });
        };
        let (outcome, ()) = tokio::join!(push(), stall);
        let error = outcome.unwrap_err();
        assert!(matches!(error, SyncError::Deadline { after, .. } if after < 5 * CALL_TIMEOUT), "{error:?}");

        proxy.reset_connections();
        proxy.set(Faults { cut_after: Some(7 * 1024 * 1024), ..Faults::default() });
        let error = push().await.unwrap_err();
        assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");

        proxy.heal();
        let place = push().await.unwrap();
        assert!(server.looker().get(BUCKET, &place.key).await.unwrap() == data);
        assert_eq!(server.looker().list(BUCKET, "devices/").await.unwrap(), [place.key]);
    }
}

#[tokio::test]
async fn a_captive_portal_is_neither_believed_nor_blamed_on_the_bucket() {
    let device = Device::new();
    let (looker, _) = fake::start(|_| (200, "<html>please sign in</html>")).await;
    let objects = device.objects(&looker);
    let error = objects.guard().await.unwrap_err();
    assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
    let task = device.task("a.jpg", &content(1000));
    let reader = device.files.open_file(&task.media.id).unwrap();
    let error = objects.push(&task, reader).await.unwrap_err();
    assert!(!error.is_permanent(), "a portal's 200 is not another object: {error}");

    let (looker, _) = fake::start(|_| (403, "<html>blocked</html>")).await;
    let error = device.objects(&looker).guard().await.unwrap_err();
    assert!(matches!(error, SyncError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("captive portal"), "{error}");
}

#[tokio::test]
async fn temporary_and_permanent_replies_are_distinguished() {
    type Check = fn(&SyncError) -> bool;
    let denied: Check = |error| matches!(error, SyncError::Denied { .. });
    let busy: Check = |error| matches!(error, SyncError::Busy { .. });
    let refused: Check = |error| error.is_permanent();
    let cases: [(fake::Answer, Check); 7] = [
        (|_| (403, "<Error><Code>RequestTimeTooSkewed</Code></Error>"), denied),
        (|_| (400, "<Error><Code>ExpiredToken</Code></Error>"), denied),
        (|_| (503, "<Error><Code>SlowDown</Code></Error>"), busy),
        (|_| (507, "<Error><Code>XMinioStorageFull</Code></Error>"), busy),
        (|_| (500, ""), busy),
        (|_| (413, "<html>too large</html>"), refused),
        (|_| (400, "<Error><Code>EntityTooLarge</Code></Error>"), refused),
    ];
    let device = Device::new();
    for (nth, (answer, check)) in cases.into_iter().enumerate() {
        let (looker, _) = fake::start(answer).await;
        let error = device.objects(&looker).guard().await.unwrap_err();
        assert!(check(&error), "case {nth}: {error:?}");
    }
}
