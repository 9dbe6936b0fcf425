-- Takes back 0005 previews. Runs in one transaction.

comment on column gatehouse.unknown_visitors.files is 'Keys of its pictures and clips in the bucket.';
comment on column gatehouse.visits.files is 'Keys of its pictures and clips in the bucket.';
comment on column gatehouse.devices.pending_files is 'Pictures and clips that it had not delivered at told_at.';
comment on column gatehouse.files.id is 'The appliance''s id of the file.';
alter table gatehouse.files_history drop column fault;
alter table gatehouse.files drop column fault;
