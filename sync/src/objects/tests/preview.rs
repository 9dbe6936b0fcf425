use gatehouse_store::record::Thumbnail;
use gatehouse_store::store::{Change, MediaQuery, MediaView};
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::proxy::{Faults, Proxy};

use super::*;
use crate::sink::Progress;
use crate::support::{SHORT_TIMEOUT, lenient_servers};

const EDGES: [u16; 2] = [160, 64];

fn folder(id: &str) -> String {
    format!("devices/gate-7/events/2026/11/20/door/{id}")
}

fn small(id: &str, edge: u16) -> String {
    format!("{}/thumbnails/{edge}/snapshot.jpg.jpg", folder(id))
}

/// Pushes until nothing waits.
async fn push_all(house: &mut House) -> Progress {
    let mut all = Progress::default();
    loop {
        let progress = house.push().await.unwrap();
        all.delivered += progress.delivered;
        all.previewed += progress.previewed;
        all.set_aside.extend(progress.set_aside);
        if !progress.more {
            return all;
        }
    }
}

fn view(house: &House, id: &str) -> MediaView {
    let event = EventKey { camera: "door".try_into().unwrap(), id: id.try_into().unwrap() };
    house.store.media.list(&MediaQuery { event: Some(event), limit: 1 }).unwrap().remove(0)
}

/// Files in the journal as the rows sink reads them: the key of each, and its fault.
fn reported(house: &House) -> Vec<(String, Option<String>)> {
    let mut reported = Vec::new();
    for change in house.store.feed.changes(Default::default(), 1000).unwrap() {
        match change {
            Change::File { place, fault, .. } => reported.push((place.key, fault)),
            Change::Thumbnails { thumbnails, .. } => {
                reported.extend(thumbnails.into_iter().map(|thumbnail| (thumbnail.place.key, None)));
            }
            _ => {}
        }
    }
    reported
}

