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

"""The journal's table of what this host has in Cinder."""

import dataclasses
import json
import os
import time
import typing

from volumedrivers import connection_tree
from volumedrivers import exception
from volumedrivers import secret_names
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.journal_database import Database

_COLUMNS = tuple(field.name for field in dataclasses.fields(Reservation))
_JSON = ('connector', 'wanted')
_SELECT = f'SELECT {", ".join(_COLUMNS)} FROM reservations'  # noqa: S608 - constants
_PUT = (
    f'INSERT INTO reservations ({", ".join(_COLUMNS)}) '  # noqa: S608 - constants
    f'VALUES ({", ".join(":" + column for column in _COLUMNS)}) '
    f'ON CONFLICT (key) DO UPDATE SET '
    f'{", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])}'
)


class Reservations:
    """The rows; a call is one short transaction, and has reached the disk when it returns.

    Every method raises JournalUnusable and Busy, as those of Journal do.
    """

    def __init__(self, database: Database) -> None:
        """Open nothing yet.

        :param database: the journal's
        """
        self._database = database

    @property
    def path(self) -> str:
        """The journal's file."""
        return self._database.path

    def get(self, key: str) -> Reservation | None:
        """Return the row of that key; None: there is none."""
        with self._database.transaction(write=False) as connection:
            row = connection.execute(f'{_SELECT} WHERE key = ?', (key,)).fetchone()
        return None if row is None else self._reservation(row)

    def find(
        self, *, volume_id: str | None = None, domain_uuid: str | None = None
    ) -> tuple[Reservation, ...]:
        """Return the rows to which all that is given applies, by guest and volume."""
        given = {'volume_id': volume_id, 'domain_uuid': domain_uuid}
        wanted = {name: value for name, value in given.items() if value is not None}
        where = f' WHERE {" AND ".join(f"{name} = ?" for name in wanted)}' if wanted else ''
        with self._database.transaction(write=False) as connection:
            rows = connection.execute(_SELECT + where, tuple(wanted.values())).fetchall()
        found = map(self._reservation, rows)
        return tuple(sorted(found, key=lambda one: (one.domain_name, one.volume_id)))

    def put(self, reservation: Reservation) -> Reservation:
        """Write a row; return it with the time and this process in it."""
        stamped = dataclasses.replace(reservation, changed=time.time(), process=os.getpid())
        values = {name: getattr(stamped, name) for name in _COLUMNS}
        for name in _JSON:
            values[name] = json.dumps(
                connection_tree.shown(dict(values[name])), separators=(',', ':')
            )
        values['flow'] = str(stamped.flow)
        values['operation'] = None if stamped.operation is None else str(stamped.operation)
        values['problem'] = secret_names.mask_urls(stamped.problem)
        with self._database.transaction(write=True) as connection:
            connection.execute(_PUT, values)
        return stamped

    def remove(self, key: str) -> bool:
        """Remove a row; tell whether there was one."""
        with self._database.transaction(write=True) as connection:
            gone = connection.execute('DELETE FROM reservations WHERE key = ?', (key,))
            return gone.rowcount > 0

    def _reservation(self, row: tuple[typing.Any, ...]) -> Reservation:
        try:
            values = dict(zip(_COLUMNS, row, strict=True))
            for name in _JSON:
                values[name] = json.loads(values[name])
            values['flow'] = Flow(values['flow'])
            if values['operation'] is not None:
                values['operation'] = Operation(values['operation'])
            return Reservation(**values)
        except (ValueError, TypeError) as error:
            raise exception.JournalUnusable(
                path=self._database.path,
                reason=f'row {row[0]} of the reservations is damaged ({error}); "sqlite3" can '
                'remove it, and "volumedrivers audit" then shows what Cinder has',
            ) from error
