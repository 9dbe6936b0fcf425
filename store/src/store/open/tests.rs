use super::super::{EventQuery, testing};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn views_older_than_the_event_index_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = testing::open(folder.path(), "test", 4);
    let event = testing::visit("1");
    let answer = store.galleries.identify(&event.key.camera, &[]);
    store.events.record(event, answer).await.unwrap().await.unwrap();
    store.close();
    drop(store);
    let db = crate::views::open_db(&folder.path().join("views")).unwrap();
    db.insert([entries::STATE_BEFORE], b"what an older version wrote").unwrap();
    db.flush().unwrap();
    drop(db);
    let (store, report) = testing::open(folder.path(), "test", 4);
    assert!(report.views_rebuilt.is_some_and(|why| why.contains("older version")));
    assert_eq!(store.events.list(&EventQuery { limit: 9, ..EventQuery::default() }).unwrap().len(), 1);
    assert!(store.core.views.stored(&[entries::STATE_BEFORE]).unwrap().is_none());
    store.close();
}
