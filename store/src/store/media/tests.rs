use std::time::Duration;

use super::*;
use crate::store::{MediaQuery, Store, StoreSettings, testing};

fn key(id: &str) -> EventKey {
    EventKey { camera: "front".try_into().unwrap(), id: id.try_into().unwrap() }
}

async fn put(store: &Store, event: &str) {
    let stored = store.media.put(key(event), "a.jpg".try_into().unwrap(), vec![7; 100]).await.unwrap();
    assert!(matches!(stored, MediaOutcome::Stored(_)));
}

fn state_of(store: &Store, event: &str) -> MediaState {
    let files = store.media.list(&MediaQuery { event: Some(key(event)), limit: 9 }).unwrap();
    files[0].state.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_an_event_that_left_the_memory_index_is_delivered_and_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let settings = testing::settings(folder.path(), "test", 4);
    let (store, _) = testing::open_as(StoreSettings { orphan_media: Duration::ZERO, ..settings });
    let event = testing::visit("known");
    let answer = store.galleries.identify(&event.key.camera, &[]);
    let at = store.events.record(event.clone(), answer).await.unwrap().await.unwrap();
    store.core.wait_applied(at).await.unwrap();
    store.core.events.forget_all();
    put(&store, "known").await;
    put(&store, "never").await;
    assert_eq!(state_of(&store, "known"), MediaState::Waiting);
    assert_eq!(store.media.drop_orphans().await.unwrap(), 1);
    assert_eq!(state_of(&store, "known"), MediaState::Pending);
    assert_eq!(state_of(&store, "never"), MediaState::Dropped("no_event".to_owned()));
    let tasks = store.media.next_tasks(&std::collections::HashSet::new(), 9, true).unwrap();
    assert_eq!(tasks.iter().map(|task| task.event_received_at).collect::<Vec<_>>(), [event.received_at]);
    assert!(store.events.ledger().holds());
    store.close();
}
