-- 0001 baseline: what appliances deliver, who may access it, and the views for reports. Runs in one transaction, in schema
-- gatehouse. Needs Postgres 15 (security_invoker views), and the right to create roles if the three below do not exist.
--
-- Group roles belong to the server. Login roles of devices belong to one database: `gatehouse central enroll-device` derives
-- their names from it, and a row of gatehouse.devices maps each role to its device. Several databases can therefore share the
-- group roles, and a device of one database sees no row of another. The owner of the tables is not restricted.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['gatehouse_device', 'gatehouse_analyst', 'gatehouse_privacy'] loop
        if to_regrole(wanted) is null then
            begin
                execute format('create role %I nologin', wanted);
            exception
                -- A concurrent run for another database of this server created it.
                when duplicate_object or unique_violation then null;
                when insufficient_privilege then
                    raise exception using errcode = 'insufficient_privilege',
                        message = format('role %s is missing and may not be created', wanted),
                        hint = 'create it with NOLOGIN as a superuser';
            end;
        end if;
    end loop;
end
$$;

-- Tables -------------------------------------------------------------------------------------------------------------

create table gatehouse.environment (
    name text not null check (name in ('dev', 'staging', 'prod'))
);
create unique index environment_one_row on gatehouse.environment ((true));
comment on table gatehouse.environment is
    'One row: the environment of this database. An appliance of another environment refuses to write.';
comment on column gatehouse.environment.name is 'dev, staging or prod.';

create table gatehouse.devices (
    device_id      text        primary key check (device_id <> ''),
    site           text        not null,
    state_id       text        not null,
    role_name      text        unique,
    first_seen     timestamptz not null default now(),
    last_seen      timestamptz not null default now(),
    version        text        not null,
    pending_events bigint      check (pending_events >= 0),
    pending_files  bigint      check (pending_files >= 0),
    oldest_pending timestamptz,
    reported_at    timestamptz
);
comment on table gatehouse.devices is 'One row per appliance that was enrolled or has delivered.';
comment on column gatehouse.devices.device_id is 'Setting device.id of the appliance.';
comment on column gatehouse.devices.site is 'Setting device.site of the appliance at its last connection.';
comment on column gatehouse.devices.state_id is
    'Created with the state directory of the appliance. A second appliance with the same device_id is refused by it. '
    'Empty from enrollment to the first connection.';
comment on column gatehouse.devices.role_name is
    'Login role of the appliance, created by `gatehouse central enroll-device`. Null if the appliance uses another role '
    'or was retired.';
comment on column gatehouse.devices.first_seen is 'First connection, by the clock of this server.';
comment on column gatehouse.devices.last_seen is
    'Last contact, by the clock of this server: each connection, and every five minutes while connected.';
comment on column gatehouse.devices.version is 'Version of Gatehouse at the last connection.';
comment on column gatehouse.devices.pending_events is 'Events not delivered at reported_at.';
comment on column gatehouse.devices.pending_files is 'Media files, without thumbnails, not delivered at reported_at.';
comment on column gatehouse.devices.oldest_pending is
    'Arrival of the oldest pending event, by the clock of the appliance. Null if none is pending.';
comment on column gatehouse.devices.reported_at is
    'Time of the last report of pending items, by the clock of this server. Null before the first report.';

create table gatehouse.device_cursors (
    device_id text        primary key references gatehouse.devices,
    lsn       bigint      not null default 0 check (lsn >= 0),
    seq       bigint      not null default 0 check (seq >= 0),
    moved_at  timestamptz not null default now()
) with (fillfactor = 50);
comment on table gatehouse.device_cursors is
    'Delivery cursor of each appliance. It moves in the transaction that writes the rows, under a row lock. Therefore '
    '(device_id, seq) has no duplicate and no gap.';
comment on column gatehouse.device_cursors.device_id is 'The appliance.';
comment on column gatehouse.device_cursors.lsn is 'Last delivered record of the appliance''s journal.';
comment on column gatehouse.device_cursors.seq is 'Number of the last delivered event.';
comment on column gatehouse.device_cursors.moved_at is 'Last move of the cursor, by the clock of this server.';

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
-- Visits of a person, for reports and erasure. It holds only the ids of matched people.
create index events_people on gatehouse.events
    using gin (jsonb_path_query_array(identification, '$.faces[*].person.id'));
-- By time and by day. Rows arrive roughly in the order of time, so this index costs almost nothing at delivery.
create index events_time on gatehouse.events using brin (received_at, ((received_at at time zone 'UTC')::date));
-- Lost events are rare and are counted often.
create index events_lost on gatehouse.events (device_id) where kind = 'lost' and identification = '{}';
comment on table gatehouse.events is
    'One row per event, partitioned by month (UTC) of received_at. gatehouse.ensure_month creates the partitions.';
comment on column gatehouse.events.device_id is 'The appliance.';
comment on column gatehouse.events.seq is 'Number of the event at the appliance: 1, 2, 3, ... without a gap.';
comment on column gatehouse.events.event_id is 'Id of the event given by the camera. Unique with device and camera.';
comment on column gatehouse.events.camera is 'The camera.';
comment on column gatehouse.events.kind is
    'face, doorbell, motion or another kind given by the camera. `lost`, with an empty identification, is an event that '
    'disk damage destroyed on the appliance before delivery.';
