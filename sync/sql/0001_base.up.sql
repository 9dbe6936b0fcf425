-- 0001 base: what an appliance delivers today. Runs in one transaction, in schema gatehouse.

create table gatehouse.environment (
    name text not null check (name in ('dev', 'staging', 'prod'))
);
create unique index environment_one_row on gatehouse.environment ((true));
comment on table gatehouse.environment is
    'One row: the environment this database belongs to. An appliance of another environment refuses to write.';
comment on column gatehouse.environment.name is 'dev, staging or prod.';

create table gatehouse.devices (
    device_id  text        primary key check (device_id <> ''),
    site       text        not null,
    state_id   text        not null,
    first_seen timestamptz not null default now(),
    last_seen  timestamptz not null default now(),
    version    text        not null
);
comment on table gatehouse.devices is 'The appliances that have ever delivered, one row each.';
comment on column gatehouse.devices.device_id is 'device.id of the appliance''s configuration.';
comment on column gatehouse.devices.site is 'device.site of the appliance''s configuration, as of its last connection.';
comment on column gatehouse.devices.state_id is
    'Made with the appliance''s state directory: a second appliance under the same device_id is refused by it.';
comment on column gatehouse.devices.first_seen is 'First connection, by this server''s clock.';
comment on column gatehouse.devices.last_seen is 'Last connection, by this server''s clock.';
comment on column gatehouse.devices.version is 'Version of Gatehouse at the last connection.';

create table gatehouse.device_cursors (
    device_id text        primary key references gatehouse.devices,
    lsn       bigint      not null default 0 check (lsn >= 0),
    seq       bigint      not null default 0 check (seq >= 0),
    moved_at  timestamptz not null default now()
) with (fillfactor = 50);
comment on table gatehouse.device_cursors is
    'How far each appliance has delivered. Moved in the transaction that writes the rows, under a row lock: that '
    'is what keeps (device_id, seq) single and gap-free.';
comment on column gatehouse.device_cursors.device_id is 'The appliance.';
comment on column gatehouse.device_cursors.lsn is 'Last delivered record of the appliance''s journal.';
comment on column gatehouse.device_cursors.seq is 'Number of the last delivered event.';
comment on column gatehouse.device_cursors.moved_at is 'When the cursor moved last, by this server''s clock.';

create table gatehouse.events (
    device_id            text        not null,
    seq                  bigint      not null,
    event_id             text        not null,
    camera               text        not null,
    kind                 text        not null,
    occurred_at          timestamptz,
    received_at          timestamptz not null,
    clock_uncertainty_ms bigint,
    identification       jsonb       not null,
    attributes           jsonb       not null,
    primary key (device_id, seq, received_at)
) partition by range (received_at);
create table gatehouse.events_default partition of gatehouse.events default;
-- Visits of a person, for the questions of the house and for erasure: the ids of the matched people alone.
create index events_people on gatehouse.events
    using gin (jsonb_path_query_array(identification, '$.faces[*].person.id'));
comment on table gatehouse.events is
    'One row per visit, partitioned by month (UTC) of received_at; gatehouse.ensure_month makes the partitions.';
comment on column gatehouse.events.device_id is 'The appliance.';
comment on column gatehouse.events.seq is 'The appliance''s number of the event: 1, 2, 3, ... without a hole.';
comment on column gatehouse.events.event_id is 'The camera''s id of the event; unique with device and camera.';
comment on column gatehouse.events.camera is 'The camera.';
comment on column gatehouse.events.kind is
    'face, doorbell, motion or whatever else the camera calls it; `lost`, with an empty identification, for an '
    'event that damage of the appliance''s disk destroyed before it could be delivered.';
comment on column gatehouse.events.occurred_at is 'The camera''s own time, only where it was plausible.';
comment on column gatehouse.events.received_at is 'The appliance''s time at the first delivery by the camera.';
comment on column gatehouse.events.clock_uncertainty_ms is
    'How far received_at may be off, in milliseconds; null where the appliance does not know.';
