-- Takes back 0004 reports. Runs in one transaction.

revoke select (person_id, model, added_by, created_at) on gatehouse.face_encodings from gatehouse_privacy;
drop function gatehouse.visits_of(text);
drop view gatehouse.unknown_visitors;
drop view gatehouse.visits_per_day;
drop view gatehouse.visits;
drop view gatehouse.fleet;
drop index gatehouse.events_lost;
drop index gatehouse.events_time;
alter table gatehouse.devices
    drop column pending_events, drop column pending_files, drop column oldest_pending, drop column told_at;
comment on column gatehouse.devices.last_seen is 'Last connection, by this server''s clock.';