comment on column gatehouse.events.occurred_at is 'Time given by the camera. Null if it was not plausible.';
comment on column gatehouse.events.received_at is 'Time of the first receipt, by the appliance.';
comment on column gatehouse.events.clock_uncertainty_ms is
    'Largest possible error of received_at in milliseconds. Null if unknown.';
comment on column gatehouse.events.identification is
    'The answer: correlation_id, gallery_size, model, faces[outcome, person{id, name}, distance, threshold, '
    'margin, quality]. An erased person is null.';
comment on column gatehouse.events.attributes is
    'Fields of the camera that Gatehouse does not interpret. {"set_aside": SQLSTATE} if this server refused them.';

create table gatehouse.files (
    id                     uuid        primary key,
    s3_bucket              text        not null,
    s3_key                 text        not null,
    file_size              bigint      not null check (file_size >= 0),
    mime_type              text        not null,
    checksum               text        not null,
    fault                  text,
    uploaded_at            timestamptz not null default now(),
    uploaded_by            text        not null references gatehouse.devices,
    status                 text        not null default 'active'
        check (status in ('active', 'archived', 'marked', 'deleted', 'quarantine', 'erased')),
    associated_entity_type text        not null,
    associated_entity_id   text        not null,
    unique (s3_bucket, s3_key)
);
create index files_of_entity on gatehouse.files (uploaded_by, associated_entity_type, associated_entity_id);
comment on table gatehouse.files is 'One row per S3 object, written after the object was stored and verified.';
comment on column gatehouse.files.id is
    'Id of the file given by the appliance. The id of a thumbnail is derived from its picture and size.';
comment on column gatehouse.files.s3_bucket is 'Bucket.';
comment on column gatehouse.files.s3_key is 'Key within the bucket.';
comment on column gatehouse.files.file_size is 'Size in bytes.';
comment on column gatehouse.files.mime_type is 'Content type.';
comment on column gatehouse.files.checksum is 'sha256: and 64 hexadecimal digits.';
comment on column gatehouse.files.fault is
    'Reason why a picture has no thumbnails (broken, too large, empty). Null for all other files.';
comment on column gatehouse.files.uploaded_at is 'Time at which this row was written, by the clock of this server.';
comment on column gatehouse.files.uploaded_by is 'The appliance.';
comment on column gatehouse.files.status is
    'active, archived, marked (for deletion), deleted, quarantine, or erased: a file of an erased person, whose object is '
    'removed by the next run of `gatehouse central purge-deleted`.';
comment on column gatehouse.files.associated_entity_type is 'Type of the entity that the file belongs to: event.';
comment on column gatehouse.files.associated_entity_id is 'For an event: camera/event id, within uploaded_by.';

create table gatehouse.erasures (
    device_id       text        not null references gatehouse.devices,
    lsn             bigint      not null,
    order_id        uuid        not null,
    erased_at       timestamptz not null,
    applied_at      timestamptz not null default now(),
    events_scrubbed bigint      not null,
    files_erased    bigint      not null,
    primary key (device_id, lsn)
);
comment on table gatehouse.erasures is 'Erasures of people on an appliance, and their effect on this database.';
comment on column gatehouse.erasures.device_id is 'The appliance on which the person was erased.';
comment on column gatehouse.erasures.lsn is 'Record of the appliance''s journal that holds the erasure.';
comment on column gatehouse.erasures.order_id is
    'Id of the order, the same on every appliance. Nothing of the person is kept.';
comment on column gatehouse.erasures.erased_at is 'Time of the erasure, by the clock of the appliance.';
comment on column gatehouse.erasures.applied_at is 'Time at which it was applied here, by the clock of this server.';
comment on column gatehouse.erasures.events_scrubbed is
    'Number of events of the appliance from which the person was removed, by this erasure or by its order before.';
comment on column gatehouse.erasures.files_erased is 'Number of files of these events that were marked for removal.';

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
    'One row per file below archive/events/: a range of events of one appliance and one day. The ranges of an appliance '
    'have no gaps and no overlaps.';
comment on column gatehouse.archive.device_id is 'The appliance.';
comment on column gatehouse.archive.first_seq is 'Number of the first event in the file.';
comment on column gatehouse.archive.last_seq is 'Number of the last event in the file.';
comment on column gatehouse.archive.day is 'Day of received_at (UTC) of all events in the file.';
comment on column gatehouse.archive.events is 'Number of events: each number from first_seq to last_seq once.';
comment on column gatehouse.archive.lost is 'Number of these events that are of kind `lost`.';
comment on column gatehouse.archive.s3_bucket is 'Bucket.';
comment on column gatehouse.archive.s3_key is 'Key within the bucket.';
comment on column gatehouse.archive.file_size is 'Size in bytes.';
comment on column gatehouse.archive.checksum is 'sha256: and 64 hexadecimal digits.';
comment on column gatehouse.archive.planned_at is
    'Time at which the range was fixed. This precedes the file, so that a run after a crash writes the same file.';
