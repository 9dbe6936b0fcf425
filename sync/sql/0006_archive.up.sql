-- 0006 archive: which events lie in the bucket as Parquet, and which of these are no longer in gatehouse.events. Runs in one
-- transaction.

create table gatehouse.archive (
    device_id   text        not null references gatehouse.devices,
    first_seq   bigint      not null check (first_seq > 0),
    last_seq    bigint      not null check (last_seq >= first_seq),
    day         date        not null,
    events      bigint      not null generated always as (last_seq - first_seq + 1) stored,
    lost        bigint      check (lost >= 0),
    s3_bucket   text        not null,
    s3_key      text        not null,
    file_size   bigint      check (file_size > 0),
    checksum    text,
    planned_at  timestamptz not null default now(),
    archived_at timestamptz,
    dropped_at  timestamptz check (dropped_at >= archived_at),
    primary key (device_id, first_seq),
    unique (s3_bucket, s3_key),
    check (archived_at is null or (lost is not null and file_size is not null and checksum is not null))
);
create index archive_day on gatehouse.archive (day);
comment on table gatehouse.archive is
    'One row per file below archive/events/: a range of an appliance''s events, of one day. The ranges of an appliance '
    'follow each other without hole and double.';
comment on column gatehouse.archive.device_id is 'The appliance.';
comment on column gatehouse.archive.first_seq is 'Number of the first event in the file.';
comment on column gatehouse.archive.last_seq is 'Number of the last event in the file.';
comment on column gatehouse.archive.day is 'The day of received_at (UTC) of all events in the file.';
comment on column gatehouse.archive.events is 'How many: every number from first_seq to last_seq once.';
comment on column gatehouse.archive.lost is 'Of these, events of kind `lost`.';
comment on column gatehouse.archive.s3_bucket is 'Bucket.';
comment on column gatehouse.archive.s3_key is 'Key within the bucket.';
comment on column gatehouse.archive.file_size is 'Size in bytes.';
comment on column gatehouse.archive.checksum is 'sha256: and 64 hexadecimal digits.';
comment on column gatehouse.archive.planned_at is
    'When the range was fixed. Before the file is written, so that after a crash the same file is written again.';
comment on column gatehouse.archive.archived_at is 'When the file was found whole in the bucket; null before.';
comment on column gatehouse.archive.dropped_at is
    'When these events were dropped from gatehouse.events by `gatehouse central retention`; null while they are there.';

alter table gatehouse.archive enable row level security;
create policy own on gatehouse.archive for select to gatehouse_device
    using (device_id = (select gatehouse.my_device()));
create policy readers on gatehouse.archive for select to gatehouse_analyst, gatehouse_privacy using (true);
grant select on gatehouse.archive to gatehouse_device, gatehouse_analyst, gatehouse_privacy;

-- What was dropped on purpose is not missing.
create or replace view gatehouse.completeness with (security_invoker = true) as
select c.device_id,
       c.seq                                                             as cursor_seq,
       coalesce(e.events, 0) + coalesce(a.events, 0)                     as events,
       greatest(e.last_seq, a.last_seq, 0)                               as last_seq,
       c.seq - coalesce(e.events, 0) - coalesce(a.events, 0)             as missing,
       coalesce(e.lost, 0) + coalesce(a.lost, 0)                         as lost,
       c.seq = coalesce(e.events, 0) + coalesce(a.events, 0) and c.seq = greatest(e.last_seq, a.last_seq, 0)
           and c.seq = coalesce(e.numbers, 0) + coalesce(a.events, 0)    as whole,
       coalesce(a.events, 0)                                             as dropped
  from gatehouse.device_cursors c
  left join (select device_id, count(*) as events, count(distinct seq) as numbers, max(seq) as last_seq,
                    count(*) filter (where kind = 'lost' and identification = '{}') as lost
               from gatehouse.events group by device_id) e using (device_id)
  left join (select device_id, sum(events)::bigint as events, max(last_seq) as last_seq, sum(lost)::bigint as lost
               from gatehouse.archive where dropped_at is not null group by device_id) a using (device_id);
comment on column gatehouse.completeness.events is 'Events of the appliance: rows, and those that were archived and dropped.';
comment on column gatehouse.completeness.last_seq is 'Highest number among them.';
comment on column gatehouse.completeness.missing is 'Events that are missing; 0 is the only good value.';
comment on column gatehouse.completeness.lost is 'Events of kind `lost`: those that the appliance''s disk lost.';
comment on column gatehouse.completeness.dropped is 'Events that are in the archive alone.';
