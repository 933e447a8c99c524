#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""The tables of the journal, and how an older one becomes the present one.

A migration is never changed once it was released; a change of the tables is
one more migration at the end.  ``PRAGMA user_version`` counts those that were
applied.
"""

import sqlite3
import typing

#: 'VOLJ', in the header of the file: PRAGMA application_id
APPLICATION_ID: typing.Final = 0x564F4C4A

# One row for each use of a volume by a guest; it exists as long as anything of
# that may be on the host.  Columns are what is searched for or shown to
# somebody with sqlite3 in hand; what only code reads is JSON.
_ATTACHMENTS = """
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
"""

# One row for each attachment that this host has in Cinder, from before it is
# asked for until Cinder has let it go; what the host has is in the other table.
_RESERVATIONS = """
CREATE TABLE reservations (
    key TEXT NOT NULL PRIMARY KEY,      -- <domain uuid>/<volume id>
    endpoint TEXT NOT NULL,             -- of Cinder
    host TEXT NOT NULL,                 -- what Cinder calls this host
    domain_uuid TEXT NOT NULL,
    domain_name TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    volume_name TEXT NOT NULL,
    flow TEXT NOT NULL,                 -- attachment, or legacy
    attachment_id TEXT,                 -- NULL: not known yet
    instance TEXT,                      -- that the attachment names
    project TEXT,                       -- whose the volume is; NULL: not known
    mode TEXT NOT NULL,                 -- rw, ro
    operation TEXT,                     -- attach, detach ...; NULL: attached, and at rest
    step TEXT NOT NULL,                 -- the last one that was begun
    problem TEXT NOT NULL,
    process INTEGER NOT NULL,           -- id of the process that wrote last
    began REAL NOT NULL,                -- seconds since the epoch
    changed REAL NOT NULL,
    connector TEXT NOT NULL,            -- JSON, who this host said it is
    wanted TEXT NOT NULL                -- JSON, what the operation is for
) STRICT
"""

MIGRATIONS: typing.Final[tuple[tuple[str, ...], ...]] = (
    (
        _ATTACHMENTS,
        'CREATE INDEX attachments_of_domain ON attachments (domain_uuid)',
        'CREATE INDEX attachments_of_volume ON attachments (volume_id)',
        f'PRAGMA application_id = {APPLICATION_ID}',
    ),
    (
        _RESERVATIONS,
        'CREATE INDEX reservations_of_volume ON reservations (volume_id)',
    ),
    # Who puts the disk into the guest, such as nova; '': this package.
    ("ALTER TABLE attachments ADD COLUMN manager TEXT NOT NULL DEFAULT ''",),
)

VERSION: typing.Final = len(MIGRATIONS)


def problem(connection: sqlite3.Connection) -> str | None:
    """Say why a database is not to be touched; None: it is ours, or empty."""
    application = _number(connection, 'application_id')
    version = _number(connection, 'user_version')
    if application != APPLICATION_ID:
        if application == 0 and version == 0 and not _has_tables(connection):
            return None
        return 'it belongs to another program; let [volumedrivers]state_path be another directory'
    if version > VERSION:
        return (
            f'it is of version {version}, and this release knows {VERSION} at most: '
            'a newer release wrote it; install that one again'
        )
    return None


def is_current(connection: sqlite3.Connection) -> bool:
    """Tell whether nothing has to be migrated."""
    return (
        _number(connection, 'user_version') == VERSION
        and _number(connection, 'application_id') == APPLICATION_ID
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing; the caller has a transaction, and commits it."""
    applied = _number(connection, 'user_version')
    for statements in MIGRATIONS[applied:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f'PRAGMA user_version = {VERSION}')


def _number(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f'PRAGMA {name}').fetchone()[0])


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute('SELECT 1 FROM sqlite_master LIMIT 1').fetchone() is not None
