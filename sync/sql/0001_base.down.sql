-- Takes back 0001 base, with all its data. Runs in one transaction.

drop view gatehouse.completeness;
drop function gatehouse.erase_person(text, bigint, bigint, text, timestamptz);
drop function gatehouse.without_person(jsonb, text);
drop function gatehouse.ensure_month(timestamptz);
drop table gatehouse.erasures;
drop table gatehouse.files;
drop table gatehouse.events;
drop table gatehouse.device_cursors;
drop table gatehouse.devices;
drop table gatehouse.environment;
