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

"""Stand-in of StorPool's management API, as far as a host with volumes calls it.

    python -m tests.lab.standins.storpool_api

os-brick speaks the API itself (``initiator/storpool_utils.py``): JSON over
HTTP, a token in the Authorization header, ``{"data": ...}`` or ``{"error":
{"name", "descr", "transient"}}`` in every answer.  The types of the parameters
are those of the vendor's Python package storpool (``sptypes.py``,
VolumesReassignWaitDesc and VolumeReassignDesc); a field that is not among them
is refused, as that package and the service do.
"""

import json
import re
import typing

from tests.lab.standins import http_service
from tests.lab.standins import storpool_books
from tests.lab.standins.client_device import InUse
from tests.lab.storage.image_volume import image_path

_CALL = re.compile(r'/ctrl/1\.0/(?:MultiCluster/)?(\w+)(?:/([^/]+))?')
_NAME = re.compile(r'#?[A-Za-z0-9_.:-]{1,200}|~[a-z0-9]+\.[a-z0-9]+\.[a-z0-9]+')
_FIELDS = {'volume', 'detach', 'ro', 'rw', 'force', 'allowRemoteExported', 'onRemoteAttached'}
_MOST_CLIENTS = 32767


def refused(name: str, descr: str, status: int = 400) -> http_service.Refusal:
    """Return an error as the API tells it."""
    return http_service.Refusal(
        status, {'error': {'name': name, 'descr': descr, 'transient': False}, 'generation': 1}
    )


class Api(http_service.Handler):
    """One connection to the API."""

    def respond(self, method: str, path: str, body: bytes) -> object:
        if self.headers.get('Authorization') != f'Storpool v1:{storpool_books.TOKEN}':
            raise refused('invalidAuth', 'Invalid authentication token', status=403)
        found = _CALL.fullmatch(path)
        action = _ACTIONS.get((method, found[1])) if found else None
        if found is None or action is None:
            raise refused('notFound', f'No such API call: {method} {path}', status=404)
        takes_volume, act = action
        if takes_volume != (found[2] is not None):
            raise refused('invalidParam', f'{found[1]}: wrong number of parameters')
        return {'data': act(_volume(found[2]) if takes_volume else _json(body)), 'generation': 1}


def reassign_wait(given: dict[str, typing.Any]) -> dict[str, bool]:
    """Attach and detach volumes; return when their hosts have followed."""
    if set(given) - {'reassign', 'attachTimeout'}:
        raise _unknown(set(given) - {'reassign', 'attachTimeout'})
    entries = given.get('reassign')
    if not isinstance(entries, list) or not entries:
        raise refused('invalidParam', '"reassign" is not a list of volumes')
    # All of it is checked before anything is done.
    for volume_id, rights, force in [_entry(entry) for entry in entries]:
        try:
            storpool_books.set_attached(volume_id, rights, force=force)
        except InUse as error:
            name = storpool_books.VOLUMES.load(volume_id)['name']
            text = f"Volume '{name}' is open at client {storpool_books.CLIENT}"
            print(f'{text}: {error}', flush=True)
            raise refused('busy', text, status=409) from None
    return {'ok': True}


def _entry(entry: object) -> tuple[str, str | None, bool]:
    """Return a volume's UUID, its new rights, and whether it is forced."""
    if not isinstance(entry, dict):
        raise refused('invalidParam', 'an entry of "reassign" is not an object')
    if set(entry) - _FIELDS:
        raise _unknown(set(entry) - _FIELDS)
    volume_id, _ = _volume(entry.get('volume'))
    if not isinstance(entry.get('force', False), bool):
        raise refused('invalidParam', '"force" is not a boolean')
    asked = {key: _clients(key, entry[key]) for key in ('detach', 'ro', 'rw') if key in entry}
    if len(asked) != 1:
        raise refused('invalidParam', f'one of detach, ro, rw is needed, not {sorted(asked)}')
    kind = next(iter(asked))
    return volume_id, None if kind == 'detach' else kind, entry.get('force', False)


def _clients(key: str, value: object) -> None:
    if key == 'detach' and value == 'all':
        return
    if not isinstance(value, list) or not value:
        raise refused('invalidParam', f'"{key}" is not a list of clients')
    for client in value:
        try:
            number = int(client)
        except (TypeError, ValueError):
            raise refused('invalidParam', f'{client!r} is not a client id') from None
        if not 1 <= number <= _MOST_CLIENTS:
            raise refused('invalidParam', f'{number} is not a client id')
        if number != storpool_books.CLIENT:
            raise refused('objectDoesNotExist', f'Client {number} is not in the cluster')


def summary(volume: tuple[str, dict[str, typing.Any]]) -> list[dict[str, typing.Any]]:
    """Return a volume as Volume/NAME does: a list of one."""
    return [info(volume)]


def info(volume: tuple[str, dict[str, typing.Any]]) -> dict[str, typing.Any]:
    """Return a volume as VolumeGetInfo/NAME does."""
    volume_id, record = volume
    return {
        'name': record['name'],
        'globalId': record['global_id'],
        'size': image_path(storpool_books.VOLUMES, volume_id).stat().st_size,
        'replication': 3,
    }


def attachments(_: object) -> list[dict[str, typing.Any]]:
    """Return all attachments."""
    return [
        {
            'volume': record['name'],
            'globalId': record['global_id'],
            'client': storpool_books.CLIENT,
            'rights': record['rights'],
            'snapshot': False,
        }
        for record in storpool_books.VOLUMES.all().values()
        if record['rights']
    ]


def _volume(name: object) -> tuple[str, dict[str, typing.Any]]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refused('invalidParam', f'{name!r} is not the name of a volume')
    found = storpool_books.find(name)
    if found is None:
        raise refused('objectDoesNotExist', f"Volume '{name}' does not exist.", status=404)
    return found


def _json(body: bytes) -> dict[str, typing.Any]:
    if not body:
        return {}
    return http_service.parameters(body, lambda text: refused('invalidJson', text))


def _unknown(fields: set[str]) -> http_service.Refusal:
    return refused('invalidParam', f'Unknown fields: {json.dumps(sorted(fields))}')


_ACTIONS: dict[tuple[str, str], tuple[bool, typing.Callable[[typing.Any], object]]] = {
    ('POST', 'VolumesReassignWait'): (False, reassign_wait),
    ('GET', 'Volume'): (True, summary),
    ('GET', 'VolumeGetInfo'): (True, info),
    ('GET', 'AttachmentsList'): (False, attachments),
}


if __name__ == '__main__':
    http_service.Server((storpool_books.ADDRESS, storpool_books.PORT), Api).serve_forever()
