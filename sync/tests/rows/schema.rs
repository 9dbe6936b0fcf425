use gatehouse_central::SyncError;
use gatehouse_central::rows::{MIGRATIONS, Migration, migrate, migrate_with};
use gatehouse_sync::rows::Writer;

use crate::support::{Bed, deliver_all, erasure, event, file, identity};

#[tokio::test]
async fn migrations_go_up_down_and_up_again_on_data() {
    let bed = Bed::empty("migrate").await;
    let rows = bed.rows();
    for round in 0..2 {
        let up = migrate(&rows, None).await.unwrap();
        assert_eq!(up.len(), MIGRATIONS.len());
        assert!(up.iter().all(|done| done.up));
        assert!(migrate(&rows, None).await.unwrap().is_empty());
        let client = bed.database.connect().await.unwrap();
        client.execute("insert into gatehouse.environment values ('dev')", &[]).await.unwrap();
        let mut writer = bed.writer("edge-1").await;
        assert_eq!(writer.cursor().lsn, 0, "round {round} begins empty");
        let changes = [event(1, 1), event(2, 2), file(3, 2, "a.jpg"), erasure(4, 2, "anna")];
        deliver_all(&mut writer, &changes).await.unwrap();
        bed.assert_whole("edge-1", 2).await;

        let down = migrate(&rows, Some(0)).await.unwrap();
        assert_eq!(down.len(), MIGRATIONS.len());
        let left = "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace \
                    where nspname = 'gatehouse' and relkind in ('r', 'p', 'v') and relname <> 'schema_migrations'";
        assert_eq!(bed.count(left).await, 0);
        let functions = "select count(*) from pg_proc p join pg_namespace n on n.oid = pronamespace \
                         where nspname = 'gatehouse'";
        assert_eq!(bed.count(functions).await, 0);
        let error = Writer::open(&rows, identity("edge-1")).await.err().unwrap();
        assert!(error.to_string().contains("central init"), "{error}");
    }
    assert!(matches!(migrate(&rows, Some(999)).await, Err(SyncError::Setup(_))));
}

/// [`MIGRATIONS`] of a later version of Gatehouse.
fn later_migrations() -> Vec<Migration> {
    let copy =
        |one: &Migration| Migration { version: one.version, name: one.name, up: one.up, down: one.down };
    let added = Migration {
        version: 3,
        name: "added",
        up: "create table gatehouse.added (id int primary key); \
             alter table gatehouse.events add column added int not null default 7",
        down: "alter table gatehouse.events drop column added; drop table gatehouse.added",
    };
    MIGRATIONS.iter().map(copy).chain([added]).collect()
}

#[tokio::test]
async fn an_older_database_is_brought_up_with_its_rows_and_back() {
    let bed = Bed::new("later").await;
    let (rows, later) = (bed.rows(), later_migrations());
    deliver_all(&mut bed.writer("edge-1").await, &[event(1, 1), event(2, 2)]).await.unwrap();
    let up = migrate_with(&rows, &later, None).await.unwrap();
    assert_eq!(
        up.iter().map(|done| (done.version, done.name, done.up)).collect::<Vec<_>>(),
        [(3, "added", true)]
    );
    assert_eq!(bed.count("select sum(added) from gatehouse.events").await, 14);
    assert_eq!(bed.text("select name from gatehouse.schema_migrations where version = 3").await, "added");
    let down = migrate_with(&rows, &later, Some(2)).await.unwrap();
    assert_eq!(down.iter().map(|done| (done.version, done.up)).collect::<Vec<_>>(), [(3, false)]);
    assert_eq!(bed.count("select max(version)::bigint from gatehouse.schema_migrations").await, 2);
    bed.assert_whole("edge-1", 2).await;
}

#[tokio::test]
async fn a_failed_migration_changes_nothing() {
    let bed = Bed::new("failed").await;
    let mut later = later_migrations();
    later[2].up = "create table gatehouse.added (id int primary key); select 1 / 0";
    migrate_with(&bed.rows(), &later, None).await.unwrap_err();
    assert_eq!(bed.count("select count(*) from pg_class where relname = 'added'").await, 0);
    assert_eq!(bed.count("select max(version)::bigint from gatehouse.schema_migrations").await, 2);
}

#[tokio::test]
async fn a_database_from_the_future_is_delivered_to_and_not_taken_back() {
    let bed = Bed::new("future").await;
    let rows = bed.rows();
    migrate_with(&rows, &later_migrations(), None).await.unwrap();
    // Later migrations only add, so an older appliance continues.
    assert!(migrate(&rows, None).await.unwrap().is_empty());
    deliver_all(&mut bed.writer("edge-1").await, &[event(1, 1)]).await.unwrap();
    bed.assert_whole("edge-1", 1).await;
    let error = migrate(&rows, Some(1)).await.unwrap_err();
    assert!(error.to_string().contains("there is no migration 3 in this version of Gatehouse"), "{error}");
    assert_eq!(bed.count("select max(version)::bigint from gatehouse.schema_migrations").await, 3);
}

#[tokio::test]
async fn two_inits_at_once_do_not_harm_each_other() {
    let bed = Bed::empty("inits").await;
    let config = bed.config("dev");
    let (one, two) = tokio::join!(gatehouse_admin::init(&config), gatehouse_admin::init(&config));
    one.unwrap();
    two.unwrap();
    assert_eq!(bed.count("select count(*) from gatehouse.environment").await, 1);
}

#[tokio::test]
async fn every_table_column_and_function_says_what_it_is() {
    let bed = Bed::new("comments").await;
    let silent = "select coalesce(string_agg(what, ', '), 'none') from ( \
        select c.relname || coalesce('.' || a.attname, '') as what \
          from pg_class c join pg_namespace n on n.oid = c.relnamespace \
          left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         where n.nspname = 'gatehouse' and c.relkind in ('r', 'p', 'v') and not c.relispartition \
           and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null) \
        union all select proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = 'gatehouse' and obj_description(p.oid, 'pg_proc') is null) s";
    assert_eq!(bed.text(silent).await, "none");
}
