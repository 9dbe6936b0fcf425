use super::*;
use crate::error::SyncError;

const PAGE: &str = "<ListBucketResult><Name>gatehouse-dev</Name><Prefix>devices/</Prefix><KeyCount>2</KeyCount>\
    <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>\
    <Contents><Key>devices/b</Key><LastModified>2026-11-20T10:00:00.000Z</LastModified><Size>1</Size><ETag>x</ETag></Contents>\
    <Contents><Key>devices/a</Key><LastModified>2026-11-20T10:00:00.000Z</LastModified><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_listed_in_the_order_of_their_bytes_read_back_and_copied() {
    for server in lenient_servers() {
        let (looker, device) = (server.looker(), Device::new());
        let objects = device.prepared(&looker).await;
        let mut keys =
            vec!["devices/a/1", "devices/a-b/x:1.jpg", "devices/a/0/B", "devices/a/0/b", "devices/a.b/c"];
        for key in &keys {
            looker.put(BUCKET, key, key.as_bytes().to_vec()).await.unwrap();
        }
        looker.put(BUCKET, "temp/x", vec![1]).await.unwrap();
        keys.sort_unstable();
        let (mut listing, mut listed) = (objects.listing("devices/").await.unwrap(), Vec::new());
        while let Some(object) = listing.next().await.unwrap() {
            assert!(object.modified.is_some_and(|at| (chrono::Utc::now() - at).num_seconds().abs() < 60));
            listed.push(object.key);
        }
        assert_eq!(listed, keys);

        looker.put(BUCKET, "devices/big", content(3_000_000)).await.unwrap();
        let big = objects.read_back("devices/big").await.unwrap().unwrap();
        let mut hash = gatehouse_model::Sha256::new();
        hash.update(&content(3_000_000));
        assert_eq!((big.size, big.sha256), (3_000_000, hex::encode(hash.finish())));
        assert_eq!(objects.read_back("devices/none").await.unwrap(), None);

        assert!(objects.copy("devices/big", "quarantine/devices/big").await.unwrap());
        assert!(!objects.copy("devices/none", "quarantine/devices/none").await.unwrap());
        objects.remove("devices/big").await.unwrap();
        assert_eq!(looker.get(BUCKET, "quarantine/devices/big").await.unwrap(), content(3_000_000));
        assert_eq!(objects.read_back("devices/big").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_whole() {
    for server in lenient_servers() {
        let (looker, device) = (server.looker(), Device::new());
        let objects = device.prepared(&looker).await;
        for number in 0..1005 {
            looker.put(BUCKET, &format!("devices/a/{number:04}"), vec![1]).await.unwrap();
        }
        let (mut listing, mut listed) = (objects.listing("devices/").await.unwrap(), 0);
        while let Some(object) = listing.next().await.unwrap() {
            assert_eq!(object.key, format!("devices/a/{listed:04}"));
            listed += 1;
        }
        assert_eq!(listed, 1005);
    }
}

#[tokio::test]
async fn a_listing_out_of_order_is_refused() {
    let device = Device::new();
    let (looker, _) = fake::start(|_| (200, PAGE)).await;
    let objects = device.objects(&looker);
    let mut listing = objects.listing("devices/").await.unwrap();
    assert_eq!(listing.next().await.unwrap().unwrap().key, "devices/b");
    let error = listing.next().await.err().unwrap();
    assert!(matches!(error, SyncError::Refused { .. }) && error.to_string().contains("order"), "{error}");
}
