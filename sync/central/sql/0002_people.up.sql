-- 0002 people: enrolled people, shared by the appliances of the deployment. Runs in one transaction. Needs pgvector, which
-- is why it is a version of its own: without the extension a database stays at version 1.
--
-- Names and ids are in plaintext for the central services, and sealed with the deployment key for appliances. The roles of
-- appliances have access to none of these tables, only to the functions below. The role of a stolen appliance therefore
-- cannot list who is enrolled. Templates are in the space of that key. People are merged field by field, as on the
-- appliances: the later name wins, samples are added, an erasure overrides everything enrolled before it. Every function
-- may be repeated at any time.

do $$
begin
    create extension if not exists vector with schema public;
exception when undefined_file or feature_not_supported or insufficient_privilege then
    raise exception using errcode = 'feature_not_supported',
        message = 'this database has no pgvector; install it (Debian: postgresql-NN-pgvector) and let a superuser run '
                  '"create extension vector" in it, then run "gatehouse central init" again';
end
$$;
-- The schema of the extension, for this transaction only.
select set_config('search_path', (select quote_ident(n.nspname) from pg_extension e
    join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'), true);

-- Tables -------------------------------------------------------------------------------------------------------------

create table gatehouse.persons (
    id                 uuid        primary key,
    external_id        text        not null unique check (external_id <> ''),
    name               text        not null check (name <> ''),
    named_at           timestamptz not null,
    named_by           text        not null,
    name_change_no     bigint      not null,
    enrolled_at        timestamptz not null,
    encrypted_metadata bytea       not null,
    change_no          bigint      not null unique,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now()
);
comment on table gatehouse.persons is 'Enrolled people. An erased person has no row here and none in the history.';
comment on column gatehouse.persons.id is
    'Keyed hash of external_id under the deployment key. It is the same on every appliance.';
comment on column gatehouse.persons.external_id is 'Id of the person given by the operator.';
comment on column gatehouse.persons.name is 'Display name.';
comment on column gatehouse.persons.named_at is
    'Timestamp of the name, from the hybrid logical clock of the writer. The later name wins.';
comment on column gatehouse.persons.named_by is 'Writer of the name: an appliance, or central.';
comment on column gatehouse.persons.name_change_no is 'Number of the change that brought the name.';
comment on column gatehouse.persons.enrolled_at is
    'Timestamp of the first enrollment. An erasure at or after it erases this person.';
comment on column gatehouse.persons.encrypted_metadata is 'Id and name, sealed with the deployment key.';
comment on column gatehouse.persons.change_no is
    'Number of the last change of the person or of their samples, in the order in which changes arrived here.';
comment on column gatehouse.persons.created_at is 'Time at which the row was created, by the clock of this server.';
comment on column gatehouse.persons.updated_at is 'Time of its last change, by the clock of this server.';

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
comment on table gatehouse.persons_history is 'Earlier versions of rows of persons, one row each. An erasure deletes them.';
do $$
declare
    source record;
begin
    for source in
        select a.attname, col_description(a.attrelid, a.attnum) as description from pg_attribute a
         where a.attrelid = 'gatehouse.persons'::regclass and a.attnum > 0 and not a.attisdropped
    loop
        execute format('comment on column gatehouse.persons_history.%I is %L',
            source.attname, 'As in persons. ' || source.description);
    end loop;
end
$$;
comment on column gatehouse.persons_history.version is 'Number of the version of this row: 1, 2, 3, ...';
comment on column gatehouse.persons_history.valid_from is 'Start of its validity, by the clock of this server.';
comment on column gatehouse.persons_history.valid_to is 'End of its validity, by the clock of this server.';
comment on column gatehouse.persons_history.author is
    'Author of the change that ended it: gatehouse.author of the session, otherwise the login role.';
comment on column gatehouse.persons_history.operation is 'Operation that ended it: update or delete.';

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
    'Templates of people, in the space of the deployment key. They can be compared with each other. Without the key they '
    'cannot be compared with a face.';
comment on column gatehouse.face_encodings.id is 'Id of the template.';
comment on column gatehouse.face_encodings.person_id is 'The person.';
comment on column gatehouse.face_encodings.model is
    'Model that made the encoding. Templates of two models cannot be compared.';
comment on column gatehouse.face_encodings.template is
    'The template. gatehouse.ensure_template_index creates an HNSW index for the templates of one model.';
comment on column gatehouse.face_encodings.encrypted_metadata is
    'As persons.encrypted_metadata: names the person to holders of the key.';
comment on column gatehouse.face_encodings.added_by is 'Writer of the template: an appliance, or central.';
comment on column gatehouse.face_encodings.created_at is 'Time of its arrival, by the clock of this server.';
comment on column gatehouse.face_encodings.updated_at is 'Time of the last change of the row, by the clock of this server.';

create table gatehouse.erasure_orders (
    order_id   uuid        primary key,
    person     uuid        not null,
    erased_at  timestamptz not null,
    erased_by  text        not null,
    change_no  bigint      not null unique,
    created_at timestamptz not null default now()
);
create index erasure_orders_of_person on gatehouse.erasure_orders (person, erased_at);
comment on table gatehouse.erasure_orders is
    'Erasures of people, one row each. They outlive every copy of this database and of an appliance that may still contain '
    'the person, so that no restored copy brings a person back. Without the deployment key they identify no person.';
comment on column gatehouse.erasure_orders.order_id is 'Id of the order, given by its origin. It is on the receipt.';
comment on column gatehouse.erasure_orders.person is 'As persons.id.';
comment on column gatehouse.erasure_orders.erased_at is
    'Timestamp of the erasure. It erases a person whose enrolled_at is not later.';
comment on column gatehouse.erasure_orders.erased_by is 'Origin of the erasure: an appliance, or central.';
comment on column gatehouse.erasure_orders.change_no is 'As persons.change_no.';
comment on column gatehouse.erasure_orders.created_at is 'Time of its arrival, by the clock of this server.';

create table gatehouse.erasure_places (
    order_id     uuid        not null references gatehouse.erasure_orders,
    device_id    text        not null references gatehouse.devices,
    state_id     text        not null,
    listed_at    timestamptz not null default now(),
    statement    text,
    verifier_key text,
    stated_at    timestamptz,
    given_up     text        check (given_up in ('lost', 'retired')),
    given_up_at  timestamptz,
    primary key (order_id, device_id, state_id),
    check ((statement is null) = (stated_at is null) and (statement is null) = (verifier_key is null)),
    check ((given_up is null) = (given_up_at is null))
);
comment on table gatehouse.erasure_places is
    'The state directories of appliances that may contain the person of an erasure, and what each has stated.';
comment on column gatehouse.erasure_places.order_id is 'As erasure_orders.order_id.';
comment on column gatehouse.erasure_places.device_id is 'The appliance.';
comment on column gatehouse.erasure_places.state_id is 'Its state directory.';
comment on column gatehouse.erasure_places.listed_at is 'Time at which it was listed, by the clock of this server.';
comment on column gatehouse.erasure_places.statement is
    'The signed statement of the appliance: what it erased. Null until it has stated it.';
comment on column gatehouse.erasure_places.verifier_key is 'The public key of the appliance that verifies the statement.';
comment on column gatehouse.erasure_places.stated_at is 'Time at which the statement arrived, by the clock of this server.';
comment on column gatehouse.erasure_places.given_up is
    'Why no statement is expected: the appliance is lost, or was retired. Null while one is expected.';
comment on column gatehouse.erasure_places.given_up_at is 'Time at which it was retired or declared lost.';
-- Terms: consent and suspension
create table gatehouse.person_terms (
    person_id       uuid        not null references gatehouse.persons on delete cascade,
    kind            text        not null check (kind in ('consent', 'suspension', 'erasure')),
    changed_at      timestamptz not null,
    changed_by      text        not null,
    description     text        check (description <> ''),
    effective_at    timestamptz,
    encrypted_value bytea       not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (person_id, kind)
);
comment on table gatehouse.person_terms is
    'Consent, suspension and ordered erasure of people, at most one row each. An erasure of the person deletes them.';
comment on column gatehouse.person_terms.person_id is 'The person.';
comment on column gatehouse.person_terms.kind is 'consent, suspension, or an erasure in its grace period.';
comment on column gatehouse.person_terms.changed_at is
    'Timestamp of the term, from the hybrid logical clock of the writer. The later term wins.';
comment on column gatehouse.person_terms.changed_by is 'Writer of the term: an appliance, or central.';
comment on column gatehouse.person_terms.description is 'Reference of the consent, reason of the suspension, or who ordered the erasure.';
comment on column gatehouse.person_terms.effective_at is
    'End of the consent or of the grace period, at which appliances erase the person. Begin of the suspension. Null if the '
    'suspension or the erasure was cancelled.';
comment on column gatehouse.person_terms.encrypted_value is
    'Description and effective_at, sealed with the deployment key, for appliances.';
comment on column gatehouse.person_terms.created_at is 'Time at which the row was created, by the clock of this server.';
comment on column gatehouse.person_terms.updated_at is 'Time of its last change, by the clock of this server.';

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
comment on table gatehouse.conflicts is 'Concurrent changes of one person, and which of them was kept.';
comment on column gatehouse.conflicts.id is 'Number of the conflict.';
comment on column gatehouse.conflicts.at is 'Time of its detection, by the clock of this server.';
comment on column gatehouse.conflicts.person_id is 'As persons.id.';
comment on column gatehouse.conflicts.field is 'name: two names. erased: an erasure and another change.';
comment on column gatehouse.conflicts.kept_by is 'Origin of the change that was kept.';
comment on column gatehouse.conflicts.kept_at is 'Timestamp of that change.';
comment on column gatehouse.conflicts.lost_by is 'Origin of the change that was discarded.';
comment on column gatehouse.conflicts.lost_at is 'Timestamp of that change.';

create table gatehouse.people_change_counter (last_change_no bigint not null);
create unique index people_change_counter_one_row on gatehouse.people_change_counter ((true));
insert into gatehouse.people_change_counter values (0);
comment on table gatehouse.people_change_counter is
    'One row. Every change of people holds its lock until commit, so that change numbers become visible in their order.';
comment on column gatehouse.people_change_counter.last_change_no is 'Number of the last change.';

create table gatehouse.people_changes (
    change_no bigint primary key,
    change_id uuid   not null default gen_random_uuid()
);
comment on table gatehouse.people_changes is
    'Id of each change number that an appliance may still ask after. If this database is restored to an earlier time, its '
    'numbers are given again with other ids. So an appliance notices that its last change does not exist here.';
comment on column gatehouse.people_changes.change_no is 'As persons.change_no.';
comment on column gatehouse.people_changes.change_id is 'Random id of this change.';

create table gatehouse.held_people (id uuid primary key references gatehouse.persons on delete cascade);
comment on table gatehouse.held_people is
    'People of a restored database who are not delivered to appliances yet: one of them may have been erased after the '
    'time to which it was restored. Erasures and new changes are delivered.';
comment on column gatehouse.held_people.id is 'As persons.id.';

create table gatehouse.deployment (fingerprint bytea not null);
create unique index deployment_one_row on gatehouse.deployment ((true));
comment on table gatehouse.deployment is 'The deployment key in use: one row, or none before people are shared.';
comment on column gatehouse.deployment.fingerprint is
    'Hash of the key. It reveals nothing about the key, but detects another key.';

alter table gatehouse.device_cursors add column shares_people boolean not null default false;
comment on column gatehouse.device_cursors.shares_people is
    'Whether the appliance has ever shared people, and may therefore contain them.';
alter table gatehouse.device_cursors add column people_applied bigint not null default 0 check (people_applied >= 0);
alter table gatehouse.device_cursors add column people_sent_at timestamptz;
alter table gatehouse.device_cursors add column people_due_since timestamptz;
alter table gatehouse.device_cursors add column restore_seen_lsn bigint not null default 0;
comment on column gatehouse.device_cursors.people_applied is 'Number of the last change of people that the appliance applied.';
comment on column gatehouse.device_cursors.people_sent_at is
    'Time at which the appliance had sent all of its people and erasures. Null if it has to send them, or shares none.';
comment on column gatehouse.device_cursors.people_due_since is
    'Time from which people of a restored database are held back until this appliance has sent its erasures again. Null '
    'if it has.';
comment on column gatehouse.device_cursors.restore_seen_lsn is
    'Last delivered record of the appliance when it noticed that this database had been restored. 0 if never.';

-- Internal functions -------------------------------------------------------------------------------------------------

create function gatehouse.next_people_change() returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    n bigint;
begin
    perform pg_notify('gatehouse_people', '');
    update gatehouse.people_change_counter set last_change_no = last_change_no + 1 returning last_change_no into n;
    insert into gatehouse.people_changes (change_no) values (n);
    return n;
end
$$;
comment on function gatehouse.next_people_change() is
    'The next change number. Appliances that listen are notified at commit.';

create function gatehouse.check_device_role(device text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not gatehouse.may_act_for(device) then
        raise exception using errcode = 'insufficient_privilege',
            message = format('permission denied: %s is not the role of this appliance', session_user);
    end if;
end
$$;
comment on function gatehouse.check_device_role(text) is 'Raises an error if the session may not act for the appliance.';

-- Changes of people are serialized by the lock on the counter.
create function gatehouse.lock_people(device text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    perform from gatehouse.people_change_counter for update;
end
$$;
comment on function gatehouse.lock_people(text) is
    'Checks that the session may act for the appliance, then locks all people until the end of the transaction.';

-- A timestamp further ahead comes from a wrong clock, and is replaced by the current time.
create function gatehouse.plausible_timestamp(stamp timestamptz) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case when stamp > now() + interval '5 minutes' then now() else stamp end
$$;
comment on function gatehouse.plausible_timestamp(timestamptz) is
    'The timestamp, or the current time if it is more than five minutes ahead.';

-- From appliances ----------------------------------------------------------------------------------------------------

create function gatehouse.merge_people(device text, ids uuid[], external_ids text[], names text[],
    names_at timestamptz[], enrollments timestamptz[], metadata bytea[])
returns table (person uuid, model text, template real[])
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    applied   bigint;
    incoming  record;
    stored    gatehouse.persons;
    erasure   gatehouse.erasure_orders;
    is_new    boolean;
begin
    perform gatehouse.lock_people(device);
    applied := coalesce((select c.people_applied from gatehouse.device_cursors c where c.device_id = device), 0);
    for incoming in
        select t.id, t.external_id, t.name, gatehouse.plausible_timestamp(t.named_at) as named_at,
               gatehouse.plausible_timestamp(t.enrolled_at) as enrolled_at, t.metadata
          from unnest(ids, external_ids, names, names_at, enrollments, metadata)
               as t(id, external_id, name, named_at, enrolled_at, metadata)
    loop
        select * into erasure from gatehouse.erasure_orders o where o.person = incoming.id
         order by o.erased_at desc, o.order_id limit 1;
        if found and erasure.erased_at >= incoming.enrolled_at then
            -- The appliance has not received the erasure, or has lost it: deliver it (again).
            insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
            values (incoming.id, 'erased', erasure.erased_by, erasure.erased_at, device, incoming.named_at);
            update gatehouse.erasure_orders o set change_no = gatehouse.next_people_change()
             where o.order_id = erasure.order_id;
            continue;
        end if;
        select * into stored from gatehouse.persons p where p.id = incoming.id;
        is_new := not found;
        if is_new then
            insert into gatehouse.persons (id, external_id, name, named_at, named_by, name_change_no, enrolled_at,
                encrypted_metadata, change_no)
            select incoming.id, incoming.external_id, incoming.name, incoming.named_at, device, n, incoming.enrolled_at,
                   incoming.metadata, n
              from gatehouse.next_people_change() n;
        elsif (incoming.named_at, incoming.name collate "C") > (stored.named_at, stored.name collate "C") then
            if stored.name <> incoming.name and stored.name_change_no > applied and stored.named_by <> device then
                insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
                values (incoming.id, 'name', device, incoming.named_at, stored.named_by, stored.named_at);
            end if;
            update gatehouse.persons p
               set name = incoming.name, named_at = incoming.named_at, named_by = device, name_change_no = n,
                   enrolled_at = least(p.enrolled_at, incoming.enrolled_at), encrypted_metadata = incoming.metadata,
                   change_no = n, updated_at = now()
              from gatehouse.next_people_change() n where p.id = incoming.id;
            update gatehouse.face_encodings e set encrypted_metadata = incoming.metadata, updated_at = now()
             where e.person_id = incoming.id;
        else
            -- An earlier name that is in the history is an old copy. One that is not is a change that arrived too late.
            if stored.name <> incoming.name and not exists (
                select from gatehouse.persons_history h where h.id = incoming.id and h.named_at = incoming.named_at)
            then
                insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
                values (incoming.id, 'name', stored.named_by, stored.named_at, device, incoming.named_at);
            end if;
            update gatehouse.persons p set enrolled_at = incoming.enrolled_at, change_no = n, updated_at = now()
              from gatehouse.next_people_change() n where p.id = incoming.id and incoming.enrolled_at < p.enrolled_at;
        end if;
        return query select e.person_id, e.model, e.template::real[]
                       from gatehouse.face_encodings e where e.person_id = incoming.id;
    end loop;
end
$$;
comment on function gatehouse.merge_people(text, uuid[], text[], text[], timestamptz[], timestamptz[], bytea[]) is
    'Merges people of an appliance: id, external id, name, timestamp of the name, timestamp of the enrollment and sealed '
    'metadata, one array element each. Returns the stored templates of those who are not erased.';

-- A repeated template is left out here: another appliance may have added it between the two calls.
create function gatehouse.add_template(device text, person uuid, of_model text, components real[], within double precision)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.lock_people(device);
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
    'Adds a template to a person. False if the person is not stored, has 32 templates of that model, or has one within the '
    'distance.';

create function gatehouse.erase_shared_person(device text, new_order uuid, person uuid, external text, at timestamptz)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stamp       timestamptz := gatehouse.plausible_timestamp(at);
    stored      gatehouse.persons;
    scrubbed_id text := external;
    only_device text := device;
begin
    perform gatehouse.lock_people(device);
    if exists (select from gatehouse.erasure_orders o where o.order_id = new_order) then
        return false;
    end if;
    insert into gatehouse.erasure_orders (order_id, person, erased_at, erased_by, change_no)
    select new_order, person, stamp, device, n from gatehouse.next_people_change() n;
    -- A retired appliance may still contain the person. It is listed, and nothing is expected of it.
    insert into gatehouse.erasure_places (order_id, device_id, state_id, given_up, given_up_at)
    select new_order, d.device_id, d.state_id, case when c.people_applied = 9223372036854775807 then 'retired' end,
           case when c.people_applied = 9223372036854775807 then now() end
      from gatehouse.devices d join gatehouse.device_cursors c using (device_id)
     where c.shares_people and d.state_id <> '';
    select * into stored from gatehouse.persons p where p.id = person and p.enrolled_at <= stamp;
    if found then
        if stored.named_at > stamp and stored.named_by <> device then
            insert into gatehouse.conflicts (person_id, field, kept_by, kept_at, lost_by, lost_at)
            values (person, 'erased', device, stamp, stored.named_by, stored.named_at);
        end if;
        delete from gatehouse.persons p where p.id = person;
        delete from gatehouse.persons_history h where h.id = person;
        -- Scrub the visits of every appliance. Each appliance also scrubs its own once it applies the erasure. For a
        -- person who is not stored, only visits of the calling appliance are scrubbed: its id cannot be verified.
        scrubbed_id := stored.external_id;
        only_device := null;
    end if;
    perform gatehouse.scrub_visits(new_order, scrubbed_id, only_device, null, stamp);
    perform gatehouse.audit('person.erase_shared', new_order::text, jsonb_build_object('by', device));
    return true;
end
$$;
comment on function gatehouse.erase_shared_person(text, uuid, uuid, text, timestamptz) is
    'Erases a person in the whole deployment: row, history, templates, names in earlier visits. All appliances receive the '
    'erasure. The id given by the operator is null if the appliance has forgotten it.';

-- Terms --------------------------------------------------------------------------------------------------------------

create function gatehouse.merge_person_terms(device text, ids uuid[], enrollments timestamptz[], kinds text[],
    changes_at timestamptz[], descriptions text[], effective timestamptz[], encrypted bytea[])
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    incoming record;
begin
    perform gatehouse.lock_people(device);
    for incoming in
        select t.id, t.kind, gatehouse.plausible_timestamp(t.changed_at) as changed_at, t.description, t.effective_at,
               t.encrypted_value, p.external_id
          from unnest(ids, enrollments, kinds, changes_at, descriptions, effective, encrypted)
               as t(id, enrolled_at, kind, changed_at, description, effective_at, encrypted_value)
          join gatehouse.persons p on p.id = t.id
         -- Terms of a person who was erased do not apply to one who was enrolled again.
         where not exists (select from gatehouse.erasure_orders o
                            where o.person = t.id and o.erased_at >= gatehouse.plausible_timestamp(t.enrolled_at))
    loop
        insert into gatehouse.person_terms as s
            (person_id, kind, changed_at, changed_by, description, effective_at, encrypted_value)
        values (incoming.id, incoming.kind, incoming.changed_at, device, incoming.description, incoming.effective_at,
                incoming.encrypted_value)
        on conflict (person_id, kind) do update
           set changed_at = excluded.changed_at, changed_by = excluded.changed_by, description = excluded.description,
               effective_at = excluded.effective_at, encrypted_value = excluded.encrypted_value, updated_at = now()
         where (excluded.changed_at, coalesce(excluded.description, '') collate "C",
                coalesce(excluded.effective_at, '-infinity'))
             > (s.changed_at, coalesce(s.description, '') collate "C", coalesce(s.effective_at, '-infinity'));
        if found then
            update gatehouse.persons p set change_no = n, updated_at = now()
              from gatehouse.next_people_change() n where p.id = incoming.id;
            perform gatehouse.audit('person.' || incoming.kind, gatehouse.person_reference(incoming.external_id),
                jsonb_build_object('by', device, 'effective_at', incoming.effective_at));
        end if;
    end loop;
end
$$;
comment on function gatehouse.merge_person_terms(text, uuid[], timestamptz[], text[], timestamptz[], text[], timestamptz[],
    bytea[]) is
    'Merges terms of people of an appliance: id, timestamp of the enrollment, kind, timestamp of the term, description, '
    'effective time and both sealed, one array element each.';

create function gatehouse.person_terms_of(device text, ids uuid[])
returns table (person uuid, kind text, changed_at timestamptz, encrypted_value bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    return query select t.person_id, t.kind, t.changed_at, t.encrypted_value from gatehouse.person_terms t
                  where t.person_id = any (ids);
end
$$;
comment on function gatehouse.person_terms_of(text, uuid[]) is 'Terms of the given people, sealed with the deployment key.';

-- To appliances ------------------------------------------------------------------------------------------------------

-- An appliance that has the person states every erasure. One that does not have the person states only what is due.
create function gatehouse.record_statement(device text, of_order uuid, of_state text, signed text, signed_with text)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    if octet_length(signed) > 32768 or octet_length(signed_with) > 512 then
        raise exception using errcode = 'program_limit_exceeded', message = 'the statement is too long';
    end if;
    insert into gatehouse.erasure_places as p (order_id, device_id, state_id, statement, verifier_key, stated_at)
    select o.order_id, device, of_state, signed, signed_with, now() from gatehouse.erasure_orders o where o.order_id = of_order
    on conflict (order_id, device_id, state_id) do update
       set statement = excluded.statement, verifier_key = excluded.verifier_key, stated_at = excluded.stated_at
     where p.statement is null;
    return found;
end
$$;
comment on function gatehouse.record_statement(text, uuid, text, text, text) is
    'Records what an appliance states about an erasure. The first statement of a state directory stays.';

create function gatehouse.people_changed_after(device text, after bigint, most int)
returns table (change_no bigint, change_id uuid, id uuid, order_id uuid, erased_at timestamptz, enrolled_at timestamptz,
    named_at timestamptz, metadata bytea, queried_at timestamptz, statement_due boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    return query
        select c.change_no, n.change_id, c.id, o.order_id, o.erased_at, c.enrolled_at, c.named_at, c.metadata, now(),
               exists (select from gatehouse.erasure_places s
                        where s.order_id = o.order_id and s.device_id = device and s.statement is null)
          from ((select p.change_no, p.id, null::uuid as order_id, p.enrolled_at, p.named_at, p.encrypted_metadata as metadata
                   from gatehouse.persons p
                  where p.change_no > after and not exists (select from gatehouse.held_people h where h.id = p.id)
                  order by p.change_no limit most)
                union all
                (select e.change_no, e.person, e.order_id, null, null, null
                   from gatehouse.erasure_orders e where e.change_no > after order by e.change_no limit most)) c
          join gatehouse.people_changes n using (change_no)
          -- For a person who was enrolled again, the erasure refers to an earlier person with that id.
          left join lateral (select e.order_id, e.erased_at from gatehouse.erasure_orders e
                              where e.order_id = c.order_id or (c.order_id is null and e.person = c.id)
                              order by e.erased_at desc limit 1) o on true
         order by 1 limit most;
end
$$;
comment on function gatehouse.people_changed_after(text, bigint, int) is
    'People (with sealed metadata) and erasures (with erased_at, applied first) after a change number, in order.';

create function gatehouse.templates_of(device text, ids uuid[]) returns table (person uuid, model text, template real[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    return query select e.person_id, e.model, e.template::real[] from gatehouse.face_encodings e
                  where e.person_id = any (ids) order by e.created_at, e.id;
end
$$;
comment on function gatehouse.templates_of(text, uuid[]) is 'Templates of the given people, oldest first.';

create function gatehouse.recent_conflicts(device text, most int)
returns table (at timestamptz, person_id uuid, field text, kept_by text, kept_at timestamptz, lost_by text, lost_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    return query select c.at, c.person_id, c.field, c.kept_by, c.kept_at, c.lost_by, c.lost_at
                   from gatehouse.conflicts c order by c.id desc limit most;
end
$$;
comment on function gatehouse.recent_conflicts(text, int) is
    'The latest conflicts. Only a holder of the deployment key can resolve person_id.';

create function gatehouse.confirm_people_applied(device text, upto bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    update gatehouse.device_cursors c set people_applied = upto where c.device_id = device and c.people_applied <> upto;
    -- An appliance that has never shared people may begin to.
    delete from gatehouse.people_changes n
     where n.change_no < (select min(c.people_applied) from gatehouse.device_cursors c)
       and not exists (select from gatehouse.persons p where p.change_no = n.change_no)
       and not exists (select from gatehouse.erasure_orders o where o.change_no = n.change_no);
end
$$;
comment on function gatehouse.confirm_people_applied(text, bigint) is
    'Records the last change that an appliance applied, and deletes ids of changes that no appliance asks after.';

create function gatehouse.on_device_retired() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update gatehouse.device_cursors c set people_applied = 9223372036854775807, people_due_since = null
     where c.device_id = new.device_id;
    update gatehouse.erasure_places p set given_up = 'retired', given_up_at = now()
     where p.device_id = new.device_id and p.statement is null and p.given_up is null;
    perform gatehouse.release_people_if_complete();
    return null;
end
$$;
comment on function gatehouse.on_device_retired() is
    'Trigger: after an appliance has lost its role, no change number and no person of a restored database waits for it.';
create trigger device_retired after update on gatehouse.devices for each row
    when (old.role_name is not null and new.role_name is null) execute function gatehouse.on_device_retired();

create function gatehouse.check_deployment_key(device text, key_fingerprint bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.check_device_role(device);
    insert into gatehouse.deployment select key_fingerprint on conflict do nothing;
    if (select d.fingerprint <> key_fingerprint from gatehouse.deployment d) then
        return false;
    end if;
    update gatehouse.device_cursors c set shares_people = true where c.device_id = device and not c.shares_people;
    return true;
end
$$;
comment on function gatehouse.check_deployment_key(text, bytea) is
    'Whether an appliance has the deployment key of this database. The first call sets that key.';

create function gatehouse.confirm_people_sent(device text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.lock_people(device);
    update gatehouse.device_cursors c set people_sent_at = now(), people_due_since = null where c.device_id = device;
    perform gatehouse.release_people_if_complete();
end
$$;
comment on function gatehouse.confirm_people_sent(text) is
    'Records that an appliance has sent all of its people and erasures.';

-- Restored databases -------------------------------------------------------------------------------------------------

create function gatehouse.release_people() returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    released bigint;
begin
    perform from gatehouse.people_change_counter for update;
    update gatehouse.device_cursors c set people_due_since = null where c.people_due_since is not null;
    -- A new number: appliances may be past the former one.
    update gatehouse.persons p set change_no = gatehouse.next_people_change()
     where p.id in (select h.id from gatehouse.held_people h);
    get diagnostics released = row_count;
    delete from gatehouse.held_people;
    perform gatehouse.audit('people.release', 'people', jsonb_build_object('people', released));
    return released;
end
$$;
comment on function gatehouse.release_people() is
    'Delivers the people of a restored database to appliances, also if an appliance has not sent its erasures again.';

create function gatehouse.release_people_if_complete() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from gatehouse.held_people)
        and not exists (select from gatehouse.device_cursors c where c.people_due_since is not null)
    then
        perform gatehouse.release_people();
    end if;
end
$$;
comment on function gatehouse.release_people_if_complete() is
    'Delivers the people of a restored database once every appliance has sent its erasures again.';

create function gatehouse.hold_people(noticed_by text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    held bigint;
begin
    perform from gatehouse.people_change_counter for update;
    insert into gatehouse.held_people select p.id from gatehouse.persons p on conflict do nothing;
    select count(*) into held from gatehouse.held_people;
    update gatehouse.device_cursors c
       set people_due_since = case when c.people_sent_at is not null then now() else c.people_due_since end,
           people_sent_at = null, people_applied = 0
     where c.people_applied < 9223372036854775807;
    perform gatehouse.audit('people.hold', 'people', jsonb_build_object('noticed_by', noticed_by, 'people', held));
    perform pg_notify('gatehouse_people', '');
    perform gatehouse.release_people_if_complete();
    return held;
end
$$;
comment on function gatehouse.hold_people(text) is
    'After this database was restored to an earlier time: holds its people back until every appliance has sent its people '
    'and erasures again. Returns the number of people.';

create function gatehouse.report_restore(device text, delivered_lsn bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform gatehouse.lock_people(device);
    -- The same loss is reported at every connection until the rows are delivered again.
    update gatehouse.device_cursors c set restore_seen_lsn = delivered_lsn
     where c.device_id = device and c.restore_seen_lsn <> delivered_lsn;
    if found then
        perform gatehouse.hold_people(device);
    end if;
end
$$;
comment on function gatehouse.report_restore(text, bigint) is
    'Reports that this database has a lower cursor of the appliance than it has confirmed before.';

create function gatehouse.compare_people_position(device text, upto bigint, upto_id uuid)
returns table (continues boolean, send_all boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known uuid := (select n.change_id from gatehouse.people_changes n where n.change_no = upto);
    last  bigint := (select c.last_change_no from gatehouse.people_change_counter c);
begin
    perform gatehouse.check_device_role(device);
    if upto > 0 and known is distinct from upto_id then
        -- A number without an id is one that this appliance has passed: then its state directory is an old copy.
        if upto > last or known is not null then
            perform gatehouse.hold_people(device);
        end if;
        update gatehouse.device_cursors c set people_sent_at = null where c.device_id = device;
    end if;
    return query select upto = 0 or known is not distinct from upto_id, c.people_sent_at is null
                   from gatehouse.device_cursors c where c.device_id = device;
end
$$;
comment on function gatehouse.compare_people_position(text, bigint, uuid) is
    'Whether the last change that an appliance applied exists here, and whether the appliance has to send all of its people '
    'and erasures. If the change does not exist, this database was restored to an earlier time.';

-- Search -------------------------------------------------------------------------------------------------------------

create function gatehouse.ensure_template_index(of_model text, dimensions int) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name          text := 'face_encodings_of_' || substr(md5(of_model), 1, 16);
    vector_schema text := (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                            where e.extname = 'vector');
begin
    perform pg_advisory_xact_lock(hashtext('gatehouse.ensure_template_index'));
    -- A query with a new snapshot: to_regclass may return a cached answer from before the lock.
    if exists (select from pg_class c where c.relnamespace = 'gatehouse'::regnamespace and c.relname = name) then
        return false;
    end if;
    execute format('create index %I on gatehouse.face_encodings using hnsw ((template::%s.vector(%s)) %s.vector_l2_ops) '
        'where model = %L', name, vector_schema, dimensions, vector_schema, of_model);
    execute format('comment on index gatehouse.%I is %L', name, format('Templates of %s, %s components.', of_model, dimensions));
    return true;
end
$$;
comment on function gatehouse.ensure_template_index(text, int) is
    'Creates the HNSW index of the templates of a model. True if it was missing.';

-- An HNSW scan returns at most hnsw.ef_search rows, whatever the limit. The default is 40, which one person with 32 samples
-- can almost fill. It is set here and not with the function, because only a superuser may do the latter.
create function gatehouse.nearest_templates(of_model text, probe real[], most int)
returns table (person uuid, distance double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    vector_schema text := (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                            where e.extname = 'vector');
    dimensions    int := cardinality(probe);
begin
    perform set_config('hnsw.ef_search', least(greatest(most, 40), 1000)::text, true);
    return query execute format(
        'select e.person_id, (e.template::%1$s.vector(%2$s)) operator(%1$s.<->) $1::%1$s.vector(%2$s) '
        'from gatehouse.face_encodings e where e.model = %3$L order by 2 limit $2', vector_schema, dimensions, of_model)
    using probe, most;
end
$$;
comment on function gatehouse.nearest_templates(text, real[], int) is
    'The templates of a model nearest to a probe in the space of the deployment key, by Euclidean distance.';

-- Privileges ---------------------------------------------------------------------------------------------------------

revoke all on all functions in schema gatehouse from public;
grant execute on function gatehouse.merge_people(text, uuid[], text[], text[], timestamptz[], timestamptz[], bytea[]),
    gatehouse.add_template(text, uuid, text, real[], double precision),
    gatehouse.erase_shared_person(text, uuid, uuid, text, timestamptz), gatehouse.report_restore(text, bigint),
    gatehouse.record_statement(text, uuid, text, text, text),
    gatehouse.compare_people_position(text, bigint, uuid),
    gatehouse.people_changed_after(text, bigint, int), gatehouse.templates_of(text, uuid[]),
    gatehouse.confirm_people_applied(text, bigint), gatehouse.confirm_people_sent(text),
    gatehouse.check_deployment_key(text, bytea), gatehouse.recent_conflicts(text, int)
    to gatehouse_device, gatehouse_privacy;
grant execute on function gatehouse.merge_person_terms(text, uuid[], timestamptz[], text[], timestamptz[], text[],
    timestamptz[], bytea[]), gatehouse.person_terms_of(text, uuid[]) to gatehouse_device, gatehouse_privacy;
grant select on gatehouse.person_terms to gatehouse_privacy;
grant execute on function gatehouse.nearest_templates(text, real[], int), gatehouse.hold_people(text),
    gatehouse.release_people() to gatehouse_privacy;
grant select on gatehouse.persons, gatehouse.conflicts to gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.persons_history, gatehouse.erasure_orders, gatehouse.erasure_places,
    gatehouse.held_people to gatehouse_privacy;
-- The privacy role sees that templates of a person exist, and their origin, but not the templates.
grant select (person_id, model, added_by, created_at) on gatehouse.face_encodings to gatehouse_privacy;
alter table gatehouse.persons enable row level security;
create policy readers on gatehouse.persons for select to gatehouse_analyst, gatehouse_privacy using (true);
