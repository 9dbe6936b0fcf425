//! What keys under the policy of one appliance can do, at the real MinIO, which holds policies.

use futures_util::StreamExt as _;
use minio::s3::MinioClientBuilder;
use minio::s3::creds::StaticProvider;
use minio::s3::http::BaseUrl;
use minio::s3::types::ToStream;

use super::super::key::object_key;
use super::super::policy::policy;
use gatehouse_store::store::MediaTask;

use super::*;
use crate::error::SyncError;

fn denied<T>(result: Result<T, SyncError>, what: &str) {
    let error = result.err().unwrap_or_else(|| panic!("went through: {what}"));
    assert!(matches!(error, SyncError::Denied { .. }), "{what}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_under_the_policy_of_an_appliance_reach_its_own_objects_only() {
    // The other servers do not enforce policies.
    let Some(server) = Minio::start_if_present().unwrap() else { return };
    let (looker, device) = (server.objects(), Device::new());
    let all = device.prepared(&looker).await;
    let Some([access, secret, token]) = server.session(&policy(BUCKET, "gate-7").to_string()).unwrap() else {
        return;
    };
    let held = |device: &str| {
        let provider = StaticProvider::new(&access, &secret, Some(&token));
        let url = looker.endpoint.parse::<BaseUrl>().unwrap();
        let client = MinioClientBuilder::new(url).provider(Some(provider)).skip_region_lookup(true);
        Objects {
            client: client.build().unwrap(),
            bucket: BUCKET.into(),
            device: device.into(),
            environment: all.environment,
            limits: Limits::default(),
            notes: None,
        }
    };
    let reader = |task: &MediaTask| device.files.open_file(&task.media.id).unwrap();
    let (own, other) = (held("gate-7"), held("gate-8"));

    // Its work: the mark, a picture, a clip in parts, and finding what is there.
    own.guard().await.unwrap();
    let clip = 2 * usize::try_from(super::super::upload::PART_BYTES).unwrap();
    for (name, size) in [("a.jpg", 2000), ("b.mp4", clip)] {
        let task = device.task(name, &content(size));
        let place = own.push(&task, reader(&task)).await.unwrap();
        assert_eq!(own.push(&task, reader(&task)).await.unwrap(), place, "found again");
        assert_eq!(looker.get(BUCKET, &place.key).await.unwrap(), content(size));
    }

    let trial = "temp/gate-7/check";
    let put = own.client.put_object(BUCKET, trial, "x".to_owned().into()).unwrap().build();
    own.call("try", put).await.unwrap();
    own.call("try", own.client.delete_object(BUCKET, trial).unwrap().build()).await.unwrap();

    // Not that of others, and nothing that cannot be taken back.
    let task = device.task("c.jpg", &content(10));
    denied(other.push(&task, reader(&task)).await.map(drop), "put in another's name");
    let theirs = Objects { device: "gate-8".into(), ..device.objects(&looker) };
    let place = theirs.push(&task, reader(&task)).await.unwrap();
    denied(other.push(&task, reader(&task)).await.map(drop), "look at and put over another's");
    denied(own.call("read", own.get(&place.key).unwrap()).await.map(drop), "read another's");
    denied(own.write_mark().await, "mark the bucket again");
    let mine = object_key("gate-7", task.event_received_at, &task.media.event, &"a.jpg".try_into().unwrap());
    for key in [mine.as_str(), place.key.as_str(), "environment.json"] {
        let delete = own.client.delete_object(BUCKET, key).unwrap().build();
        denied(own.call("delete", delete).await.map(drop), key);
    }
    for prefix in ["", "devices/", "devices/gate-8/", "devices/gate-7/"] {
        let list = own.client.list_objects(BUCKET).unwrap().prefix(prefix.to_owned()).recursive(true);
        let page = list.use_api_v1(false).build().to_stream().await.next().await;
        assert!(page.is_some_and(|page| page.is_err()), "listed {prefix:?}");
    }
    assert_eq!(looker.list(BUCKET, "").await.unwrap().len(), 4);
}
