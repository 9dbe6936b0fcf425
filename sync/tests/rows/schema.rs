use gatehouse_sync::SyncError;
use gatehouse_sync::rows::{MIGRATIONS, Writer, migrate};

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

#[tokio::test]
async fn two_inits_at_once_do_not_harm_each_other() {
    let bed = Bed::empty("inits").await;
    let config = bed.config("dev");
    let (one, two) =
        tokio::join!(gatehouse_sync::central::init(&config), gatehouse_sync::central::init(&config));
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