comment on column gatehouse.events.identification is
    'The answer: correlation_id, gallery_size, model, faces[outcome, person{id, name}, distance, threshold, '
    'margin, quality]. A person who was erased is null.';
comment on column gatehouse.events.attributes is
    'Fields of the camera that Gatehouse does not know. {"set_aside": SQLSTATE} where this server refused them.';

create table gatehouse.files (
    id                     uuid        primary key,
    s3_bucket              text        not null,
    s3_key                 text        not null,
    file_size              bigint      not null check (file_size >= 0),
    mime_type              text        not null,
    checksum               text        not null,
    uploaded_at            timestamptz not null default now(),
    uploaded_by            text        not null references gatehouse.devices,
    status                 text        not null default 'active'
        check (status in ('active', 'archived', 'marked', 'deleted', 'quarantine')),
    associated_entity_type text        not null,
    associated_entity_id   text        not null,
    unique (s3_bucket, s3_key)
);
create index files_of_entity on gatehouse.files (uploaded_by, associated_entity_type, associated_entity_id);
comment on table gatehouse.files is 'One row per object in S3, written only after the object was stored and verified.';
comment on column gatehouse.files.id is 'The appliance''s id of the file.';
comment on column gatehouse.files.s3_bucket is 'Bucket.';
comment on column gatehouse.files.s3_key is 'Key within the bucket.';
comment on column gatehouse.files.file_size is 'Size in bytes.';
comment on column gatehouse.files.mime_type is 'Content type.';
comment on column gatehouse.files.checksum is 'sha256: and 64 hexadecimal digits.';
comment on column gatehouse.files.uploaded_at is 'When this row was written, by this server''s clock.';
comment on column gatehouse.files.uploaded_by is 'The appliance.';
comment on column gatehouse.files.status is 'active, archived, marked (for deletion), deleted or quarantine.';
comment on column gatehouse.files.associated_entity_type is 'What it belongs to: event.';
comment on column gatehouse.files.associated_entity_id is 'For an event: camera/event id, within uploaded_by.';

create table gatehouse.erasures (
    device_id       text        not null references gatehouse.devices,
    lsn             bigint      not null,
    person_id       text        not null,
    erased_at       timestamptz not null,
    applied_at      timestamptz not null default now(),
    events_scrubbed bigint      not null,
    primary key (device_id, lsn)
);
comment on table gatehouse.erasures is 'People who were erased on an appliance, and what that removed here.';
comment on column gatehouse.erasures.device_id is 'The appliance on which the person was erased.';
comment on column gatehouse.erasures.lsn is 'Record of the appliance''s journal that holds the erasure.';
comment on column gatehouse.erasures.person_id is 'The operator''s id of the person; neither name nor template.';
comment on column gatehouse.erasures.erased_at is 'When it was ordered, by the appliance''s clock.';
comment on column gatehouse.erasures.applied_at is 'When it was done here, by this server''s clock.';
comment on column gatehouse.erasures.events_scrubbed is 'Number of events that named the person until then.';

