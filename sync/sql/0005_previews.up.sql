-- 0005 previews: pictures that cannot be shown say why; thumbnails have rows like any file. Runs in one transaction.

alter table gatehouse.files add column fault text;
comment on column gatehouse.files.fault is
    'Why no thumbnail can be made of a picture (broken, too large, none), in words; null for all others.';
alter table gatehouse.files_history add column fault text;
comment on column gatehouse.files_history.fault is
    'As in files. Why no thumbnail can be made of a picture (broken, too large, none), in words; null for all others.';
grant insert (fault), update (fault) on gatehouse.files to gatehouse_device;

comment on column gatehouse.files.id is
    'The appliance''s id of the file; of a thumbnail one that follows from its picture''s and its size.';
comment on column gatehouse.devices.pending_files is
    'Pictures and clips, without thumbnails, that it had not delivered at told_at.';
comment on column gatehouse.visits.files is 'Keys of its pictures, thumbnails and clips in the bucket.';
comment on column gatehouse.unknown_visitors.files is 'Keys of its pictures, thumbnails and clips in the bucket.';
