-- 0002 roles: who may do what. Runs in one transaction. Needs Postgres 15 (views with the rights of who reads them), and
-- the right to create roles where the three below are not there yet.
--
-- Group roles belong to the whole server, login roles of devices to one database: `gatehouse central enroll-device` names
-- them after it, and a row of gatehouse.devices says whose they are. So the same group may be used by several databases,
-- and a device of one of them sees no row of another. Who owns the tables is not held by any of this.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['gatehouse_device', 'gatehouse_analyst', 'gatehouse_privacy'] loop
        if to_regrole(wanted) is null then
            begin
                execute format('create role %I nologin', wanted);
            exception
                -- Another database of this server was prepared at the same moment.
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

-- Who is who ---------------------------------------------------------------------------------------------------------

alter table gatehouse.devices add column role_name text unique;
comment on column gatehouse.devices.role_name is
    'Role with which the appliance signs in, made by `gatehouse central enroll-device`; null for one that signs in with '
    'a role of somebody else, or was retired.';
comment on column gatehouse.devices.state_id is
    'Made with the appliance''s state directory: a second appliance under the same device_id is refused by it. Empty '
    'from enrolment to the first sign-in.';

create function gatehouse.my_device() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select device_id from gatehouse.devices where role_name = session_user
$$;
comment on function gatehouse.my_device() is 'The appliance whose role signed in; null for everybody else.';

