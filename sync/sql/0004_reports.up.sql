-- 0004 reports: what people ask, as views with the rights of who reads them. Runs in one transaction.

alter table gatehouse.devices
    add column pending_events bigint check (pending_events >= 0),
    add column pending_files  bigint check (pending_files >= 0),
    add column oldest_pending timestamptz,
    add column told_at        timestamptz;
comment on column gatehouse.devices.last_seen is
    'Last sign of life, by this server''s clock: at each connection, and every five minutes while there is one.';
comment on column gatehouse.devices.pending_events is 'Events that the appliance had not delivered at told_at.';
comment on column gatehouse.devices.pending_files is 'Pictures and clips that it had not delivered at told_at.';
comment on column gatehouse.devices.oldest_pending is
    'When the oldest of these events came, by the appliance''s clock; null where none waited.';
comment on column gatehouse.devices.told_at is 'When the appliance said so; null for one that is too old to say it.';
grant update (pending_events, pending_files, oldest_pending, told_at) on gatehouse.devices to gatehouse_device;

-- By time and by day: rows come about in the order of time, so this costs next to nothing at delivery.
create index events_time on gatehouse.events using brin (received_at, ((received_at at time zone 'UTC')::date));
-- Lost events are rare, and counted often.
create index events_lost on gatehouse.events (device_id) where kind = 'lost' and identification = '{}';

create view gatehouse.fleet with (security_invoker = true) as
select d.device_id, d.site, d.version,
       d.role_name is not null                                                as enrolled,
       case when d.state_id <> '' then d.first_seen end                       as first_seen,
       case when d.state_id <> '' then greatest(d.last_seen, c.moved_at) end  as last_seen,
       c.seq                                                                  as delivered,
       case when c.lsn > 0 then c.moved_at end                                as delivered_at,
       d.pending_events, d.pending_files, d.oldest_pending, d.told_at,
       (select count(*) from gatehouse.events e
         where e.device_id = d.device_id and e.kind = 'lost' and e.identification = '{}') as lost
  from gatehouse.devices d join gatehouse.device_cursors c using (device_id);
comment on view gatehouse.fleet is 'The state of every appliance, one row each.';
comment on column gatehouse.fleet.device_id is 'The appliance.';
comment on column gatehouse.fleet.site is 'device.site of its configuration.';
comment on column gatehouse.fleet.version is 'Version of Gatehouse at its last connection.';
comment on column gatehouse.fleet.enrolled is 'Whether it has a role of its own.';
comment on column gatehouse.fleet.first_seen is 'First sign of life; null for one that was enrolled and never came.';
comment on column gatehouse.fleet.last_seen is 'Last sign of life: a connection, a delivery, or word every five minutes.';
comment on column gatehouse.fleet.delivered is 'Events delivered since its state directory was made.';
comment on column gatehouse.fleet.delivered_at is 'When something was delivered last.';
comment on column gatehouse.fleet.pending_events is 'Events that waited at told_at.';
comment on column gatehouse.fleet.pending_files is 'Pictures and clips that waited at told_at.';
comment on column gatehouse.fleet.oldest_pending is 'When the oldest event that waited came.';
comment on column gatehouse.fleet.told_at is 'When it told what waited.';
comment on column gatehouse.fleet.lost is 'Events that its disk lost before they were delivered.';

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
    'One row per visit. Name a range of received_at or day: it is quick for months and slow for all time.';
comment on column gatehouse.visits.device_id is 'The appliance.';
comment on column gatehouse.visits.seq is 'The appliance''s number of the event.';
comment on column gatehouse.visits.camera is 'The camera.';
comment on column gatehouse.visits.event_id is 'The camera''s id of the event.';
comment on column gatehouse.visits.kind is 'face, doorbell, motion or whatever else the camera calls it.';
comment on column gatehouse.visits.received_at is 'The appliance''s time at the first delivery by the camera.';
comment on column gatehouse.visits.occurred_at is 'The camera''s own time, only where it was plausible.';
comment on column gatehouse.visits.day is 'The day of received_at, UTC.';
comment on column gatehouse.visits.faces is 'Faces in the event.';
comment on column gatehouse.visits.matches is 'Of these, enrolled people.';
comment on column gatehouse.visits.strangers is 'Of these, people who are not enrolled.';
comment on column gatehouse.visits.people is 'Ids of the enrolled people, without those who were erased.';
comment on column gatehouse.visits.files is 'Keys of its pictures and clips in the bucket.';

create view gatehouse.visits_per_day with (security_invoker = true) as
select day, device_id, camera, count(*) as visits, count(*) filter (where matches > 0) as recognised,
       count(*) filter (where strangers > 0) as unknown, min(received_at) as first_at, max(received_at) as last_at
  from gatehouse.visits group by day, device_id, camera;
comment on view gatehouse.visits_per_day is 'Visits per day (UTC) and camera.';
comment on column gatehouse.visits_per_day.day is 'The day, UTC.';
comment on column gatehouse.visits_per_day.device_id is 'The appliance.';
comment on column gatehouse.visits_per_day.camera is 'The camera.';
comment on column gatehouse.visits_per_day.visits is 'Visits.';
comment on column gatehouse.visits_per_day.recognised is 'Of these, with somebody who is enrolled.';
comment on column gatehouse.visits_per_day.unknown is 'Of these, with somebody who is not.';
comment on column gatehouse.visits_per_day.first_at is 'The first.';
comment on column gatehouse.visits_per_day.last_at is 'The last.';

create view gatehouse.unknown_visitors with (security_invoker = true) as
select day, device_id, camera, event_id, seq, received_at, strangers, files from gatehouse.visits where strangers > 0;
comment on view gatehouse.unknown_visitors is 'Visits with at least one face that is not of an enrolled person.';
comment on column gatehouse.unknown_visitors.day is 'The day, UTC.';
comment on column gatehouse.unknown_visitors.device_id is 'The appliance.';
comment on column gatehouse.unknown_visitors.camera is 'The camera.';
comment on column gatehouse.unknown_visitors.event_id is 'The camera''s id of the event.';
comment on column gatehouse.unknown_visitors.seq is 'The appliance''s number of the event.';
comment on column gatehouse.unknown_visitors.received_at is 'When it was, by the appliance''s clock.';
comment on column gatehouse.unknown_visitors.strangers is 'Faces of people who are not enrolled.';
comment on column gatehouse.unknown_visitors.files is 'Keys of its pictures and clips in the bucket.';

-- Found by the index of 0001. Of a visit of several people only the face of this one is told.
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
    'All visits of one person, with what was said of that person and of nobody else: for an access request.';

revoke all on function gatehouse.visits_of(text) from public;
grant execute on function gatehouse.visits_of(text) to gatehouse_analyst, gatehouse_privacy;
grant select on gatehouse.fleet, gatehouse.visits, gatehouse.visits_per_day, gatehouse.unknown_visitors
    to gatehouse_analyst, gatehouse_privacy;
-- That there are templates of a person, and from where; what they are stays out of sight.
grant select (person_id, model, added_by, created_at) on gatehouse.face_encodings to gatehouse_privacy;
