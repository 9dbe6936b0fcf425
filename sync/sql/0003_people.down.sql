-- Takes back 0003 people, with everybody who is in it. The extension stays: others may use it. Runs in one transaction.

drop trigger retired on gatehouse.devices;
drop function gatehouse.retired();
drop function gatehouse.nearest_templates(text, real[], int);
drop function gatehouse.ensure_template_index(text, int);
drop function gatehouse.share_people(text, bytea);
drop function gatehouse.people_were_given(text);
drop function gatehouse.people_were_taken(text, bigint);
drop function gatehouse.conflicts_for(text, int);
drop function gatehouse.templates_of(text, uuid[]);
drop function gatehouse.people_after(text, bigint, int);
drop function gatehouse.bury(text, uuid, text, timestamptz);
drop function gatehouse.add_template(text, uuid, text, real[], double precision);
drop function gatehouse.merge_people(text, uuid[], text[], text[], timestamptz[], timestamptz[], bytea[]);
drop function gatehouse.believed(timestamptz);
drop function gatehouse.enter_people(text);
drop function gatehouse.refuse_others(text);
drop function gatehouse.next_people_change();
alter table gatehouse.device_cursors drop column people_given_at, drop column people_taken;
drop table gatehouse.deployment;
drop table gatehouse.people_changes;
drop table gatehouse.conflicts;
drop table gatehouse.tombstones;
drop table gatehouse.face_encodings;
drop table gatehouse.persons;
drop table gatehouse.persons_history;