create function gatehouse.may_act_for(device text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(gatehouse.my_device() = device, false)
        or pg_has_role(session_user, 'gatehouse_privacy', 'member') or pg_has_role(session_user, current_user, 'member')
$$;
comment on function gatehouse.may_act_for(text) is
    'Whether who signed in may change rows of an appliance through a function: the appliance itself, the privacy role, '
    'the owner.';

-- The audit log ------------------------------------------------------------------------------------------------------

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
    'Who did what: grants, access to files and to people''s data, erasures. Written by gatehouse.audit() alone; nobody but '
    'the owner of the table can change a line.';
comment on column gatehouse.audit_log.id is 'Number of the line; a number may be missing where a transaction failed.';
comment on column gatehouse.audit_log.at is 'When, by this server''s clock.';
comment on column gatehouse.audit_log.actor is 'The role that signed in.';
comment on column gatehouse.audit_log.device_id is 'The appliance, where the role is that of one.';
comment on column gatehouse.audit_log.action is 'What was done, e.g. device.enroll, device.retire, person.erase, person.report.';
comment on column gatehouse.audit_log.subject is 'To what it was done: id of a device, a person or a file.';
comment on column gatehouse.audit_log.details is 'More about it; never a name, a template or a secret.';

create function gatehouse.audit(action text, subject text, details jsonb default '{}') returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into gatehouse.audit_log (actor, device_id, action, subject, details)
    values (session_user, gatehouse.my_device(), action, subject, details) returning id
$$;
comment on function gatehouse.audit(text, text, jsonb) is
    'Writes a line of the audit log; who and when are not for the caller to say.';

-- History ------------------------------------------------------------------------------------------------------------

-- For any table T with a primary key: create T_history with the columns of T by the same names and types (in any order,
-- without constraints), and
--     version int not null, valid_from timestamptz, valid_to timestamptz not null, author text not null,
--     operation text not null, primary key (<primary key of T>, version)
-- then
--     create trigger keep_history after update or delete on gatehouse.T
--         for each row execute function gatehouse.keep_history('created_at');
-- The argument names the column of T that says since when a row's first version holds; without it that is null. What is in
-- T is the version after the last one in T_history. An update that changes nothing is no version. Who is the author is told
-- by `set local gatehouse.author`, else it is the role that signed in, and for the role of a device it always is.
create function gatehouse.keep_history() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    history text := format('%I.%I', tg_table_schema, tg_table_name || '_history');
    same    text;
    columns text;
    olds    text;
    author  text := session_user;
begin
    if tg_op = 'UPDATE' and old *= new then
        return null;
    end if;
    if gatehouse.my_device() is null then
        author := coalesce(nullif(current_setting('gatehouse.author', true), ''), author);
    end if;
    select string_agg(format('h.%1$I = ($1).%1$I', a.attname), ' and ') into same
      from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = tg_relid and i.indisprimary;
    select string_agg(quote_ident(attname), ', ' order by attnum),
           string_agg(format('($1).%I', attname), ', ' order by attnum) into columns, olds
      from pg_attribute where attrelid = tg_relid and attnum > 0 and not attisdropped;
    execute format(
        'insert into %1$s (%2$s, version, valid_from, valid_to, author, operation) '
        'select %3$s, coalesce(max(h.version), 0) + 1, coalesce(max(h.valid_to), %4$s), clock_timestamp(), $2, $3 '
        'from %1$s h where %5$s',
        history, columns, olds,
        case when tg_nargs > 0 then format('($1).%I', tg_argv[0]) else 'null::timestamptz' end, same)
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
comment on table gatehouse.files_history is 'What rows of files were before: one row per version that is no more.';
do $$
declare
    told record;
begin
    for told in
        select a.attname, col_description(a.attrelid, a.attnum) as words from pg_attribute a
         where a.attrelid = 'gatehouse.files'::regclass and a.attnum > 0 and not a.attisdropped
    loop
        execute format('comment on column gatehouse.files_history.%I is %L', told.attname, 'As in files. ' || told.words);
    end loop;
end
$$;
comment on column gatehouse.files_history.version is 'Number of the version of this row: 1, 2, 3, ...';
comment on column gatehouse.files_history.valid_from is 'Since when it held, by this server''s clock.';
comment on column gatehouse.files_history.valid_to is 'Until when it held, by this server''s clock.';
comment on column gatehouse.files_history.author is 'Who ended it: gatehouse.author of the session, else the role that signed in.';
comment on column gatehouse.files_history.operation is 'What ended it: update or delete.';

-- Functions that devices call ----------------------------------------------------------------------------------------

-- As of 0001, with the rights of the owner, since no role may change an event; so it looks who asks.
create or replace function gatehouse.erase_person(device text, at_lsn bigint, upto_seq bigint, person text, at timestamptz)
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    scrubbed bigint;
begin
    if not gatehouse.may_act_for(device) then
        raise exception using errcode = 'insufficient_privilege',
            message = format('permission denied: %s is not the role of this appliance', session_user);
    end if;
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
    perform gatehouse.audit('person.erase', person, jsonb_build_object('device', device, 'events_scrubbed', scrubbed));
    return scrubbed;
end
$$;

-- Views with the rights of who reads them, so that row-level security holds in them too.
alter view gatehouse.completeness set (security_invoker = true);

-- Rights -------------------------------------------------------------------------------------------------------------

revoke all on all functions in schema gatehouse from public;
grant usage on schema gatehouse to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.environment, gatehouse.schema_migrations, gatehouse.devices, gatehouse.device_cursors,
    gatehouse.events, gatehouse.files, gatehouse.completeness
    to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.erasures to gatehouse_device, gatehouse_privacy;
grant select on gatehouse.files_history to gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.audit_log to gatehouse_privacy;
grant execute on function gatehouse.my_device(), gatehouse.audit(text, text, jsonb)
    to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
grant execute on function gatehouse.erase_person(text, bigint, bigint, text, timestamptz)
    to gatehouse_device, gatehouse_privacy;

-- A device's role: what its writer does, and no more. It adds events and can change none.
grant execute on function gatehouse.ensure_month(timestamptz) to gatehouse_device;
grant insert (device_id, site, state_id, version), update (site, state_id, last_seen, version)
    on gatehouse.devices to gatehouse_device;
grant insert (device_id), update (lsn, seq, moved_at) on gatehouse.device_cursors to gatehouse_device;
grant insert on gatehouse.events to gatehouse_device;
grant insert (id, s3_bucket, s3_key, file_size, mime_type, checksum, uploaded_by, associated_entity_type,
    associated_entity_id), update (id, file_size, mime_type, checksum, uploaded_at, status)
    on gatehouse.files to gatehouse_device;

-- Rows ---------------------------------------------------------------------------------------------------------------

-- In brackets with select, my_device() is asked once per statement and not once per row.
alter table gatehouse.devices enable row level security;
create policy own on gatehouse.devices to gatehouse_device
    using (device_id = (select gatehouse.my_device())) with check (device_id = (select gatehouse.my_device()));
create policy readers on gatehouse.devices for select to gatehouse_analyst, gatehouse_privacy using (true);

alter table gatehouse.device_cursors enable row level security;
create policy own on gatehouse.device_cursors to gatehouse_device
    using (device_id = (select gatehouse.my_device())) with check (device_id = (select gatehouse.my_device()));
create policy readers on gatehouse.device_cursors for select to gatehouse_analyst, gatehouse_privacy using (true);

alter table gatehouse.events enable row level security;
create policy own on gatehouse.events to gatehouse_device
    using (device_id = (select gatehouse.my_device())) with check (device_id = (select gatehouse.my_device()));
create policy readers on gatehouse.events for select to gatehouse_analyst, gatehouse_privacy using (true);

-- The key must be its own as well: a row that took another's key would keep that one's file out.
alter table gatehouse.files enable row level security;
create policy own on gatehouse.files to gatehouse_device
    using (uploaded_by = (select gatehouse.my_device()))
    with check (uploaded_by = (select gatehouse.my_device())
        and starts_with(s3_key, 'devices/' || (select gatehouse.my_device()) || '/'));
create policy readers on gatehouse.files for select to gatehouse_analyst, gatehouse_privacy using (true);

alter table gatehouse.erasures enable row level security;
create policy own on gatehouse.erasures for select to gatehouse_device
    using (device_id = (select gatehouse.my_device()));
create policy readers on gatehouse.erasures for select to gatehouse_privacy using (true);

-- Change data capture ------------------------------------------------------------------------------------------------

create publication gatehouse for table gatehouse.devices, gatehouse.device_cursors, gatehouse.events, gatehouse.files,
    gatehouse.files_history, gatehouse.erasures, gatehouse.audit_log with (publish_via_partition_root = true);
comment on publication gatehouse is
    'For tools that follow changes by logical decoding (wal_level = logical); events under the name of the whole table.';
