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

"""The Cinder that the tests share, and what one of them leaves in it for the next: nothing."""

import contextlib
import os
import pathlib
import sqlite3
import time
import typing

from openstack import exceptions as sdk

from tests.functional.cinder.made_volumes import wait_for
from volumedrivers.testing.cinder.embedded import EmbeddedCinder

_ATTEMPTS = 5
_SECONDS = 20.0
_OF_CINDER = '__DEFAULT__'
# Cinder answers before they are gone.
_DELETED_LATER = ('snapshot', 'volume')


# What tests make, by the table that Cinder keeps it in.
_TABLES = {
    'attachment': 'select id from volume_attachment where not deleted',
    'snapshot': 'select id from snapshots where not deleted',
    'volume': 'select id from volumes where not deleted',
    'type': 'select id, name from volume_types where not deleted',
    'qos': 'select id from quality_of_service_specs where specs_id is null and not deleted',
}


def contents(cinder: EmbeddedCinder) -> list[tuple[str, str]]:
    """Return what is in it that it did not have at first: kind and id of each.

    Asked of its database, which takes a hundredth of what its API takes.
    """
    own = {*cinder.volume_types, _OF_CINDER}
    with contextlib.closing(sqlite3.connect(cinder.directory / 'cinder.sqlite')) as database:
        return [
            (kind, row[0])
            for kind, query in _TABLES.items()
            for row in database.execute(query)
            if own.isdisjoint(row)
        ]


def files(cinder: EmbeddedCinder) -> list[pathlib.Path]:
    """Return the files of its back ends."""
    return [
        path
        for backend in cinder.backends
        for path in getattr(backend, 'files', pathlib.Path()).iterdir()
    ]


def sweep(cinder: EmbeddedCinder) -> None:
    """Remove what a test has left, in whatever state it is."""
    proxy: typing.Any = cinder.connection.block_storage
    for _ in range(_ATTEMPTS):
        left = contents(cinder)
        if not left:
            break
        for kind, found in left:
            with contextlib.suppress(sdk.HttpException):
                _remove(proxy, kind, found)
        deleted = [one for one in left if one[0] in _DELETED_LATER]
        end = time.monotonic() + _SECONDS
        while not set(contents(cinder)).isdisjoint(deleted) and time.monotonic() < end:
            time.sleep(0.02)
    assert left == []
    assert files(cinder) == []


def _remove(proxy: typing.Any, kind: str, found: str) -> None:
    if kind == 'attachment':
        proxy.delete_attachment(found)
    elif kind == 'snapshot':
        proxy.reset_snapshot_status(found, 'available')
        proxy.delete_snapshot(found)
    elif kind == 'volume':
        volume = proxy.get_volume(found)
        if volume.status in {'creating', 'deleting', 'extending'}:
            wait_for(lambda: proxy.get_volume(found), 'available')
        proxy.reset_volume_status(volume, status='available', attach_status='detached')
        proxy.delete_volume(volume)
    elif kind == 'type':
        proxy.delete_type(found)
    elif kind == 'qos':
        proxy.delete(f'/qos-specs/{found}', params={'force': True})


def exported_below(directory: pathlib.Path) -> list[int]:
    """Return the exported_below that have a file below a directory open."""
    found = []
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            if (process / 'comm').read_text().strip() != 'tgtd':
                continue
            opened = [os.readlink(link) for link in (process / 'fd').iterdir()]
        except OSError:
            continue  # it has ended
        if any(name.startswith(f'{directory}/') for name in opened):
            found.append(int(process.name))
    return found
