use gatehouse_testkit::http;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_url_gives_one_object_until_it_expires() {
    for server in servers() {
        let (looker, device) = (server.looker(), Device::new());
        let objects = device.prepared(&looker).await;
        let task = device.task("a-b_1.jpg", &content(70_000));
        let reader = device.files.open_file(&task.media.id).unwrap();
        let place = objects.push(&task, reader).await.unwrap();

        let short = Duration::from_secs(2);
        let passing = objects.presign(&place.bucket, &place.key, short).await.unwrap();
        let made = std::time::Instant::now();
        let url = objects.presign(&place.bucket, &place.key, Duration::from_secs(600)).await.unwrap();
        assert!(!url.contains(&looker.secret_key) && url.contains("X-Amz-Expires=600"), "{url}");
        assert_eq!(http::get(&url).unwrap(), (200, content(70_000)));
        assert_eq!(http::get(&passing).unwrap().0, 200);

        let (bare, _) = url.split_once('?').unwrap();
        assert_eq!(http::get(bare).unwrap().0, 403, "without the signature");
        let other = url.replacen("a-b_1.jpg", "other.jpg", 1);
        assert_ne!(other, url);
        assert_eq!(http::get(&other).unwrap().0, 403, "for another object");
        let longer = url.replacen("X-Amz-Expires=600", "X-Amz-Expires=6000", 1);
        assert_eq!(http::get(&longer).unwrap().0, 403, "for longer");

        // The signature holds whole seconds.
        tokio::time::sleep((short + Duration::from_secs(1)).saturating_sub(made.elapsed())).await;
        let (status, body) = http::get(&passing).unwrap();
        assert!(status >= 400 && body != content(70_000), "{status}");

        let elsewhere = objects.presign("another", &place.key, short).await.unwrap_err();
        assert!(elsewhere.to_string().contains("`another`"), "{elsewhere}");
    }
}
