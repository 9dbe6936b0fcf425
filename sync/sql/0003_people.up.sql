-- 0003 people: who is enrolled, shared by the appliances of the deployment. Runs in one transaction. Needs pgvector.
--
-- Names and ids are in clear for the central side, and sealed with the deployment's key for appliances, whose roles see
-- no table of these, only the functions below: with the role of a stolen appliance nobody can list who is enrolled.
-- Templates are in the space of that key. A person is merged field by field as appliances do it: the later name holds, samples
-- are added, an erasure holds against everything enrolled before it. Every function may be called again at any time.

do $$
begin
    create extension if not exists vector with schema public;
exception when undefined_file or feature_not_supported or insufficient_privilege then
    raise exception using errcode = 'feature_not_supported',
        message = 'this database has no pgvector; install it (Debian: postgresql-NN-pgvector) and let a superuser run '
                  '"create extension vector" in it, then run "gatehouse central init" again';
end
$$;
-- Wherever it lies: for this transaction alone.
select set_config('search_path', (select quote_ident(n.nspname) from pg_extension e
    join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'), true);

create table gatehouse.persons (
    id                 uuid        primary key,
    external_id        text        not null unique check (external_id <> ''),
    name               text        not null check (name <> ''),
    named_at           timestamptz not null,
    named_by           text        not null,
    named_in           bigint      not null,
    born               timestamptz not null,
    encrypted_metadata bytea       not null,
    change_no          bigint      not null unique,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now()
);
comment on table gatehouse.persons is 'The enrolled people. Whoever was erased is in no row, here or in the history.';
comment on column gatehouse.persons.id is 'Keyed hash of external_id under the deployment''s key: the same on every appliance.';
comment on column gatehouse.persons.external_id is 'The operator''s id of the person.';
comment on column gatehouse.persons.name is 'The display name.';
comment on column gatehouse.persons.named_at is 'Stamp of the name (hybrid logical clock of whoever gave it): the later one holds.';
comment on column gatehouse.persons.named_by is 'Who gave the name: an appliance, or central.';
comment on column gatehouse.persons.named_in is 'Change in which the name came here.';
comment on column gatehouse.persons.born is 'Stamp of the first enrolment: an erasure that is not before it is of this person.';
comment on column gatehouse.persons.encrypted_metadata is 'Id and name, sealed with the deployment''s key.';
comment on column gatehouse.persons.change_no is 'Last change of the person or their samples, in the order in which changes came here.';
comment on column gatehouse.persons.created_at is 'When the row was made, by this server''s clock.';
comment on column gatehouse.persons.updated_at is 'When it changed last, by this server''s clock.';

create table gatehouse.persons_history (
    like gatehouse.persons,
    version    int         not null,
    valid_from timestamptz,
    valid_to   timestamptz not null,
    author     text        not null,
    operation  text        not null check (operation in ('update', 'delete')),
    primary key (id, version)
);
create trigger keep_history after update or delete on gatehouse.persons
    for each row execute function gatehouse.keep_history('created_at');
comment on table gatehouse.persons_history is
    'What rows of persons were before, one per version that is no more. An erasure takes the history with it.';
do $$
declare
    told record;
begin
    for told in
        select a.attname, col_description(a.attrelid, a.attnum) as words from pg_attribute a
         where a.attrelid = 'gatehouse.persons'::regclass and a.attnum > 0 and not a.attisdropped
    loop
        execute format('comment on column gatehouse.persons_history.%I is %L', told.attname, 'As in persons. ' || told.words);
    end loop;
end
$$;
comment on column gatehouse.persons_history.version is 'Number of the version of this row: 1, 2, 3, ...';
comment on column gatehouse.persons_history.valid_from is 'Since when it held, by this server''s clock.';
comment on column gatehouse.persons_history.valid_to is 'Until when it held, by this server''s clock.';
comment on column gatehouse.persons_history.author is 'Who ended it: gatehouse.author of the session, else the role that signed in.';
comment on column gatehouse.persons_history.operation is 'What ended it: update or delete.';

create table gatehouse.face_encodings (
    id                 uuid        primary key default gen_random_uuid(),
    person_id          uuid        not null references gatehouse.persons on delete cascade,
    model              text        not null check (model <> ''),
    template           vector      not null,
    encrypted_metadata bytea       not null,
    added_by           text        not null,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now()
);
create index face_encodings_person on gatehouse.face_encodings (person_id, model);
comment on table gatehouse.face_encodings is
    'Templates of people, in the space of the deployment''s key: comparable with each other, with no face without the key.';
comment on column gatehouse.face_encodings.id is 'Number of the template.';
comment on column gatehouse.face_encodings.person_id is 'The person.';
comment on column gatehouse.face_encodings.model is 'Model that made the encoding; templates of two models cannot be compared.';
comment on column gatehouse.face_encodings.template is
    'The template. gatehouse.ensure_template_index makes an HNSW index for the templates of one model.';
comment on column gatehouse.face_encodings.encrypted_metadata is 'As persons.encrypted_metadata: whose it is, for whoever has the key.';
comment on column gatehouse.face_encodings.added_by is 'Who added it: an appliance, or central.';
comment on column gatehouse.face_encodings.created_at is 'When it came here, by this server''s clock.';
comment on column gatehouse.face_encodings.updated_at is 'When the row changed last, by this server''s clock.';

create table gatehouse.tombstones (
    id         uuid        primary key,
    erased_at  timestamptz not null,
    erased_by  text        not null,
    change_no  bigint      not null unique,
    created_at timestamptz not null default now()
);
comment on table gatehouse.tombstones is
    'Erased people by the keyed hash of their id, until every appliance has heard of it. Without the key it says nobody''s name.';
comment on column gatehouse.tombstones.id is 'As persons.id.';
comment on column gatehouse.tombstones.erased_at is 'Stamp of the erasure: whoever was born at or before it is erased.';
comment on column gatehouse.tombstones.erased_by is 'Who erased: an appliance, or central.';
comment on column gatehouse.tombstones.change_no is 'As persons.change_no.';
comment on column gatehouse.tombstones.created_at is 'When it came here, by this server''s clock.';

create table gatehouse.conflicts (
    id        bigint      generated always as identity primary key,
    at        timestamptz not null default now(),
    person_id uuid        not null,
    field     text        not null check (field in ('name', 'erased')),
    kept_by   text        not null,
    kept_at   timestamptz not null,
    lost_by   text        not null,
    lost_at   timestamptz not null
);
create index conflicts_of_person on gatehouse.conflicts (person_id, at);
comment on table gatehouse.conflicts is 'Changes of one person by two who did not know of each other: which one holds.';
comment on column gatehouse.conflicts.id is 'Number of the conflict.';
comment on column gatehouse.conflicts.at is 'When it was seen, by this server''s clock.';
comment on column gatehouse.conflicts.person_id is 'As persons.id.';
comment on column gatehouse.conflicts.field is 'name: two names; erased: erased by one, changed by the other.';
comment on column gatehouse.conflicts.kept_by is 'Whose change holds.';
comment on column gatehouse.conflicts.kept_at is 'Its stamp.';
comment on column gatehouse.conflicts.lost_by is 'Whose change does not.';
comment on column gatehouse.conflicts.lost_at is 'Its stamp.';

create table gatehouse.people_changes (last bigint not null);
create unique index people_changes_one_row on gatehouse.people_changes ((true));
insert into gatehouse.people_changes values (0);
comment on table gatehouse.people_changes is
    'One row. Whoever changes people holds its lock until the end, so that change numbers become visible in their order.';
comment on column gatehouse.people_changes.last is 'Number of the last change.';

create table gatehouse.deployment (fingerprint bytea not null);
create unique index deployment_one_row on gatehouse.deployment ((true));
comment on table gatehouse.deployment is 'One row, or none before people are shared: which deployment key is in use.';
comment on column gatehouse.deployment.fingerprint is 'Hash of the key: says nothing of it, but tells another one from it.';

alter table gatehouse.device_cursors add column people_taken bigint not null default 0 check (people_taken >= 0);
alter table gatehouse.device_cursors add column people_given_at timestamptz;
comment on column gatehouse.device_cursors.people_taken is 'Last change of people that the appliance has taken in.';
comment on column gatehouse.device_cursors.people_given_at is
    'When the appliance gave all its people for the first time; null where it shares none.';

-- What functions share ------------------------------------------------------------------------------------------------

create function gatehouse.next_people_change() returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select pg_notify('gatehouse_people', '');
    update gatehouse.people_changes set last = last + 1 returning last
$$;
comment on function gatehouse.next_people_change() is 'The next change number; appliances that listen are woken at the commit.';

create function gatehouse.refuse_others(device text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not gatehouse.may_act_for(device) then
        raise exception using errcode = 'insufficient_privilege',
            message = format('permission denied: %s is not the role of this appliance', session_user);
    end if;
end
$$;
comment on function gatehouse.refuse_others(text) is 'Fails for who may not act for an appliance.';

-- Also the order of everything that changes people: one at a time.
create function gatehouse.enter_people(device text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    perform from gatehouse.people_changes for update;
end
$$;
comment on function gatehouse.enter_people(text) is 'Refuses who may not act for an appliance, then waits for its turn.';

-- A stamp that is further ahead than this is of a clock that is wrong; what it stamped counts as of now.
create function gatehouse.believed(stamp timestamptz) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case when stamp > now() + interval '5 minutes' then now() else stamp end
$$;
comment on function gatehouse.believed(timestamptz) is 'A stamp, or now where it is of a clock that is wrong.';

-- What appliances give ------------------------------------------------------------------------------------------------

create function gatehouse.merge_people(device text, ids uuid[], external_ids text[], names text[],
    names_at timestamptz[], births timestamptz[], metadata bytea[])
returns table (person uuid, model text, template real[])
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    heard  bigint;
    theirs record;
    ours   gatehouse.persons;
    grave  gatehouse.tombstones;
    is_new boolean;
begin
    perform gatehouse.enter_people(device);
    heard := coalesce((select c.people_taken from gatehouse.device_cursors c where c.device_id = device), 0);
    for theirs in
        select t.id, t.external_id, t.name, gatehouse.believed(t.named_at) as named_at, gatehouse.believed(t.born) as born,
               t.metadata
          from unnest(ids, external_ids, names, names_at, births, metadata)
               as t(id, external_id, name, named_at, born, metadata)
    loop
        select * into grave from gatehouse.tombstones t where t.id = theirs.id;
        if found and grave.erased_at >= theirs.born then
            -- The appliance has not heard of it, or has forgotten: it hears of it (again).
            insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
            values (theirs.id, 'erased', grave.erased_by, grave.erased_at, device, theirs.named_at);
            update gatehouse.tombstones t set change_no = gatehouse.next_people_change() where t.id = theirs.id;
            continue;
        end if;
        select * into ours from gatehouse.persons p where p.id = theirs.id;
        is_new := not found;
        if is_new then
            insert into gatehouse.persons (id, external_id, name, named_at, named_by, named_in, born, encrypted_metadata,
                change_no)
            select theirs.id, theirs.external_id, theirs.name, theirs.named_at, device, n, theirs.born, theirs.metadata, n
              from gatehouse.next_people_change() n;
        elsif (theirs.named_at, theirs.name collate "C") > (ours.named_at, ours.name collate "C") then
            if ours.name <> theirs.name and ours.named_in > heard and ours.named_by <> device then
                insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
                values (theirs.id, 'name', device, theirs.named_at, ours.named_by, ours.named_at);
            end if;
            update gatehouse.persons p
               set name = theirs.name, named_at = theirs.named_at, named_by = device, named_in = n,
                   born = least(p.born, theirs.born), encrypted_metadata = theirs.metadata, change_no = n,
                   updated_at = now()
              from gatehouse.next_people_change() n where p.id = theirs.id;
            update gatehouse.face_encodings e set encrypted_metadata = theirs.metadata, updated_at = now()
             where e.person_id = theirs.id;
        else
            -- An earlier name that was here is an old copy; one that was not is a change that comes too late.
            if ours.name <> theirs.name and not exists (
                select from gatehouse.persons_history h where h.id = theirs.id and h.named_at = theirs.named_at)
            then
                insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
                values (theirs.id, 'name', ours.named_by, ours.named_at, device, theirs.named_at);
            end if;
            update gatehouse.persons p set born = theirs.born, change_no = n, updated_at = now()
              from gatehouse.next_people_change() n where p.id = theirs.id and theirs.born < p.born;
        end if;
        return query select e.person_id, e.model, e.template::real[]
                       from gatehouse.face_encodings e where e.person_id = theirs.id;
    end loop;
end
$$;
comment on function gatehouse.merge_people(text, uuid[], text[], text[], timestamptz[], timestamptz[], bytea[]) is
    'Merges what an appliance knows of people (id, external id, name, its stamp, stamp of birth, sealed metadata, one '
    'element each) and returns the templates that are here of those who are not erased.';

-- One that another appliance gave between the two calls is left out here.
create function gatehouse.add_template(device text, person uuid, of_model text, components real[], within double precision)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.enter_people(device);
    insert into gatehouse.face_encodings (person_id, model, template, encrypted_metadata, added_by)
    select p.id, of_model, components, p.encrypted_metadata, device from gatehouse.persons p
     where p.id = person
       and 32 > (select count(*) from gatehouse.face_encodings e where e.person_id = p.id and e.model = of_model)
       and not exists (select from gatehouse.face_encodings e
                        where e.person_id = p.id and e.model = of_model and e.template <-> components::vector <= within);
    if not found then
        return false;
    end if;
    update gatehouse.persons p set change_no = n, updated_at = now() from gatehouse.next_people_change() n where p.id = person;
    return true;
end
$$;
do $$
begin
    execute format('alter function gatehouse.add_template set search_path = pg_catalog, %s, pg_temp',
        (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'));
end
$$;
comment on function gatehouse.add_template(text, uuid, text, real[], double precision) is
    'Adds a template to a person; false where the person is not here, has 32 of that model, or one within the distance.';

create function gatehouse.bury(device text, person uuid, external text, at timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stamp timestamptz := gatehouse.believed(at);
    ours  gatehouse.persons;
    named  text := external;
    own_of text := device;
begin
    perform gatehouse.enter_people(device);
    if exists (select from gatehouse.tombstones t where t.id = person and t.erased_at >= stamp) then
        return false;
    end if;
    insert into gatehouse.tombstones (id, erased_at, erased_by, change_no)
    select person, stamp, device, n from gatehouse.next_people_change() n
    on conflict (id) do update
       set erased_at = excluded.erased_at, erased_by = excluded.erased_by, change_no = excluded.change_no;
    select * into ours from gatehouse.persons p where p.id = person and p.born <= stamp;
    if found then
        if ours.named_at > stamp and ours.named_by <> device then
            insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
            values (person, 'erased', device, stamp, ours.named_by, ours.named_at);
        end if;
        delete from gatehouse.persons p where p.id = person;
        delete from gatehouse.persons_history h where h.id = person;
        -- Visits at every appliance; each names its own once more when it has heard. Of somebody who is not here an
        -- appliance speaks for itself alone: the id that it gives cannot be checked.
        named := ours.external_id;
        own_of := null;
    end if;
    update gatehouse.events e set identification = gatehouse.without_person(e.identification, named)
     where e.received_at <= stamp and (own_of is null or e.device_id = own_of)
       and jsonb_path_query_array(e.identification, '$.faces[*].person.id') ? named;
    perform gatehouse.audit('person.bury', person::text, jsonb_build_object('by', device));
    return true;
end
$$;
comment on function gatehouse.bury(text, uuid, text, timestamptz) is
    'Erases a person everywhere: row, history, templates, names in visits before the stamp; all appliances hear of it.';

-- What appliances take ------------------------------------------------------------------------------------------------

create function gatehouse.people_after(device text, after bigint, most int)
returns table (change_no bigint, id uuid, erased_at timestamptz, born timestamptz, named_at timestamptz, metadata bytea,
    asked_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    return query
        select c.* from (
            -- Whoever was enrolled again: the erasure is of whom an appliance may still have under that id.
            (select p.change_no, p.id, (select t.erased_at from gatehouse.tombstones t where t.id = p.id), p.born, p.named_at,
                    p.encrypted_metadata, now()
               from gatehouse.persons p where p.change_no > after order by p.change_no limit most)
            union all
            (select t.change_no, t.id, t.erased_at, null, null, null, now()
               from gatehouse.tombstones t where t.change_no > after order by t.change_no limit most)) c
        order by 1 limit most;
end
$$;
comment on function gatehouse.people_after(text, bigint, int) is
    'People (with metadata) and erasures (with erased_at, which comes first) that changed after a change, in order; names sealed.';

create function gatehouse.templates_of(device text, ids uuid[]) returns table (person uuid, model text, template real[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    return query select e.person_id, e.model, e.template::real[] from gatehouse.face_encodings e
                  where e.person_id = any (ids) order by e.created_at, e.id;
end
$$;
comment on function gatehouse.templates_of(text, uuid[]) is 'Templates of some people, oldest first.';

create function gatehouse.conflicts_for(device text, most int)
returns table (at timestamptz, person_id uuid, field text, kept_by text, kept_at timestamptz, lost_by text, lost_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    return query select c.at, c.person_id, c.field, c.kept_by, c.kept_at, c.lost_by, c.lost_at
                   from gatehouse.conflicts c order by c.id desc limit most;
end
$$;
comment on function gatehouse.conflicts_for(text, int) is 'The newest conflicts; of whom each is can tell who has the deployment''s key.';

create function gatehouse.people_were_taken(device text, upto bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    update gatehouse.device_cursors c set people_taken = upto where c.device_id = device and c.people_taken <> upto;
    -- An appliance that has never shared people holds them too: it may begin to.
    delete from gatehouse.tombstones t where t.change_no <= (select min(c.people_taken) from gatehouse.device_cursors c);
end
$$;
comment on function gatehouse.people_were_taken(text, bigint) is
    'Notes what an appliance has taken in; erasures that all have heard of are forgotten.';

-- Nobody waits for an appliance that was retired.
create function gatehouse.retired() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update gatehouse.device_cursors c set people_taken = 9223372036854775807 where c.device_id = new.device_id;
    return null;
end
$$;
comment on function gatehouse.retired() is 'Trigger: an appliance without a role hears of nothing any more.';
create trigger retired after update on gatehouse.devices for each row
    when (old.role_name is not null and new.role_name is null) execute function gatehouse.retired();

create function gatehouse.share_people(device text, print bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    insert into gatehouse.deployment select print on conflict do nothing;
    return (select d.fingerprint = print from gatehouse.deployment d);
end
$$;
comment on function gatehouse.share_people(text, bytea) is
    'Whether an appliance has the deployment key of all others; the first one says which that is.';

create function gatehouse.people_were_given(device text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.refuse_others(device);
    update gatehouse.device_cursors c set people_given_at = now() where c.device_id = device;
end
$$;
comment on function gatehouse.people_were_given(text) is 'Notes that an appliance has given everybody whom it knows.';

-- Search --------------------------------------------------------------------------------------------------------------

create function gatehouse.ensure_template_index(of_model text, dimensions int) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name  text := 'face_encodings_of_' || substr(md5(of_model), 1, 16);
    place text := (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                    where e.extname = 'vector');
begin
    perform pg_advisory_xact_lock(hashtext('gatehouse.ensure_template_index'));
    -- Asked with a snapshot of its own: to_regclass may remember its answer from before the lock.
    if exists (select from pg_class c where c.relnamespace = 'gatehouse'::regnamespace and c.relname = name) then
        return false;
    end if;
    execute format('create index %I on gatehouse.face_encodings using hnsw ((template::%s.vector(%s)) %s.vector_l2_ops) '
        'where model = %L', name, place, dimensions, place, of_model);
    execute format('comment on index gatehouse.%I is %L', name, format('Templates of %s, %s components.', of_model, dimensions));
    return true;
end
$$;
comment on function gatehouse.ensure_template_index(text, int) is 'Makes the HNSW index of a model''s templates; whether it was missing.';

-- The graph gives no more than it keeps in view, whatever the limit says: 40 of itself, which one person with 32 samples may
-- fill almost alone. Set here and not with the function, for which a role that is no superuser would have no right.
create function gatehouse.nearest_templates(of_model text, probe real[], most int)
returns table (person uuid, distance double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    place text := (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                    where e.extname = 'vector');
    size  int := cardinality(probe);
begin
    perform set_config('hnsw.ef_search', least(greatest(most, 40), 1000)::text, true);
    return query execute format(
        'select e.person_id, (e.template::%1$s.vector(%2$s)) operator(%1$s.<->) $1::%1$s.vector(%2$s) '
        'from gatehouse.face_encodings e where e.model = %3$L order by 2 limit $2', place, size, of_model)
    using probe, most;
end
$$;
comment on function gatehouse.nearest_templates(text, real[], int) is
    'The nearest templates of a model to a probe that is in the space of the deployment''s key, by Euclidean distance.';

-- Rights --------------------------------------------------------------------------------------------------------------

revoke all on all functions in schema gatehouse from public;
grant execute on function gatehouse.merge_people(text, uuid[], text[], text[], timestamptz[], timestamptz[], bytea[]),
    gatehouse.add_template(text, uuid, text, real[], double precision), gatehouse.bury(text, uuid, text, timestamptz),
    gatehouse.people_after(text, bigint, int), gatehouse.templates_of(text, uuid[]),
    gatehouse.people_were_taken(text, bigint), gatehouse.people_were_given(text), gatehouse.share_people(text, bytea),
    gatehouse.conflicts_for(text, int)
    to gatehouse_device, gatehouse_privacy;
grant execute on function gatehouse.nearest_templates(text, real[], int) to gatehouse_privacy;
grant select on gatehouse.persons, gatehouse.conflicts to gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.persons_history, gatehouse.tombstones to gatehouse_privacy;
alter table gatehouse.persons enable row level security;
create policy readers on gatehouse.persons for select to gatehouse_analyst, gatehouse_privacy using (true);
