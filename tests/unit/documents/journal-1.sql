PRAGMA application_id = 1448037450;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE attachments (
    key TEXT NOT NULL PRIMARY KEY,      -- <domain uuid>/<volume id>
    boot_id TEXT NOT NULL,              -- the boot in which the host side was made
    host TEXT NOT NULL,                 -- what Cinder calls this host
    domain_uuid TEXT NOT NULL,
    domain_name TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    attachment_id TEXT,                 -- Cinder's
    protocol TEXT NOT NULL,             -- driver_volume_type
    identity TEXT,                      -- kind:value, such as wwn:naa.6001
    target TEXT,                        -- name of the guest's disk, such as vdb
    source TEXT NOT NULL,               -- what libvirt was given
    operation TEXT,                     -- attach, detach ...; NULL: attached, and at rest
    step TEXT NOT NULL,                 -- the last one that was begun
    was_attached INTEGER NOT NULL,      -- 1: the guest had it before the operation
    problem TEXT NOT NULL,              -- why the operation stopped; '': nothing known
    process INTEGER NOT NULL,           -- id of the process that wrote last
    began REAL NOT NULL,                -- seconds since the epoch
    changed REAL NOT NULL,
    connection_info TEXT NOT NULL,      -- JSON, secrets are ***
    volume TEXT,                        -- JSON, the volume as it was connected
    disk TEXT NOT NULL,                 -- JSON, the disk that was asked for
    encryption TEXT,                    -- JSON, Cinder's encryption metadata
    opened TEXT,                        -- JSON, how an encrypted volume was opened
    wanted TEXT NOT NULL                -- JSON, what the operation is for
) STRICT
;
INSERT INTO "attachments" VALUES('domain-1/volume-1','boot-1','host1','domain-1','name of domain-1','volume-1','a-1','iscsi','wwn:naa.6001','vdb','/dev/disk/by-id/wwn-1','detach','disconnect',1,'it was killed',18892,5.0,1.79526073698040032383e+09,'{"driver_volume_type":"iscsi","data":{"target_lun":1}}','{"driver_volume_type":"iscsi","volume_id":"volume-1","source_type":"block","path":"/dev/disk/by-id/wwn-1","source":null,"format":"raw","identity":{"kind":"wwn","value":"naa.6001"},"multipath_id":"36001","paths":{"asked":2,"found":1,"failed":[{"name":"10.0.0.2:3260","reason":"no answer"}]},"seconds":1.5,"use_multipath":true,"device_info":{"type":"block","path":"/dev/dm-3","scsi_wwn":"36001","n":[1,null]}}','{"bus":"scsi"}','{"provider":"luks","encryption_key_id":"k"}','{"provider":"luks","by":"qemu","secret_uuid":"s-1","path":null,"engine":null,"header_size":2068480}','{"force":true}');
CREATE INDEX attachments_of_domain ON attachments (domain_uuid);
CREATE INDEX attachments_of_volume ON attachments (volume_id);
COMMIT;
