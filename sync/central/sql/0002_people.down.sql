-- Reverts 0002 people and deletes all people. The extension stays: other schemas may use it. Runs in one transaction.

drop trigger device_retired on gatehouse.devices;
drop function gatehouse.on_device_retired();
drop function gatehouse.compare_people_position(text, bigint, uuid);
drop function gatehouse.report_restore(text, bigint);
drop function gatehouse.hold_people(text);
drop function gatehouse.nearest_templates(text, real[], int);
drop function gatehouse.ensure_template_index(text, int);
drop function gatehouse.check_deployment_key(text, bytea);
drop function gatehouse.confirm_people_sent(text);
drop function gatehouse.release_people_if_complete();
drop function gatehouse.release_people();
drop function gatehouse.confirm_people_applied(text, bigint);
drop function gatehouse.recent_conflicts(text, int);
drop function gatehouse.templates_of(text, uuid[]);
drop function gatehouse.record_statement(text, uuid, text, text, text);
drop function gatehouse.people_changed_after(text, bigint, int);
drop function gatehouse.erase_shared_person(text, uuid, uuid, text, timestamptz);
drop function gatehouse.add_template(text, uuid, text, real[], double precision);
drop function gatehouse.merge_people(text, uuid[], text[], text[], timestamptz[], timestamptz[], bytea[]);
drop function gatehouse.plausible_timestamp(timestamptz);
drop function gatehouse.lock_people(text);
drop function gatehouse.check_device_role(text);
drop function gatehouse.next_people_change();
alter table gatehouse.device_cursors drop column shares_people, drop column restore_seen_lsn, drop column people_due_since,
    drop column people_sent_at, drop column people_applied;
drop table gatehouse.deployment;
drop table gatehouse.held_people;
drop table gatehouse.people_changes;
drop table gatehouse.people_change_counter;
drop table gatehouse.conflicts;
drop table gatehouse.erasure_places;
drop table gatehouse.erasure_orders;
drop table gatehouse.face_encodings;
drop table gatehouse.persons;
drop table gatehouse.persons_history;
