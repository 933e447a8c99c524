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

"""Volumes as Cinder has them: found by name, in a state that allows what is wanted."""

from collections.abc import Collection
from collections.abc import Mapping
import time
import typing
import uuid

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from volumedrivers.cinder.block_storage import BlockStorage

#: states that pass by themselves
PASSING = frozenset(
    (
        'creating',
        'reserved',
        'attaching',
        'detaching',
        'extending',
        'retyping',
        'maintenance',
        'awaiting-transfer',
        'backing-up',
        'restoring-backup',
        'downloading',
        'uploading',
        'deleting',
    )
)
_POLL = 0.1


def find(storage: 'BlockStorage', volume: str) -> typing.Any:
    """Return the SDK's Volume of an id, or of a name that only one has.

    :raises VolumeNotFound, VolumeNotUnique
    """
    if _is_id(volume):
        try:
            return get(storage, volume)
        except exception.NotInCinder:
            pass  # it may be a name all the same
    found = named(storage, volume) if volume else []
    if not found:
        raise exception.VolumeNotFound(volume=volume, endpoint=storage.endpoint)
    if len(found) > 1:
        raise exception.VolumeNotUnique(volume=volume, endpoint=storage.endpoint)
    return found[0]


def named(storage: 'BlockStorage', name: str) -> list[typing.Any]:
    """Return all of the SDK's Volumes of a name that is not empty."""

    # A name is never part of an address: it may be '..', or 'a?b'.
    def find_volume() -> list[typing.Any]:
        return [one for one in storage.proxy.volumes(name=name) if one.name == name]

    return storage.ask(find_volume)


def get(storage: 'BlockStorage', volume_id: str) -> typing.Any:
    """Return the SDK's Volume of an id.

    :raises NotInCinder
    """

    def get_volume() -> typing.Any:
        found = storage.proxy.get_volume(volume_id)
        if not found.status:
            # The SDK makes a volume of every answer.
            raise exception.CinderUnavailable(
                endpoint=storage.endpoint,
                action='get volume',
                reason='its answer is not that of Cinder',
                may_be_done=False,
                answered=True,
            )
        return found

    return storage.ask(get_volume)


def require(volume: typing.Any, expected: Collection[str]) -> None:
    """Refuse a volume whose state does not allow what is wanted.

    :param expected: states that do
    :raises Busy: it is in one that passes
    :raises WrongVolumeState
    """
    if volume.status in expected:
        return
    wanted = ' or '.join(expected)
    if volume.status in PASSING:
        raise exception.Busy(
            what=f'volume {volume.id}', reason=f'it is {volume.status} in Cinder, not {wanted}'
        )
    raise exception.WrongVolumeState(volume_id=volume.id, status=volume.status, expected=wanted)


def wait(
    storage: 'BlockStorage', volume_id: str, passing: Collection[str], *, seconds: float
) -> typing.Any:
    """Return the volume as soon as it is in none of the states that pass.

    :raises DeadlineExceeded
    :raises VolumeNotFound
    """
    end = time.monotonic() + seconds
    pause = _POLL
    while True:
        try:
            volume = get(storage, volume_id)
        except exception.NotInCinder as error:
            raise exception.VolumeNotFound(volume=volume_id, endpoint=storage.endpoint) from error
        if volume.status not in passing:
            return volume
        if time.monotonic() > end:
            raise exception.DeadlineExceeded(
                what=f'Cinder, where volume {volume_id} is {volume.status}', seconds=seconds
            )
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)


def is_read_only(volume: typing.Any) -> bool:
    """Tell whether Cinder lets nobody write to a volume (``os-update_readonly_flag``).

    :param volume: the SDK's
    """
    return str((volume.metadata or {}).get('readonly', '')).lower() == 'true'


def encryption(storage: 'BlockStorage', volume_id: str) -> Mapping[str, typing.Any]:
    """Return what Cinder says of a volume's encryption; the SDK has no call for it.

    :raises NotInCinder
    """

    def encryption_of_volume() -> Mapping[str, typing.Any]:
        from openstack import exceptions as sdk  # noqa: PLC0415

        answer = storage.proxy.get(f'/volumes/{volume_id}/encryption')
        sdk.raise_from_response(answer)
        found: Mapping[str, typing.Any] = answer.json()
        return found

    return storage.ask(encryption_of_volume)


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
