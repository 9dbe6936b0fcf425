//! The register of requests of data subjects.

use chrono::{Days, Months, NaiveDate, Utc};
use gatehouse_admin::requests::{close, list, open};

use crate::support::Bed;

#[tokio::test]
async fn a_request_is_due_one_month_later_and_leaves_lines_without_names() {
    let bed = Bed::new("requests").await;
    let config = bed.config("dev");
    let received: NaiveDate = "2026-01-31".parse().unwrap();
    let first = open(&config, "access", "letter 17", Some(received)).await.unwrap();
    assert_eq!((first.received_on.as_str(), first.due_on.as_str()), ("2026-01-31", "2026-02-28"));
    assert!(first.days_left.is_some_and(|left| left < 0), "{first:?}");
    let second = open(&config, "erasure", "letter 18", None).await.unwrap();
    // The day may change during the test.
    let today = Utc::now().date_naive();
    let due = [today, today - Days::new(1)].map(|day| (day + Months::new(1)).to_string());
    assert!(due.contains(&second.due_on), "{second:?}");
    assert!(second.days_left.is_some_and(|left| (28..=31).contains(&left)), "{second:?}");

    assert!(open(&config, "access", "letter 17", None).await.is_err(), "it is open already");
    assert!(open(&config, "access", "late", Some(today + Days::new(3))).await.is_err(), "not received yet");
    for bad in ["", " letter", "a\nb"] {
        assert!(open(&config, "access", bad, None).await.is_err(), "{bad:?}");
    }
    let insert = "insert into gatehouse.persons (id, external_id, name, named_at, named_by, name_change_no, enrolled_at, \
                  encrypted_metadata, change_no) values (gen_random_uuid(), 'anna', 'Anna Berg', now(), 'a', 1, now(), '', 1)";
    bed.database.connect().await.unwrap().batch_execute(insert).await.unwrap();
    for named in ["ANNA", "letter of anna berg"] {
        let refused = open(&config, "access", named, None).await.unwrap_err().to_string();
        assert!(refused.contains("names an enrolled person"), "{refused}");
    }

    let listed = list(&config, false).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [first.id, second.id]);
    let closed = close(&config, first.id, "refused").await.unwrap();
    assert_eq!((closed.outcome.as_deref(), closed.days_left), (Some("refused"), None));
    assert!(close(&config, first.id, "done").await.is_err(), "it is closed already");
    assert!(close(&config, 999, "done").await.is_err());
    assert_eq!(list(&config, false).await.unwrap(), [second]);
    assert_eq!(list(&config, true).await.unwrap().len(), 2);
    // After it is closed, the same reference may ask again.
    open(&config, "access", "letter 17", None).await.unwrap();
    let lines = "select count(*) from gatehouse.audit_log where action in ('request.open', 'request.close') \
                 and subject ~ '^[0-9]+$'";
    assert_eq!(bed.count(lines).await, 4);
}