comment on column gatehouse.archive.archived_at is 'Time at which the complete file was found in the bucket. Null before.';
comment on column gatehouse.archive.dropped_at is
    'Time at which `gatehouse central retention` dropped these events from gatehouse.events. Null while they are there.';

create table gatehouse.audit_log (
    id        bigint      generated always as identity primary key,
    at        timestamptz not null default now(),
    actor     text        not null,
    device_id text,
    action    text        not null check (action <> ''),
    subject   text        not null,
    details   jsonb       not null default '{}'
);
create index audit_log_subject on gatehouse.audit_log (subject, at);
create index audit_log_at on gatehouse.audit_log using brin (at);
comment on table gatehouse.audit_log is
    'Grants, access to files and to data of people, erasures. Only gatehouse.audit() writes it. Only the owner of the '
    'table can change a line.';
comment on column gatehouse.audit_log.id is 'Number of the line. A number is missing if its transaction failed.';
comment on column gatehouse.audit_log.at is 'Time, by the clock of this server.';
comment on column gatehouse.audit_log.actor is 'Login role of the session.';
comment on column gatehouse.audit_log.device_id is 'The appliance, if the login role belongs to one.';
comment on column gatehouse.audit_log.action is 'The action, e.g. device.enroll, device.retire, person.erase, person.report.';
comment on column gatehouse.audit_log.subject is
    'Object of the action: id of a device, a file or an erasure order, or the reference to a person.';
comment on column gatehouse.audit_log.details is 'Details of the action. Never a name, a template or a secret.';

-- Requests of data subjects ------------------------------------------------------------------------------------------

create table gatehouse.requests (
    id          bigint      generated always as identity primary key,
    kind        text        not null
                check (kind in ('access', 'rectification', 'erasure', 'restriction', 'portability', 'objection')),
    reference   text        not null check (reference <> ''),
    received_on date        not null,
    due_on      date        not null,
    opened_by   text        not null,
    opened_at   timestamptz not null default now(),
    outcome     text        check (outcome in ('done', 'refused', 'withdrawn')),
    closed_by   text,
    closed_at   timestamptz,
    check ((outcome is null) = (closed_at is null))
);
create unique index requests_open on gatehouse.requests (kind, reference) where closed_at is null;
comment on table gatehouse.requests is
    'Register of requests of data subjects. It contains no name, because it outlives erasures.';
comment on column gatehouse.requests.id is 'Number of the request.';
comment on column gatehouse.requests.kind is 'The right that is exercised.';
comment on column gatehouse.requests.reference is 'Reference given by the operator, such as the number of a letter. Never a name.';
comment on column gatehouse.requests.received_on is 'Day on which the request was received.';
comment on column gatehouse.requests.due_on is 'Last day for the answer: one month after received_on.';
comment on column gatehouse.requests.opened_by is 'Login role that opened it.';
comment on column gatehouse.requests.opened_at is 'Time at which it was opened, by the clock of this server.';
comment on column gatehouse.requests.outcome is 'How it ended: done, refused or withdrawn. Null while it is open.';
comment on column gatehouse.requests.closed_by is 'Login role that closed it.';
comment on column gatehouse.requests.closed_at is 'Time at which it was closed, by the clock of this server.';

-- Partitions ---------------------------------------------------------------------------------------------------------

-- Creates the partition of a month. It is attached, not created in place, so that concurrent writers are not blocked.
-- For an implausible time (wrong clock) no partition is created, and the rows go to the default partition. The same
-- holds if the default partition already contains rows of that month.
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
    -- A query with a new snapshot: to_regclass may return a cached answer from before the lock.
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
    'Creates the partition of events for the month (UTC) of a time. False if the time is implausible, or if the default '
    'partition contains rows of that month.';

-- Sessions and audit -------------------------------------------------------------------------------------------------

create function gatehouse.session_device() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select device_id from gatehouse.devices where role_name = session_user
$$;
comment on function gatehouse.session_device() is 'The appliance of the login role. Null for all other roles.';

