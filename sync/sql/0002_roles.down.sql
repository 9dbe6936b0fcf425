-- Takes back 0002 roles, with the audit log and the history of files. Runs in one transaction. Roles stay: they belong to
-- the whole server, and other databases may use them.

drop publication gatehouse;

drop policy own on gatehouse.devices;
drop policy readers on gatehouse.devices;
alter table gatehouse.devices disable row level security;
drop policy own on gatehouse.device_cursors;
drop policy readers on gatehouse.device_cursors;
alter table gatehouse.device_cursors disable row level security;
drop policy own on gatehouse.events;
drop policy readers on gatehouse.events;
alter table gatehouse.events disable row level security;
drop policy own on gatehouse.files;
drop policy readers on gatehouse.files;
alter table gatehouse.files disable row level security;
drop policy own on gatehouse.erasures;
drop policy readers on gatehouse.erasures;
alter table gatehouse.erasures disable row level security;

revoke all on all tables in schema gatehouse from gatehouse_device, gatehouse_analyst, gatehouse_privacy;
revoke all on all functions in schema gatehouse from gatehouse_device, gatehouse_analyst, gatehouse_privacy;
revoke all on schema gatehouse from gatehouse_device, gatehouse_analyst, gatehouse_privacy;

alter view gatehouse.completeness reset (security_invoker);

create or replace function gatehouse.erase_person(device text, at_lsn bigint, upto_seq bigint, person text, at timestamptz)
returns bigint language plpgsql security invoker as $$
declare
    scrubbed bigint;
begin
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
    return scrubbed;
end
$$;
grant execute on all functions in schema gatehouse to public;

drop trigger keep_history on gatehouse.files;
drop table gatehouse.files_history;
drop function gatehouse.keep_history();
drop function gatehouse.audit(text, text, jsonb);
drop table gatehouse.audit_log;
drop function gatehouse.may_act_for(text);
drop function gatehouse.my_device();
alter table gatehouse.devices drop column role_name;
comment on column gatehouse.devices.state_id is
    'Made with the appliance''s state directory: a second appliance under the same device_id is refused by it.';
