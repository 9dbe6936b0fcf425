use gatehouse_testkit::s3::Manner;
use minio::s3::response_traits::HasS3Fields;

use super::super::upload::PART_BYTES;
use super::*;
use crate::error::SyncError;

const KEY: &str = "devices/gate-7/events/2026/11/20/front-door/visit:1";

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_size_arrive_byte_for_byte_and_say_what_they_are() {
    let part = usize::try_from(PART_BYTES).unwrap();
    for server in lenient_servers() {
        let (looker, device) = (server.looker(), Device::new());
        let objects = device.prepared(&looker).await;
        for size in [0, 1, 100_000, part, part + 1, 20 * 1024 * 1024] {
            let (name, data) = (format!("snapshot-{size}.jpg"), content(size));
            let task = device.task(&name, &data);
            let place = objects.push(&task, device.files.open_file(&task.media.id).unwrap()).await.unwrap();
            assert_eq!(
                (place.bucket.as_str(), place.key.as_str()),
                (BUCKET, format!("{KEY}/{name}").as_str())
            );
            assert!(looker.get(BUCKET, &place.key).await.unwrap() == data, "{size} bytes");

            let stat = objects.client.stat_object(BUCKET, place.key.as_str()).unwrap().build();
            let stat = objects.call("test", stat).await.unwrap();
            let metadata = stat.user_metadata().unwrap();
            assert_eq!(metadata["sha256"], hex::encode(task.media.sha256));
            assert_eq!(metadata["correlation-id"], task.media.event.correlation());
            assert_eq!(metadata["camera"], "front-door");
            // The server in this process forgets the type of an object that came in parts.
            if size <= part || matches!(server, Server::Minio(_)) {
                assert_eq!(stat.headers().get("content-type").unwrap(), "image/jpeg", "{size} bytes");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_push_looks_and_sends_nothing() {
    let server = S3Server::start().unwrap();
    let device = Device::new();
    let objects = device.prepared(&server.objects()).await;
    let task = device.task("a.jpg", &content(300_000));
    let first = objects.push(&task, device.files.open_file(&task.media.id).unwrap()).await.unwrap();
    let before = server.requests();
    let second = objects.push(&task, device.files.open_file(&task.media.id).unwrap()).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(server.requests() - before, 1);
    assert_eq!(server.objects().list(BUCKET, "devices/").await.unwrap(), [first.key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_object_under_the_key_is_left_alone() {
    for server in lenient_servers() {
        let (looker, device) = (server.looker(), Device::new());
        let objects = device.prepared(&looker).await;
        let key = format!("{KEY}/a.jpg");
        looker.put(BUCKET, &key, b"another object".to_vec()).await.unwrap();
        let task = device.task("a.jpg", &content(1000));
        let error = objects.push(&task, device.files.open_file(&task.media.id).unwrap()).await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert_eq!(looker.get(BUCKET, &key).await.unwrap(), b"another object");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_never_sent_in_part() {
    let server = S3Server::start().unwrap();
    let device = Device::new();
    let objects = device.prepared(&server.objects()).await;
    let task = device.task("clip.mp4", &content(12 * 1024 * 1024));
    let id = task.media.id.to_string();
    let path = device.folder.path().join("media").join(&id[..2]).join(format!("{id}.gm"));
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = objects.push(&task, device.files.open_file(&task.media.id).unwrap()).await.unwrap_err();
    assert!(matches!(error, SyncError::Damaged { .. }), "{error}");
    assert!(server.objects().list(BUCKET, "devices/").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_gets_the_file_later() {
    let server = S3Server::start().unwrap();
    let device = Device::new();
    let objects = device.prepared(&server.objects()).await;
    let task = device.task("a.jpg", &content(1000));
    let push = || objects.push(&task, device.files.open_file(&task.media.id).unwrap());
    server.stop().unwrap();
    let error = push().await.unwrap_err();
    assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
    // A connection from the pool may break before a new one is refused.
    let text = error.to_string();
    assert!(text.contains("refused") || text.contains("connection closed"), "{text}");
    server.restart().unwrap();
    server.behave(Manner::Refuses(503, "SlowDown"));
    assert!(matches!(push().await.unwrap_err(), SyncError::Busy { .. }));
    server.behave(Manner::Serves);
    push().await.unwrap();
}