create function gatehouse.may_act_for(device text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(gatehouse.session_device() = device, false)
        or pg_has_role(session_user, 'gatehouse_privacy', 'member') or pg_has_role(session_user, current_user, 'member')
$$;
comment on function gatehouse.may_act_for(text) is
    'Whether the session may change rows of an appliance through a function. True for the appliance itself, the privacy '
    'role and the owner.';

create function gatehouse.audit(action text, subject text, details jsonb default '{}') returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into gatehouse.audit_log (actor, device_id, action, subject, details)
    values (session_user, gatehouse.session_device(), action, subject, details) returning id
$$;
comment on function gatehouse.audit(text, text, jsonb) is
    'Writes a line of the audit log. The caller cannot set actor, device and time.';

create function gatehouse.open_request(new_kind text, new_reference text, received date) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    today date := (now() at time zone 'UTC')::date;
    day   date := coalesce(received, today);
    n     bigint;
begin
    -- The zone furthest ahead of UTC is 14 hours ahead.
    if day > today + 1 then
        return null;
    end if;
    insert into gatehouse.requests (kind, reference, received_on, due_on, opened_by)
    values (new_kind, new_reference, day, (day + interval '1 month')::date, session_user)
    on conflict (kind, reference) where closed_at is null do nothing returning id into n;
    if n is not null then
        perform gatehouse.audit('request.open', n::text, jsonb_build_object('kind', new_kind));
    end if;
    return n;
end
$$;
comment on function gatehouse.open_request(text, text, date) is
    'Opens a request that was received on a day, or today. Null if one of this kind and reference is open, or the day is in '
    'the future.';

create function gatehouse.close_request(request bigint, new_outcome text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update gatehouse.requests r set outcome = new_outcome, closed_by = session_user, closed_at = now()
     where r.id = request and r.closed_at is null;
    if not found then
        return false;
    end if;
    perform gatehouse.audit('request.close', request::text, jsonb_build_object('outcome', new_outcome));
    return true;
end
$$;
comment on function gatehouse.close_request(bigint, text) is 'Closes a request. False if there is no such open request.';

-- History ------------------------------------------------------------------------------------------------------------

-- For any table T with a primary key: create T_history with the columns of T by the same names and types (in any order,
-- without constraints), and
--     version int not null, valid_from timestamptz, valid_to timestamptz not null, author text not null,
--     operation text not null, primary key (<primary key of T>, version)
-- then
--     create trigger keep_history after update or delete on gatehouse.T
--         for each row execute function gatehouse.keep_history('created_at');
-- The argument names the column of T that gives valid_from of the first version. Without it that is null. The row in T is
-- the version after the last one in T_history. An update that changes nothing creates no version. `set local
-- gatehouse.author` sets the author, otherwise it is the login role. For the role of a device it is always the login role.
create function gatehouse.keep_history() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    history    text := format('%I.%I', tg_table_schema, tg_table_name || '_history');
    same_key   text;
    columns    text;
    old_values text;
    author     text := session_user;
begin
    if tg_op = 'UPDATE' and old *= new then
        return null;
    end if;
    if gatehouse.session_device() is null then
        author := coalesce(nullif(current_setting('gatehouse.author', true), ''), author);
    end if;
    select string_agg(format('h.%1$I = ($1).%1$I', a.attname), ' and ') into same_key
      from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = tg_relid and i.indisprimary;
    select string_agg(quote_ident(attname), ', ' order by attnum),
           string_agg(format('($1).%I', attname), ', ' order by attnum) into columns, old_values
      from pg_attribute where attrelid = tg_relid and attnum > 0 and not attisdropped;
    execute format(
        'insert into %1$s (%2$s, version, valid_from, valid_to, author, operation) '
        'select %3$s, coalesce(max(h.version), 0) + 1, coalesce(max(h.valid_to), %4$s), clock_timestamp(), $2, $3 '
        'from %1$s h where %5$s',
        history, columns, old_values,
        case when tg_nargs > 0 then format('($1).%I', tg_argv[0]) else 'null::timestamptz' end, same_key)
    using old, author, lower(tg_op);
    return null;
end
$$;
comment on function gatehouse.keep_history() is
    'Trigger: writes the row before an update or a delete to <table>_history, with version, time, author and operation.';

create table gatehouse.files_history (
    id                     uuid        not null,
    s3_bucket              text        not null,
    s3_key                 text        not null,
    file_size              bigint      not null,
    mime_type              text        not null,
    checksum               text        not null,
    fault                  text,
    uploaded_at            timestamptz not null,
    uploaded_by            text        not null,
    status                 text        not null,
    associated_entity_type text        not null,
    associated_entity_id   text        not null,
    version                int         not null,
    valid_from             timestamptz,
    valid_to               timestamptz not null,
    author                 text        not null,
    operation              text        not null check (operation in ('update', 'delete')),
    primary key (id, version)
);
create index files_history_key on gatehouse.files_history (s3_bucket, s3_key);
create trigger keep_history after update or delete on gatehouse.files
    for each row execute function gatehouse.keep_history('uploaded_at');
comment on table gatehouse.files_history is 'Earlier versions of rows of files, one row each.';
do $$
declare
    source record;
begin
    for source in
        select a.attname, col_description(a.attrelid, a.attnum) as description from pg_attribute a
         where a.attrelid = 'gatehouse.files'::regclass and a.attnum > 0 and not a.attisdropped
    loop
        execute format('comment on column gatehouse.files_history.%I is %L',
            source.attname, 'As in files. ' || source.description);
    end loop;
end
$$;
comment on column gatehouse.files_history.version is 'Number of the version of this row: 1, 2, 3, ...';
comment on column gatehouse.files_history.valid_from is 'Start of its validity, by the clock of this server.';
comment on column gatehouse.files_history.valid_to is 'End of its validity, by the clock of this server.';
comment on column gatehouse.files_history.author is
    'Author of the change that ended it: gatehouse.author of the session, otherwise the login role.';
comment on column gatehouse.files_history.operation is 'Operation that ended it: update or delete.';

-- Erasure on one appliance -------------------------------------------------------------------------------------------

create function gatehouse.without_person(identification jsonb, person text) returns jsonb
language sql immutable strict as $$
    select case when jsonb_typeof(identification -> 'faces') = 'array' then
        jsonb_set(identification, '{faces}', coalesce((
            select jsonb_agg(case when face #>> '{person,id}' = person
                then jsonb_set(face, '{person}', 'null') else face end order by place)
            from jsonb_array_elements(identification -> 'faces') with ordinality as f(face, place)), '[]'))
    else identification end
$$;
comment on function gatehouse.without_person(jsonb, text) is 'The identification with one person replaced by null.';

create table gatehouse.reference_key (secret bytea not null);
create unique index reference_key_one_row on gatehouse.reference_key ((true));
insert into gatehouse.reference_key
select sha256(string_agg(uuid_send(gen_random_uuid()), ''::bytea)) from generate_series(1, 4);
comment on table gatehouse.reference_key is
    'The secret of the references to people in the audit log: one row. No role may read it.';
comment on column gatehouse.reference_key.secret is '32 random bytes.';

create function gatehouse.person_reference(person text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(k.secret || sha256(k.secret || convert_to(person, 'UTF8'))), 'hex') from gatehouse.reference_key k
$$;
comment on function gatehouse.person_reference(text) is
    'The reference to a person in the audit log: a keyed hash of the id given by the operator.';

-- Counts of one order on the events of one appliance.
create table gatehouse.erasure_counts (
    order_id        uuid   not null,
    device_id       text   not null references gatehouse.devices,
    events_scrubbed bigint not null default 0,
    files_erased    bigint not null default 0,
    primary key (order_id, device_id)
);
comment on table gatehouse.erasure_counts is 'Effect of each erasure order on the rows of each appliance.';
comment on column gatehouse.erasure_counts.order_id is 'As erasures.order_id.';
comment on column gatehouse.erasure_counts.device_id is 'The appliance.';
comment on column gatehouse.erasure_counts.events_scrubbed is 'Number of its events from which the person was removed.';
comment on column gatehouse.erasure_counts.files_erased is 'Number of its files that were marked for removal.';

create table gatehouse.erasure_files (
    order_id uuid not null,
    file_id  uuid not null references gatehouse.files on delete cascade,
    primary key (order_id, file_id)
);
comment on table gatehouse.erasure_files is 'The files of the visits of an erased person. They are removed.';
comment on column gatehouse.erasure_files.order_id is 'As erasures.order_id.';
comment on column gatehouse.erasure_files.file_id is 'As files.id.';

-- Files are found through their events, which name the person until they are scrubbed. Their appliance may have marked them
-- already.
create function gatehouse.scrub_visits(for_order uuid, person text, of_device text, upto_seq bigint, upto timestamptz)
returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
    with visits as (
        select e.device_id, e.seq, e.received_at, e.camera || '/' || e.event_id as entity from gatehouse.events e
         where jsonb_path_query_array(e.identification, '$.faces[*].person.id') ? person
           and (of_device is null or e.device_id = of_device) and (upto_seq is null or e.seq <= upto_seq)
           and (upto is null or e.received_at <= upto)),
    files as (
        update gatehouse.files f set status = 'erased' from visits v
         where f.uploaded_by = v.device_id and f.associated_entity_type = 'event' and f.associated_entity_id = v.entity
           and f.status not in ('deleted', 'erased')),
    listed as (
        insert into gatehouse.erasure_files (order_id, file_id)
        select for_order, f.id from gatehouse.files f join visits v on f.uploaded_by = v.device_id
           and f.associated_entity_type = 'event' and f.associated_entity_id = v.entity
         where f.status <> 'deleted'
        on conflict do nothing
        returning file_id),
    events as (
        update gatehouse.events e
           set identification = gatehouse.without_person(e.identification, person), attributes = '{}'
          from visits v where e.device_id = v.device_id and e.seq = v.seq and e.received_at = v.received_at
        returning e.device_id),
    counts as (
        select device_id, count(*) filter (where is_event) as events, count(*) filter (where not is_event) as files
          from (select device_id, true as is_event from events
                union all select f.uploaded_by, false from listed l join gatehouse.files f on f.id = l.file_id) c
         group by device_id)
    insert into gatehouse.erasure_counts as c (order_id, device_id, events_scrubbed, files_erased)
    select for_order, device_id, events, files from counts
    on conflict (order_id, device_id) do update
       set events_scrubbed = c.events_scrubbed + excluded.events_scrubbed,
           files_erased = c.files_erased + excluded.files_erased
$$;
comment on function gatehouse.scrub_visits(uuid, text, text, bigint, timestamptz) is
    'Removes a person and the attributes from visits, marks the files of these visits for removal, and counts both.';

-- Idempotent by (device_id, lsn): a repeated erasure has no effect. Events after `upto_seq` are not changed: they belong to
-- a person who was enrolled again under the same id. Runs with the rights of the owner, because no role may change an event.
create function gatehouse.erase_person(device text, erasure uuid, at_lsn bigint, upto_seq bigint, person text,
    at timestamptz)
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    counted gatehouse.erasure_counts;
begin
    if not gatehouse.may_act_for(device) then
        raise exception using errcode = 'insufficient_privilege',
            message = format('permission denied: %s is not the role of this appliance', session_user);
    end if;
    if exists (select from gatehouse.erasures e where e.device_id = device and e.lsn = at_lsn) then
        return 0;
    end if;
    perform gatehouse.scrub_visits(erasure, person, device, upto_seq, null);
    select * into counted from gatehouse.erasure_counts c where c.order_id = erasure and c.device_id = device;
    insert into gatehouse.erasures (device_id, lsn, order_id, erased_at, events_scrubbed, files_erased)
    values (device, at_lsn, erasure, at, coalesce(counted.events_scrubbed, 0), coalesce(counted.files_erased, 0));
    perform gatehouse.audit('person.erase', erasure::text, jsonb_build_object('device', device,
        'events_scrubbed', coalesce(counted.events_scrubbed, 0), 'files_erased', coalesce(counted.files_erased, 0)));
    return coalesce(counted.events_scrubbed, 0);
end
$$;
comment on function gatehouse.erase_person(text, uuid, bigint, bigint, text, timestamptz) is
    'Records an erasure and removes the person from the events of the device up to an event number.';

create function gatehouse.erase_files(device text, entities text[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    marked bigint;
begin
    if not gatehouse.may_act_for(device) then
        raise exception using errcode = 'insufficient_privilege',
            message = format('permission denied: %s is not the role of this appliance', session_user);
    end if;
    update gatehouse.files f set status = 'erased'
     where f.uploaded_by = device and f.associated_entity_type = 'event' and f.associated_entity_id = any (entities)
       and f.status not in ('deleted', 'erased');
    get diagnostics marked = row_count;
    return marked;
end
$$;
comment on function gatehouse.erase_files(text, text[]) is
    'Marks the files of these events of a device for removal: an erased person was recognized in them.';

-- Views --------------------------------------------------------------------------------------------------------------

-- All views run with the rights of the caller (security_invoker), so that row-level security applies to them.

create view gatehouse.completeness with (security_invoker = true) as
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
comment on view gatehouse.completeness is
    'Proof per appliance that nothing is missing: `whole` is true if max(seq) = count(*) = the cursor. Reads all events.';
comment on column gatehouse.completeness.device_id is 'The appliance.';
comment on column gatehouse.completeness.cursor_seq is 'Number of the last delivered event, by the cursor.';
comment on column gatehouse.completeness.events is 'Number of events: rows, and events that were archived and dropped.';
comment on column gatehouse.completeness.last_seq is 'Highest number among these events.';
comment on column gatehouse.completeness.missing is 'Number of missing events. It must be 0.';
comment on column gatehouse.completeness.lost is 'Number of events of kind `lost`, destroyed by disk damage on the appliance.';
comment on column gatehouse.completeness.whole is 'Whether the numbers have neither a gap nor a duplicate.';
comment on column gatehouse.completeness.dropped is 'Number of events that only the archive contains.';

create view gatehouse.fleet with (security_invoker = true) as
select d.device_id, d.site, d.version,
       d.role_name is not null                                                as enrolled,
       case when d.state_id <> '' then d.first_seen end                       as first_seen,
       case when d.state_id <> '' then greatest(d.last_seen, c.moved_at) end  as last_seen,
       c.seq                                                                  as delivered,
       case when c.lsn > 0 then c.moved_at end                                as delivered_at,
       d.pending_events, d.pending_files, d.oldest_pending, d.reported_at,
       (select count(*) from gatehouse.events e
         where e.device_id = d.device_id and e.kind = 'lost' and e.identification = '{}') as lost
  from gatehouse.devices d join gatehouse.device_cursors c using (device_id);
comment on view gatehouse.fleet is 'State of the appliances, one row each.';
comment on column gatehouse.fleet.device_id is 'The appliance.';
comment on column gatehouse.fleet.site is 'Setting device.site of the appliance.';
comment on column gatehouse.fleet.version is 'Version of Gatehouse at its last connection.';
comment on column gatehouse.fleet.enrolled is 'Whether it has a login role of its own.';
comment on column gatehouse.fleet.first_seen is 'First contact. Null if it was enrolled and never connected.';
comment on column gatehouse.fleet.last_seen is 'Last contact: a connection, a delivery, or a report every five minutes.';
comment on column gatehouse.fleet.delivered is 'Events delivered since its state directory was created.';
comment on column gatehouse.fleet.delivered_at is 'Time of the last delivery.';
comment on column gatehouse.fleet.pending_events is 'Events pending at reported_at.';
comment on column gatehouse.fleet.pending_files is 'Media files, without thumbnails, pending at reported_at.';
comment on column gatehouse.fleet.oldest_pending is 'Arrival of the oldest pending event.';
comment on column gatehouse.fleet.reported_at is 'Time of its last report of pending items.';
comment on column gatehouse.fleet.lost is 'Events destroyed by disk damage before delivery.';

create view gatehouse.visits with (security_invoker = true) as
select e.device_id, e.seq, e.camera, e.event_id, e.kind, e.received_at, e.occurred_at,
       (e.received_at at time zone 'UTC')::date as day,
       jsonb_array_length(f.faces) as faces,
       jsonb_array_length(jsonb_path_query_array(f.faces, '$[*] ? (@.outcome == "match")')) as matches,
       jsonb_array_length(jsonb_path_query_array(f.faces, '$[*] ? (@.outcome == "stranger")')) as strangers,
       jsonb_path_query_array(f.faces, '$[*].person.id') as people,
       array(select p.s3_key from gatehouse.files p
              where p.uploaded_by = e.device_id and p.associated_entity_type = 'event'
                and p.associated_entity_id = e.camera || '/' || e.event_id and p.status in ('active', 'archived')
              order by p.s3_key) as files
  from gatehouse.events e,
       lateral (select case when jsonb_typeof(e.identification -> 'faces') = 'array'
                            then e.identification -> 'faces' else '[]' end) f(faces)
 where not (e.kind = 'lost' and e.identification = '{}');
comment on view gatehouse.visits is
    'One row per event that was not lost. A condition on received_at or day uses an index; without one all events are read.';
comment on column gatehouse.visits.device_id is 'The appliance.';
comment on column gatehouse.visits.seq is 'Number of the event at the appliance.';
comment on column gatehouse.visits.camera is 'The camera.';
comment on column gatehouse.visits.event_id is 'Id of the event given by the camera.';
comment on column gatehouse.visits.kind is 'face, doorbell, motion or another kind given by the camera.';
comment on column gatehouse.visits.received_at is 'Time of the first receipt, by the appliance.';
comment on column gatehouse.visits.occurred_at is 'Time given by the camera. Null if it was not plausible.';
comment on column gatehouse.visits.day is 'Day of received_at, UTC.';
comment on column gatehouse.visits.faces is 'Number of faces.';
comment on column gatehouse.visits.matches is 'Number of faces of enrolled people.';
comment on column gatehouse.visits.strangers is 'Number of faces of people who are not enrolled.';
comment on column gatehouse.visits.people is 'Ids of the enrolled people, without erased people.';
comment on column gatehouse.visits.files is 'Keys of its pictures, thumbnails and clips in the bucket.';

create view gatehouse.visits_per_day with (security_invoker = true) as
select day, device_id, camera, count(*) as visits, count(*) filter (where matches > 0) as recognised,
       count(*) filter (where strangers > 0) as unknown, min(received_at) as first_at, max(received_at) as last_at
  from gatehouse.visits group by day, device_id, camera;
comment on view gatehouse.visits_per_day is 'Visits per day (UTC) and camera.';
comment on column gatehouse.visits_per_day.day is 'The day, UTC.';
comment on column gatehouse.visits_per_day.device_id is 'The appliance.';
comment on column gatehouse.visits_per_day.camera is 'The camera.';
comment on column gatehouse.visits_per_day.visits is 'Number of visits.';
comment on column gatehouse.visits_per_day.recognised is 'Number of visits with at least one enrolled person.';
comment on column gatehouse.visits_per_day.unknown is 'Number of visits with at least one person who is not enrolled.';
comment on column gatehouse.visits_per_day.first_at is 'Time of the first visit.';
comment on column gatehouse.visits_per_day.last_at is 'Time of the last visit.';

create view gatehouse.unknown_visitors with (security_invoker = true) as
select day, device_id, camera, event_id, seq, received_at, strangers, files from gatehouse.visits where strangers > 0;
comment on view gatehouse.unknown_visitors is 'Visits with at least one face of a person who is not enrolled.';
comment on column gatehouse.unknown_visitors.day is 'The day, UTC.';
comment on column gatehouse.unknown_visitors.device_id is 'The appliance.';
comment on column gatehouse.unknown_visitors.camera is 'The camera.';
comment on column gatehouse.unknown_visitors.event_id is 'Id of the event given by the camera.';
comment on column gatehouse.unknown_visitors.seq is 'Number of the event at the appliance.';
comment on column gatehouse.unknown_visitors.received_at is 'Time of the first receipt, by the appliance.';
comment on column gatehouse.unknown_visitors.strangers is 'Number of faces of people who are not enrolled.';
comment on column gatehouse.unknown_visitors.files is 'Keys of its pictures, thumbnails and clips in the bucket.';

-- Uses index events_people. Of a visit of several people it returns only the face of this person.
create function gatehouse.visits_of(person text)
returns table (device_id text, seq bigint, camera text, event_id text, received_at timestamptz, faces jsonb, files text[])
language sql stable as $$
    select e.device_id, e.seq, e.camera, e.event_id, e.received_at,
           jsonb_path_query_array(e.identification, '$.faces[*] ? (@.person.id == $id)', jsonb_build_object('id', person)),
           array(select p.s3_key from gatehouse.files p
                  where p.uploaded_by = e.device_id and p.associated_entity_type = 'event'
                    and p.associated_entity_id = e.camera || '/' || e.event_id order by p.s3_key)
      from gatehouse.events e
     where jsonb_path_query_array(e.identification, '$.faces[*].person.id') ? person
     order by e.received_at, e.device_id, e.seq
$$;
comment on function gatehouse.visits_of(text) is
    'All visits of one person, with the faces of this person only: for an access request.';

-- Privileges ---------------------------------------------------------------------------------------------------------

revoke all on all functions in schema gatehouse from public;
grant usage on schema gatehouse to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.environment, gatehouse.schema_migrations, gatehouse.devices, gatehouse.device_cursors,
    gatehouse.events, gatehouse.files, gatehouse.archive, gatehouse.completeness
    to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.fleet, gatehouse.visits, gatehouse.visits_per_day, gatehouse.unknown_visitors
    to gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.erasures to gatehouse_device, gatehouse_privacy;
grant select on gatehouse.files_history to gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.audit_log to gatehouse_privacy;
grant select on gatehouse.requests to gatehouse_privacy;
grant execute on function gatehouse.open_request(text, text, date), gatehouse.close_request(bigint, text)
    to gatehouse_privacy;
grant execute on function gatehouse.session_device(), gatehouse.audit(text, text, jsonb)
    to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
grant execute on function gatehouse.erase_person(text, uuid, bigint, bigint, text, timestamptz),
    gatehouse.erase_files(text, text[])
    to gatehouse_device, gatehouse_privacy;
grant execute on function gatehouse.person_reference(text) to gatehouse_privacy;
grant select on gatehouse.erasure_counts to gatehouse_privacy;
grant execute on function gatehouse.visits_of(text) to gatehouse_analyst, gatehouse_privacy;

-- The role of a device may do what delivery needs, and nothing else. It adds events and cannot change any.
grant execute on function gatehouse.ensure_month(timestamptz) to gatehouse_device;
grant insert (device_id, site, state_id, version),
    update (site, state_id, last_seen, version, pending_events, pending_files, oldest_pending, reported_at)
    on gatehouse.devices to gatehouse_device;
grant insert (device_id), update (lsn, seq, moved_at) on gatehouse.device_cursors to gatehouse_device;
grant insert on gatehouse.events to gatehouse_device;
grant insert (id, s3_bucket, s3_key, file_size, mime_type, checksum, fault, uploaded_by, associated_entity_type,
    associated_entity_id), update (id, file_size, mime_type, checksum, fault, uploaded_at, status)
    on gatehouse.files to gatehouse_device;

-- Row-level security -------------------------------------------------------------------------------------------------

-- As a subquery, session_device() runs once per statement and not once per row.
alter table gatehouse.devices enable row level security;
create policy own on gatehouse.devices to gatehouse_device
    using (device_id = (select gatehouse.session_device())) with check (device_id = (select gatehouse.session_device()));
create policy readers on gatehouse.devices for select to gatehouse_analyst, gatehouse_privacy using (true);

alter table gatehouse.device_cursors enable row level security;
create policy own on gatehouse.device_cursors to gatehouse_device
    using (device_id = (select gatehouse.session_device())) with check (device_id = (select gatehouse.session_device()));
create policy readers on gatehouse.device_cursors for select to gatehouse_analyst, gatehouse_privacy using (true);

alter table gatehouse.events enable row level security;
create policy own on gatehouse.events to gatehouse_device
    using (device_id = (select gatehouse.session_device())) with check (device_id = (select gatehouse.session_device()));
create policy readers on gatehouse.events for select to gatehouse_analyst, gatehouse_privacy using (true);

-- The key must belong to the device too: a row with the key of another device would block that device's file.
alter table gatehouse.files enable row level security;
create policy own on gatehouse.files to gatehouse_device
    using (uploaded_by = (select gatehouse.session_device()))
    with check (uploaded_by = (select gatehouse.session_device())
        and starts_with(s3_key, 'devices/' || (select gatehouse.session_device()) || '/'));
create policy readers on gatehouse.files for select to gatehouse_analyst, gatehouse_privacy using (true);

alter table gatehouse.erasures enable row level security;
create policy own on gatehouse.erasures for select to gatehouse_device
    using (device_id = (select gatehouse.session_device()));
create policy readers on gatehouse.erasures for select to gatehouse_privacy using (true);

alter table gatehouse.archive enable row level security;
create policy own on gatehouse.archive for select to gatehouse_device
    using (device_id = (select gatehouse.session_device()));
create policy readers on gatehouse.archive for select to gatehouse_analyst, gatehouse_privacy using (true);

-- Change data capture ------------------------------------------------------------------------------------------------

create publication gatehouse for table gatehouse.devices, gatehouse.device_cursors, gatehouse.events, gatehouse.files,
    gatehouse.files_history, gatehouse.erasures, gatehouse.audit_log with (publish_via_partition_root = true);
comment on publication gatehouse is
    'For logical decoding (wal_level = logical). Rows of all partitions of events appear under the name of that table.';