-- Makes the partition of a month. It is attached, not created in place, so that appliances that write at the same
-- time are not held up. Out of a plausible range (a clock that is wrong) nothing is made, and the rows go to the
-- default partition. So they do where the default partition holds rows of that month already.
create function gatehouse.ensure_month(moment timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    first timestamp := date_trunc('month', moment at time zone 'UTC');
    part  text := 'events_' || to_char(first, 'YYYY_MM');
begin
    if moment is null or moment < '2020-01-01 00:00:00+00' or moment > now() + interval '400 days' then
        return false;
    end if;
    if to_regclass('gatehouse.' || part) is not null then
        return true;
    end if;
    perform pg_advisory_xact_lock(hashtext('gatehouse.ensure_month'));
    -- Asked with a snapshot of its own: to_regclass may remember its answer from before the lock.
    if exists (select from pg_class where relnamespace = 'gatehouse'::regnamespace and relname = part) then
        return true;
    end if;
    execute format('create table gatehouse.%I (like gatehouse.events including defaults including constraints)', part);
    execute format('alter table gatehouse.events attach partition gatehouse.%I for values from (%L) to (%L)',
        part, first at time zone 'UTC', (first + interval '1 month') at time zone 'UTC');
    execute format('comment on table gatehouse.%I is %L', part,
        'Events received in ' || to_char(first, 'YYYY-MM') || ' (UTC).');
    return true;
exception when check_violation then
    return false;
end
$$;
comment on function gatehouse.ensure_month(timestamptz) is
    'Makes the events partition of the month (UTC) of a time; false where the time is implausible or the default '
    'partition holds rows of that month.';

create function gatehouse.without_person(identification jsonb, person text) returns jsonb
language sql immutable strict as $$
    select case when jsonb_typeof(identification -> 'faces') = 'array' then
        jsonb_set(identification, '{faces}', coalesce((
            select jsonb_agg(case when face #>> '{person,id}' = person
                then jsonb_set(face, '{person}', 'null') else face end order by place)
            from jsonb_array_elements(identification -> 'faces') with ordinality as f(face, place)), '[]'))
    else identification end
$$;
comment on function gatehouse.without_person(jsonb, text) is 'An identification in which one person is null.';

-- Idempotent by (device_id, lsn): an erasure that arrives twice counts once. Events after `upto_seq` are spared:
-- they are of a person who was enrolled anew under the same id.
create function gatehouse.erase_person(device text, at_lsn bigint, upto_seq bigint, person text, at timestamptz)
returns bigint language plpgsql as $$
declare
    scrubbed bigint;
begin
    if exists (select from gatehouse.erasures e where e.device_id = device and e.lsn = at_lsn) then
        return 0;
    end if;
    update gatehouse.events
       set identification = gatehouse.without_person(identification, person)
     where device_id = device and seq <= upto_seq
       and jsonb_path_query_array(identification, '$.faces[*].person.id') ? person;
    get diagnostics scrubbed = row_count;
    insert into gatehouse.erasures (device_id, lsn, person_id, erased_at, events_scrubbed)
    values (device, at_lsn, person, at, scrubbed);
    return scrubbed;
end
$$;
comment on function gatehouse.erase_person(text, bigint, bigint, text, timestamptz) is
    'Records an erasure and removes the person from the events of the device up to an event number.';

create view gatehouse.completeness as
select c.device_id,
       c.seq                                as cursor_seq,
       coalesce(e.events, 0)                as events,
       coalesce(e.last_seq, 0)              as last_seq,
       c.seq - coalesce(e.events, 0)        as missing,
       coalesce(e.lost, 0)                  as lost,
       c.seq = coalesce(e.events, 0) and c.seq = coalesce(e.last_seq, 0)
           and c.seq = coalesce(e.numbers, 0) as whole
  from gatehouse.device_cursors c
  left join (select device_id, count(*) as events, count(distinct seq) as numbers, max(seq) as last_seq,
                    count(*) filter (where kind = 'lost' and identification = '{}') as lost
               from gatehouse.events group by device_id) e using (device_id);
comment on view gatehouse.completeness is
    'Proof per appliance that nothing is missing: `whole` holds where max(seq) = count(*) = the cursor. Reads all events.';
comment on column gatehouse.completeness.device_id is 'The appliance.';
comment on column gatehouse.completeness.cursor_seq is 'Number of the last delivered event, by the cursor.';
comment on column gatehouse.completeness.events is 'Rows of the appliance.';
comment on column gatehouse.completeness.last_seq is 'Highest number among the rows.';
comment on column gatehouse.completeness.missing is 'Rows that are missing; 0 is the only good value.';
comment on column gatehouse.completeness.lost is 'Rows of kind `lost`: events that the appliance''s disk lost.';
comment on column gatehouse.completeness.whole is 'Whether there is neither a hole nor a double.';
