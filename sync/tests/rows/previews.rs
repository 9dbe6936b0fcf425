//! Rows of thumbnails, and pictures that cannot be shown.

use gatehouse_admin::delete::{mark, unmark};
use gatehouse_store::record::{ObjectPlace, Thumbnail};
use gatehouse_store::store::Change;
use gatehouse_sync::rows::Writer;

use crate::support::{Bed, at, deliver_all, event, file_of, identity};

const FOLDER: &str = "devices/edge-1/events/2026/11/20/door/e1";

/// A picture of the first event at the place of its object.
fn picture(lsn: u64, name: &str, broken: Option<&str>) -> Change {
    let mut change = file_of("edge-1", lsn, 1, name);
    if let Change::File { place, fault, .. } = &mut change {
        place.key = format!("{FOLDER}/{name}");
        *fault = broken.map(str::to_owned);
    }
    change
}

fn thumbnails(lsn: u64, of: &Change) -> Change {
    let Change::File { media, .. } = of else { panic!("{of:?}") };
    let small = |edge: u16| Thumbnail {
        edge,
        size: u64::from(edge),
        sha256: [8; 32],
        place: ObjectPlace {
            bucket: "gatehouse-dev".into(),
            key: format!("{FOLDER}/thumbnails/{edge}/{}.jpg", media.name),
        },
    };
    let thumbnails = vec![small(160), small(640)];
    Change::Thumbnails { position: at(lsn, 1), picture: media.clone(), thumbnails }
}

fn changes() -> [Change; 6] {
    let (whole, broken) = (picture(3, "a.jpg", None), picture(4, "b.jpg", Some("it ends too early")));
    let other = picture(5, "ba.jpg", None);
    [event(1, 1), thumbnails(2, &whole), whole, broken, other.clone(), thumbnails(6, &other)]
}

#[tokio::test]
async fn thumbnails_and_faults_arrive_once_by_the_role_of_the_device() {
    let bed = Bed::new("previews").await;
    let rows = bed.enrolled("edge-1").await;
    let mut writer = Writer::open(&rows, identity("edge-1")).await.unwrap();
    deliver_all(&mut writer, &changes()).await.unwrap();
    // As after a restart whose cursor is an old one, and a second delivery of the picture itself.
    deliver_all(&mut writer, &changes()).await.unwrap();
    deliver_all(&mut writer, &[picture(7, "b.jpg", Some("it is empty"))]).await.unwrap();
    let small = "select count(*) from gatehouse.files where mime_type = 'image/jpeg' and fault is null \
                 and associated_entity_type = 'event' and associated_entity_id = 'door/e1' and file_size in (160, 640) \
                 and checksum = 'sha256:' || repeat('08', 32) and uploaded_by = 'edge-1'";
    assert_eq!(bed.count(small).await, 4);
    assert_eq!(bed.count("select count(*) from gatehouse.files").await, 7);
    let faults =
        "select string_agg(concat_ws(' ', s3_key, fault), '; ') from gatehouse.files where fault is not null";
    assert_eq!(bed.text(faults).await, format!("{FOLDER}/b.jpg it is empty"));
    assert_eq!(bed.text("select fault from gatehouse.files_history").await, "it ends too early");
    bed.assert_whole("edge-1", 1).await;
}

#[tokio::test]
async fn what_is_done_with_a_picture_is_done_with_its_thumbnails() {
    let bed = Bed::new("together").await;
    deliver_all(&mut bed.writer("edge-1").await, &changes()).await.unwrap();
    let marked = "select coalesce(string_agg(split_part(s3_key, 'door/e1/', 2), ' ' order by s3_key), 'none') \
                  from gatehouse.files where status = 'marked'";
    let id_of = async |name: &str| {
        bed.text(&format!("select id::text from gatehouse.files where s3_key = '{FOLDER}/{name}'")).await
    };
    let config = bed.config("dev");
    let picture = id_of("a.jpg").await;
    mark(&config, &picture).await.unwrap();
    assert_eq!(bed.text(marked).await, "a.jpg thumbnails/160/a.jpg.jpg thumbnails/640/a.jpg.jpg");
    let lines = "select count(*) from gatehouse.audit_log where action in ('file.mark', 'file.unmark')";
    assert_eq!(bed.count(lines).await, 3);
    unmark(&config, &picture).await.unwrap();
    assert_eq!(bed.text(marked).await, "none");
    // A thumbnail alone is a file like another.
    mark(&config, &id_of("thumbnails/160/a.jpg.jpg").await).await.unwrap();
    assert_eq!(bed.text(marked).await, "thumbnails/160/a.jpg.jpg");
}
