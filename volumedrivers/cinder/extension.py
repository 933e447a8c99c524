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

"""Let Cinder extend a volume, and tell it how that ended where it waits for it.

Most drivers of Cinder extend a volume, and Cinder tells the hosts afterwards.
One that cannot while the volume is attached, because only the guest's QEMU can
grow the file, may leave that to the host: the volume stays ``extending`` until
the host has said how it ended (microversion 3.71).
"""

import time
import typing

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from volumedrivers.cinder.block_storage import BlockStorage

GIB = 2**30
#: states in which Cinder takes the request
READY = ('available', 'in-use')
EXTENDING = 'extending'
FAILED = 'error_extending'
# Where Cinder writes the size that it waits for; among the metadata it hides
# what a user has put there.
_AWAITED = 'extend_new_size'
_POLL = 0.1
_LONGEST_POLL = 2.0


def gibibytes(size: int) -> int:
    """Return how large Cinder has to make what is to have ``size`` bytes."""
    return -(-size // GIB)


def awaited_size(volume: typing.Any) -> int | None:
    """Return the GiB that Cinder waits for this host to grow the volume to.

    :param volume: the SDK's
    :returns: None: it does not wait, or does not say for what
    """
    if volume.status != EXTENDING:
        return None
    text = str((volume.metadata or {}).get(_AWAITED, ''))
    if not (text.isascii() and text.isdigit()) or int(text) <= volume.size:
        return None
    return int(text)


def ask(storage: 'BlockStorage', volume_id: str, size: int) -> None:
    """Ask Cinder to extend a volume; it goes on by itself.

    :param size: GiB
    :raises CinderUnavailable: it did not answer, and has not begun
    :raises CinderError: it refuses, for example by a quota
    """
    try:
        storage.tell(storage.proxy.extend_volume, volume_id, size)
    except exception.CinderUnavailable as error:
        if not error.may_be_done:
            raise
        volume = storage.ask(storage.proxy.get_volume, volume_id)
        if volume.status != EXTENDING and volume.size < size:
            raise


def wait(storage: 'BlockStorage', volume_id: str, size: int, *, seconds: float) -> typing.Any:
    """Return the volume when it is extended, has failed to be, or Cinder waits for the host.

    :param size: GiB that were asked for.  A size that Cinder shows and nobody
        asked for is not believed: where Cinder does not wait at all, a user
        can have written it there.
    :raises DeadlineExceeded
    """
    end = time.monotonic() + seconds
    pause = _POLL
    while True:
        volume = storage.ask(storage.proxy.get_volume, volume_id)
        if volume.status != EXTENDING or awaited_size(volume) == size:
            return volume
        if time.monotonic() > end:
            raise exception.DeadlineExceeded(
                what=f'Cinder, where volume {volume_id} is {volume.status}', seconds=seconds
            )
        time.sleep(pause)
        pause = min(_LONGEST_POLL, pause * 1.5)


def complete(storage: 'BlockStorage', volume_id: str, *, error: bool) -> bool:
    """Tell Cinder how extending ended on the host.

    :param error: it failed; Cinder has the volume in error_extending then
    :returns: False: Cinder does not wait for that
    :raises CinderUnavailable, CinderForbidden
    """
    for again in range(storage.retries, -1, -1):
        try:
            storage.tell(storage.proxy.complete_volume_extend, volume_id, error=error)
        except exception.CinderError as refused:
            if refused.status != 400:
                raise
            return False
        except exception.CinderUnavailable:
            # It may have heard, and would not hear it twice.
            volume = storage.ask(storage.proxy.get_volume, volume_id)
            if volume.status != EXTENDING:
                return True
            if not again:
                raise
            continue
        return True
    raise AssertionError('not reached')


def usable_state(volume: typing.Any) -> str:
    """Return the state that a volume would have if it had never been extended.

    :param volume: the SDK's
    """
    return 'in-use' if volume.attachments else 'available'


def make_usable(storage: 'BlockStorage', volume: typing.Any) -> typing.Any:
    """Let a volume that could not be extended be used, and extended, again.

    :param volume: the SDK's, in error_extending
    :returns: the same, as it is now
    :raises CinderForbidden: it takes an administrator
    """
    storage.tell(storage.proxy.reset_volume_status, volume.id, status=usable_state(volume))
    return storage.ask(storage.proxy.get_volume, volume.id)
