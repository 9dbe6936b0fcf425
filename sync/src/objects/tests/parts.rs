//! Uploads in parts that are gone on with.

use gatehouse_central::error::SyncError;
use gatehouse_store::store::SentPart;
use gatehouse_testkit::proxy::{Faults, Proxy};

use super::*;
use crate::support::Server;

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_goes_on_after_the_last_part_also_after_a_restart() {
    for server in servers() {
        let looker = server.looker();
        let proxy = Proxy::start(server.port()).unwrap();
        let mut house = House::new(&looker.at(proxy.port()), Limits::default()).await;
        house.device.prepared(&looker).await;
        let data = content(23 * MIB);
        house.visit("v1", data.clone()).await;
        let id = house.waiting()[0].media.id;
        // No connection ever carries the whole clip: five parts, of which two come through at a time.
        proxy.set(Faults { cut_after: Some(12 * MIB as u64), ..Faults::default() });
        let mut known = 0;
        while known < 4 {
            let error = house.push().await.unwrap_err();
            assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
            house.store.close();
            house = House::of(house.device, &looker.at(proxy.port()), Limits::default(), &[]).await;
            let so_far = house.store.media.upload_so_far(&id).unwrap().unwrap();
            assert!(so_far.etags.len() > known, "nothing came through: {known} parts");
            known = so_far.etags.len();
        }
        assert_eq!(house.push().await.unwrap().delivered, 1);
        assert!(looker.get(BUCKET, &key("v1")).await.unwrap() == data);
        assert_eq!(house.store.media.upload_so_far(&id).unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_server_does_not_know_starts_again() {
    // The server in the process says of any unknown upload that it is not permitted.
    for server in servers().into_iter().filter(|server| matches!(server, Server::Minio(_))) {
        let looker = server.looker();
        let mut house = House::new(&looker, Limits::default()).await;
        house.device.prepared(&looker).await;
        let data = content(7 * MIB);
        house.visit("v1", data.clone()).await;
        let id = house.waiting()[0].media.id;
        let part = 5 * MIB as u64;
        house
            .store
            .media
            .part_sent(
                id,
                SentPart {
                    upload: "0f8fad5b-d9cb-469f-a165-70867728950e",
                    part_bytes: part,
                    number: 1,
                    etag: "e1",
                },
            )
            .await
            .unwrap();
        let error = house.push().await.unwrap_err();
        assert!(matches!(error, SyncError::Busy { .. }), "{error}");
        assert_eq!(house.store.media.upload_so_far(&id).unwrap(), None);
        assert_eq!(house.push().await.unwrap().delivered, 1);
        assert!(looker.get(BUCKET, &key("v1")).await.unwrap() == data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_whose_parts_are_all_there_is_only_put_together() {
    use gatehouse_testkit::s3::Manner;

    let server = S3Server::start().unwrap();
    let looker = server.objects();
    let mut house = House::new(&looker, Limits::default()).await;
    house.device.prepared(&looker).await;
    let data = content(7 * MIB);
    house.visit("v1", data.clone()).await;
    server.behave(Manner::FailsLate);
    let error = house.push().await.unwrap_err();
    assert!(matches!(error, SyncError::Busy { .. }), "{error}");
    server.behave(Manner::Serves);
    assert_eq!(house.push().await.unwrap().delivered, 1);
    assert!(looker.get(BUCKET, &key("v1")).await.unwrap() == data);
}
