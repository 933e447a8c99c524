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
import typing

from openstack import exceptions as sdk

from tests.functional.cinder.made_volumes import wait_for
from volumedrivers.testing.cinder.embedded import EmbeddedCinder

_ATTEMPTS = 5
_OF_CINDER = '__DEFAULT__'


def contents(cinder: EmbeddedCinder) -> list[str]:
    """Return what is in it that it did not have at first."""
    proxy: typing.Any = cinder.connection.block_storage
    return [
        *(f'attachment {one.id}' for one in proxy.attachments(all_projects=True)),
        *(f'snapshot {one.id}' for one in proxy.snapshots(all_projects=True)),
        *(f'volume {one.id}' for one in proxy.volumes(all_projects=True)),
        *(f'type {one.id}' for one in _types(proxy, cinder)),
        *(f'qos {one["id"]}' for one in proxy.get('/qos-specs').json()['qos_specs']),
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
        _remove(proxy, cinder)
    assert left == []
    assert files(cinder) == []


def _types(proxy: typing.Any, cinder: EmbeddedCinder) -> list[typing.Any]:
    own = {*cinder.volume_types, _OF_CINDER}
    return [one for one in proxy.types() if one.name not in own]


def _remove(proxy: typing.Any, cinder: EmbeddedCinder) -> None:
    for attachment in proxy.attachments(all_projects=True):
        with contextlib.suppress(sdk.HttpException):
            proxy.delete_attachment(attachment)
    for snapshot in proxy.snapshots(all_projects=True):
        with contextlib.suppress(sdk.HttpException):
            proxy.reset_snapshot_status(snapshot, 'available')
            proxy.delete_snapshot(snapshot)
            proxy.wait_for_delete(snapshot, interval=0.05, wait=20)
    for volume in proxy.volumes(all_projects=True):
        with contextlib.suppress(sdk.HttpException):
            if volume.status in {'creating', 'deleting', 'extending'}:
                wait_for(lambda one=volume: proxy.get_volume(one.id), 'available')
            proxy.reset_volume_status(volume, status='available', attach_status='detached')
            proxy.delete_volume(volume)
            proxy.wait_for_delete(volume, interval=0.05, wait=20)
    for made in _types(proxy, cinder):
        with contextlib.suppress(sdk.HttpException):
            proxy.delete_type(made)
    for spec in proxy.get('/qos-specs').json()['qos_specs']:
        proxy.delete(f'/qos-specs/{spec["id"]}', params={'force': True})


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
