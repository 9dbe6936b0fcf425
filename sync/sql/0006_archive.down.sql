-- Takes back 0006 archive. Runs in one transaction. The files stay in the bucket; which there are is forgotten.

drop view gatehouse.completeness;
create view gatehouse.completeness with (security_invoker = true) as
select c.device_id,
       c.seq                                as cursor_seq,
       coalesce(e.events, 0)                as events,
       coalesce(e.last_seq, 0)              as last_seq,
       c.seq - coalesce(e.events, 0)        as missing,
       coalesce(e.lost, 0)                  as lost,
       c.seq = coalesce(e.events, 0) and c.seq = coalesce(e.last_seq, 0)
           and c.seq = coalesce(e.numbers, 0) as whole
  from gatehouse.device_cursors c
  left join (select device_id, count(*) as events, count(distinct seq) as numbers, max(seq) as last_seq,
                    count(*) filter (where kind = 'lost' and identification = '{}') as lost
               from gatehouse.events group by device_id) e using (device_id);
comment on view gatehouse.completeness is
    'Proof per appliance that nothing is missing: `whole` holds where max(seq) = count(*) = the cursor. Reads all events.';
comment on column gatehouse.completeness.device_id is 'The appliance.';
comment on column gatehouse.completeness.cursor_seq is 'Number of the last delivered event, by the cursor.';
comment on column gatehouse.completeness.events is 'Rows of the appliance.';
comment on column gatehouse.completeness.last_seq is 'Highest number among the rows.';
comment on column gatehouse.completeness.missing is 'Rows that are missing; 0 is the only good value.';
comment on column gatehouse.completeness.lost is 'Rows of kind `lost`: events that the appliance''s disk lost.';
comment on column gatehouse.completeness.whole is 'Whether there is neither a hole nor a double.';
grant select on gatehouse.completeness to gatehouse_device, gatehouse_analyst, gatehouse_privacy;
drop table gatehouse.archive;
