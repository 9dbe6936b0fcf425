-- Reverts 0001 baseline and deletes all of its data. Runs in one transaction. Roles stay: they belong to the server, and
-- other databases may use them. The table of migrations stays. Files in the bucket stay.

drop publication gatehouse;
drop function gatehouse.visits_of(text);
drop view gatehouse.unknown_visitors;
drop view gatehouse.visits_per_day;
drop view gatehouse.visits;
drop view gatehouse.fleet;
drop view gatehouse.completeness;
drop function gatehouse.erase_files(text, text[]);
drop function gatehouse.erase_person(text, uuid, bigint, bigint, text, timestamptz);
drop function gatehouse.scrub_visits(uuid, text, text, bigint, timestamptz);
drop function gatehouse.person_reference(text);
drop table gatehouse.reference_key;
drop table gatehouse.erasure_files;
drop table gatehouse.erasure_counts;
drop function gatehouse.without_person(jsonb, text);
drop function gatehouse.ensure_month(timestamptz);
drop table gatehouse.archive;
drop table gatehouse.erasures;
drop table gatehouse.files_history;
drop table gatehouse.files;
drop table gatehouse.events;
drop table gatehouse.device_cursors;
drop table gatehouse.devices;
drop table gatehouse.environment;
drop function gatehouse.keep_history();
drop function gatehouse.close_request(bigint, text);
drop function gatehouse.open_request(text, text, date);
drop function gatehouse.audit(text, text, jsonb);
drop function gatehouse.may_act_for(text);
drop function gatehouse.session_device();
drop table gatehouse.requests;
drop table gatehouse.audit_log;
revoke all on gatehouse.schema_migrations from gatehouse_device, gatehouse_analyst, gatehouse_privacy;
revoke all on schema gatehouse from gatehouse_device, gatehouse_analyst, gatehouse_privacy;
