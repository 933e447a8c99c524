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

"""The journal: what is attached on this host, and what is being done with it.

Written before something is done and after it was done, so that whoever comes
after a crash knows what may be there.  Nothing secret is in it.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import json
import logging
import math
import os
import sqlite3
import time
import typing

from volumedrivers import connection_tree
from volumedrivers import exception
from volumedrivers import secret_names
from volumedrivers.attachment.journal_database import Database
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport

LOG = logging.getLogger(__name__)

_PLAIN = (
    'key',
    'boot_id',
    'host',
    'domain_uuid',
    'domain_name',
    'volume_id',
    'attachment_id',
    'protocol',
    'identity',
    'target',
    'source',
    'operation',
    'step',
    'was_attached',
    'problem',
    'process',
    'began',
    'changed',
    'manager',
)
_JSON = ('connection_info', 'volume', 'disk', 'encryption', 'opened', 'wanted')
_COLUMNS = _PLAIN + _JSON
_SELECT = f'SELECT {", ".join(_COLUMNS)} FROM attachments'  # noqa: S608 - constants
# Not REPLACE, which would write the indexes anew.
_PUT = (
    f'INSERT INTO attachments ({", ".join(_COLUMNS)}) '  # noqa: S608 - constants
    f'VALUES ({", ".join(":" + column for column in _COLUMNS)}) '
    f'ON CONFLICT (key) DO UPDATE SET '
    f'{", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])}'
)
# What a volume consists of; os-brick's own objects are none of these.
_DATA = (ConnectedVolume, Identity, NetworkSource, NetworkHost, PathReport, FailedPath)
_Row = tuple[typing.Any, ...]


class Journal:
    """The rows of one journal; any number of threads and processes use it.

    A call is one short transaction, and has reached the disk when it
    returns.  The file is made when it is first used, mode 0600.

    Every method raises JournalUnusable, which says why and what to do, and
    Busy when others did not let it write in time.
    """

    def __init__(self, path: str, *, timeout: float = 30.0) -> None:
        """Open nothing yet.

        :param path: of the file; its directory is made if need be
        :param timeout: seconds to wait for others who are writing
        """
        self._path = path
        self._database = Database(path, timeout=timeout)

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def database(self) -> Database:
        """For the other tables of the file."""
        return self._database

    def get(self, key: str) -> Record | None:
        """Return the row of that key; None: there is none."""
        with self._database.transaction(write=False) as connection:
            row = connection.execute(f'{_SELECT} WHERE key = ?', (key,)).fetchone()
        return None if row is None else self._record(row)

    def find(
        self,
        *,
        volume_id: str | None = None,
        domain_uuid: str | None = None,
        identity: str | None = None,
        unfinished: bool | None = None,
    ) -> tuple[Record, ...]:
        """Return the rows to which all that is given applies, in a fixed order.

        :param identity: of the volume, as str(Identity) writes it
        :param unfinished: whether an operation is under way, or was interrupted
        :return: by name of the guest, name of the disk, and volume
        """
        conditions = []
        values = []
        if volume_id is not None:
            conditions.append('volume_id = ?')
            values.append(volume_id)
        if domain_uuid is not None:
            conditions.append('domain_uuid = ?')
            values.append(domain_uuid)
        if identity is not None:
            conditions.append('identity = ?')
            values.append(identity)
        if unfinished is not None:
            conditions.append(f'operation IS {"NOT " if unfinished else ""}NULL')
        with self._database.transaction(write=False) as connection:
            return self._select(connection, conditions, values)

    def put(self, record: Record) -> Record:
        """Write a row, whether or not there was one of that key.

        What ``device_info`` holds beside plain values is left out: some of
        os-brick's connectors return objects.

        :return: the record, with the time and this process in it
        """
        stamped = _stamped(record)
        row = _row(stamped)
        with self._database.transaction(write=True) as connection:
            connection.execute(_PUT, row)
        return stamped

    def remove(self, key: str) -> bool:
        """Remove a row; tell whether there was one."""
        with self._database.transaction(write=True) as connection:
            return connection.execute('DELETE FROM attachments WHERE key = ?', (key,)).rowcount > 0

    def reserve(self, key: str, choose: Callable[[tuple[Record, ...]], Record]) -> Record:
        """Write a row that depends on the guest's other rows.

        Nobody else writes from the moment they are read until this one is
        written: ``choose`` must be quick, and must not use the journal.  What
        it raises is raised, and nothing is written.

        :param key: of the row to write
        :param choose: gets the other rows of the same guest, and returns the
            record to write
        :return: the record, with the time and this process in it
        """
        with self._database.transaction(write=True) as connection:
            others = self._select(
                connection,
                ['domain_uuid = ?', 'key != ?'],
                [key.partition('/')[0], key],
            )
            stamped = _stamped(choose(others))
            if stamped.key != key:
                raise ValueError(f'{key} was to be written, not {stamped.key}')
            connection.execute(_PUT, _row(stamped))
        return stamped

    def check(self) -> None:
        """Read all of it; an error says what is wrong with it."""
        with self._database.transaction(write=False) as connection:
            problems = [row[0] for row in connection.execute('PRAGMA quick_check')]
            if problems != ['ok']:
                raise self._damaged('; '.join(problems[:3]))
            self._select(connection, [], [])

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._database.close()

    def _select(
        self, connection: sqlite3.Connection, conditions: list[str], values: list[str]
    ) -> tuple[Record, ...]:
        where = f' WHERE {" AND ".join(conditions)}' if conditions else ''
        rows = connection.execute(_SELECT + where, values).fetchall()
        return tuple(sorted(map(self._record, rows), key=_order))

    def _record(self, row: _Row) -> Record:
        try:
            return _from_row(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged(f'row {row[0]}: {error}') from error

    def _damaged(self, reason: str) -> exception.JournalUnusable:
        return exception.JournalUnusable(
            path=self._path,
            reason=f'it is damaged ({reason}); move it away together with its -wal and -shm, '
            'and let "volumedrivers audit" show what is on this host',
        )


def _order(record: Record) -> tuple[str, str, str]:
    return record.domain_name, record.target or '', record.volume_id


def _stamped(record: Record) -> Record:
    return dataclasses.replace(record, changed=time.time(), process=os.getpid())


def _row(record: Record) -> dict[str, object]:
    volume = record.volume
    identity = volume.identity if volume is not None else None
    return {
        'key': record.key,
        'boot_id': record.boot_id,
        'host': record.host,
        'domain_uuid': record.domain_uuid,
        'domain_name': record.domain_name,
        'volume_id': record.volume_id,
        'attachment_id': record.attachment_id,
        'protocol': record.driver_volume_type,
        'identity': None if identity is None else str(identity),
        'target': record.target,
        'source': secret_names.mask_urls(record.source),
        'operation': None if record.operation is None else str(record.operation),
        'step': record.step,
        'was_attached': record.was_attached,
        'problem': secret_names.mask_urls(record.problem),
        'process': record.process,
        'began': record.began,
        'changed': record.changed,
        'manager': record.manager,
        'connection_info': _json(record.connection_info),
        'volume': None if volume is None else _json(_plain(volume)),
        'disk': _json(record.disk),
        'encryption': None if record.encryption is None else _json(record.encryption),
        'opened': None if record.opened is None else _json(dataclasses.asdict(record.opened)),
        'wanted': _json(record.wanted),
    }


def _from_row(row: _Row) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _JSON:
        if values[name] is not None:
            values[name] = json.loads(values[name])
    del values['identity']
    values['driver_volume_type'] = values.pop('protocol')
    values['was_attached'] = bool(values['was_attached'])
    if values['volume'] is not None:
        values['volume'] = ConnectedVolume.from_dict(values['volume'])
    if values['opened'] is not None:
        values['opened'] = Opened(**values['opened'])
    if values['operation'] is not None:
        values['operation'] = Operation(values['operation'])
    return Record(**values)


def _json(value: object) -> str:
    # No record is made with a secret in it; if one is all the same, it must
    # not reach the disk.
    return json.dumps(connection_tree.shown(value), separators=(',', ':'), allow_nan=False)


class _Dropped:
    """Stands for what JSON cannot hold."""


_DROPPED = _Dropped()


def _plain(value: object) -> object:
    """Return a copy with what JSON can hold, and nothing else."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _DROPPED
    if isinstance(value, _DATA):
        # As dataclasses.asdict does it, which copies what it cannot name.
        value = vars(value)
    if isinstance(value, Mapping):
        items = {key: _plain(item) for key, item in value.items() if isinstance(key, str)}
        return {key: item for key, item in items.items() if item is not _DROPPED}
    if isinstance(value, list | tuple):
        return [item for item in map(_plain, value) if item is not _DROPPED]
    return _DROPPED