#[tokio::test(flavor = "multi_thread")]
async fn thumbnails_leave_before_pictures_and_pictures_before_clips() {
    for server in lenient_servers() {
        let looker = server.looker();
        let mut house = House::with_thumbnails(&looker, Limits::default(), &EDGES).await;
        house.device.prepared(&looker).await;
        house.visit_with("clip", "clip.mp4", content(2000)).await;
        for id in ["v0", "v1"] {
            house.visit(id, jpeg(3, 640, 480).unwrap()).await;
        }
        let progress = push_all(&mut house).await;
        assert_eq!((progress.previewed, progress.delivered, house.waiting().len()), (2, 3, 0));
        let keys: Vec<_> = reported(&house).into_iter().map(|(key, _)| key).collect();
        let nth = |key: &str| keys.iter().position(|known| known == key).unwrap();
        for id in ["v0", "v1"] {
            let picture = nth(&format!("{}/snapshot.jpg", folder(id)));
            assert!(EDGES.iter().all(|edge| nth(&small(id, *edge)) < picture), "{keys:?}");
        }
        // It came first. A slow machine may still be at the second picture's thumbnails when an upload is free for it.
        assert!(nth(&format!("{}/clip.mp4", folder("clip"))) >= EDGES.len(), "{keys:?}");
        assert_eq!(keys.len(), 7, "each once: {keys:?}");

        let thumbnail = looker.get(BUCKET, &small("v0", 160)).await.unwrap();
        assert!(
            thumbnail.starts_with(&[0xff, 0xd8, 0xff]) && thumbnail.len() < 20_000,
            "{}",
            thumbnail.len()
        );
        let ledger = house.store.events.ledger();
        assert_eq!((ledger.files.stored, ledger.files.delivered, ledger.holds()), (3, 3, true));
        let edges: Vec<_> = view(&house, "v0").thumbnails.iter().map(|thumbnail| thumbnail.edge).collect();
        assert_eq!(edges, [64, 160]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_picture_is_kept_and_delivered_and_marked() {
    let server = S3Server::start().unwrap();
    let looker = server.objects();
    let mut house = House::with_thumbnails(&looker, Limits::default(), &EDGES).await;
    house.device.prepared(&looker).await;
    let whole = jpeg(3, 640, 480).unwrap();
    house.visit("cut", whole[..whole.len() / 2].to_vec()).await;
    house.visit("none", b"hello".to_vec()).await;
    house.visit_with("other", "picture.png", b"not looked at".to_vec()).await;
    let progress = push_all(&mut house).await;
    assert_eq!((progress.delivered, progress.previewed, progress.set_aside.len()), (3, 2, 0));
    assert_eq!(looker.list(BUCKET, "devices/").await.unwrap().len(), 3);
    assert_eq!(view(&house, "cut").fault.as_deref(), Some("it ends too early"));
    assert_eq!(view(&house, "none").fault.as_deref(), Some("it does not begin as a JPEG does"));
    assert_eq!(view(&house, "other").fault, None);
    let mut faults: Vec<_> =
        reported(&house).into_iter().map(|(_, fault)| fault.unwrap_or_default()).collect();
    faults.sort();
    assert_eq!(faults, ["", "it does not begin as a JPEG does", "it ends too early"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn thumbnails_arrive_once_after_an_interruption_before_the_report() {
    let server = S3Server::start().unwrap();
    let looker = server.objects();
    let mut house = House::with_thumbnails(&looker, Limits::default(), &EDGES).await;
    let objects = house.device.prepared(&looker).await;
    house.visit("v0", jpeg(3, 640, 480).unwrap()).await;
    // What a push leaves that ends between the objects and the journal; one of them by another version of the program.
    let task = house.waiting().remove(0);
    let previews = Arc::new(super::super::preview::Previews::new(EDGES.to_vec()));
    let file = house.store.media.open(&task.media.id).unwrap();
    let before = push_thumbnails(&objects, &previews, &task, file).await.unwrap().thumbnails;
    looker.put(BUCKET, &small("v0", 64), b"what an older version made".to_vec()).await.unwrap();

    let progress = push_all(&mut house).await;
    assert_eq!((progress.previewed, progress.delivered), (1, 1));
    assert_eq!(view(&house, "v0").thumbnails, before, "the same bytes under the same keys");
    let Thumbnail { place, sha256, .. } = &before[0];
    let bytes = looker.get(BUCKET, &place.key).await.unwrap();
    assert_eq!((place.key.as_str(), gatehouse_model::sha256(&bytes)), (small("v0", 64).as_str(), *sha256));
    assert_eq!(looker.list(BUCKET, "devices/").await.unwrap().len(), 3);
    assert_eq!(reported(&house).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_waits_for_its_thumbnails_and_not_for_those_that_the_server_never_takes() {
    let server = S3Server::start().unwrap();
    let looker = server.objects();
    let mut house = House::with_thumbnails(&looker, Limits::default(), &EDGES).await;
    house.device.prepared(&looker).await;
    // The server fails at the thumbnails of this one: there is a file in place of their folder.
    let blocked = server.files().join(BUCKET).join(folder("v0"));
    std::fs::create_dir_all(&blocked).unwrap();
    std::fs::write(blocked.join("thumbnails"), b"x").unwrap();
    house.visit("v0", jpeg(3, 640, 480).unwrap()).await;
    house.visit("v1", jpeg(4, 640, 480).unwrap()).await;
    let progress = push_all(&mut house).await;
    assert_eq!((progress.previewed, progress.delivered), (1, 1), "{progress:?}");
    assert_eq!(house.waiting().len(), 1, "the picture is behind its thumbnails");

    std::fs::remove_file(blocked.join("thumbnails")).unwrap();
    house.sink.let_time_pass();
    let progress = push_all(&mut house).await;
    assert_eq!((progress.previewed, progress.delivered, house.waiting().len()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_does_not_wait_for_clips_that_are_on_their_way() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let looker = server.objects();
    let mut house = House::with_thumbnails(&looker.at(proxy.port()), Limits::default(), &[64]).await;
    house.device.prepared(&looker).await;
    for nth in 0..5 {
        house.visit_with(&format!("clip-{nth}"), "clip.mp4", content(4_000_000 + nth)).await;
    }
    // Each clip takes a minute and more.
    proxy.set(Faults { rate: Some(50_000), ..Faults::default() });
    let (sink, store) = (&mut house.sink, house.store.clone());
    tokio::select! {
        progress = sink.push() => panic!("clips came before: {progress:?}"),
        () = async {
            // They are on their way by now, or it proves less; it holds all the same.
            tokio::time::sleep(SHORT_TIMEOUT).await;
            visit_of(&store, "v0", jpeg(3, 320, 240).unwrap()).await;
            while looker.list(BUCKET, "devices/").await.unwrap().len() < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    let picture = format!("{}/snapshot.jpg", folder("v0"));
    assert_eq!(looker.list(BUCKET, "devices/").await.unwrap(), [picture, small("v0", 64)]);
}
