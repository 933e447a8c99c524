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

"""Extend a volume: Cinder, then every guest of this host that has it.

Nothing is undone: a volume does not shrink again.  Called again after any
failure it goes on where it stopped, because each part is left out where the
size is there already.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage import users
from volumedrivers.attachment.block_storage.extended_event import ExtendedEvent
from volumedrivers.attachment.block_storage.results import VolumeExtendResult
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.cinder import extension
from volumedrivers.cinder import volumes
from volumedrivers.sizes import check_size

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext

LOG = logging.getLogger(__name__)

OPERATION = 'volume extend'
#: They do not have it (any more): there is nothing to tell them.
WITHOUT = (exception.GuestNotFound, exception.DiskNotFound, exception.NotRecorded)
_AGAIN = 'extend it again, to the same size, to go on'


def extend(context: 'StorageContext', volume: str, size: int) -> VolumeExtendResult:
    """See ``VolumeManager.extend``."""
    check_size(size, f'volume {volume}')
    found = volumes.find(context.storage, volume)
    with context.lock(found.id, 'extend'):
        return _Extension(context, found.id).by_request(extension.gibibytes(size))


def extended(context: 'StorageContext', event: Mapping[str, object]) -> VolumeExtendResult:
    """See ``VolumeManager.extended``."""
    parsed = ExtendedEvent.parse(event)
    with context.lock(parsed.volume_id, 'extended', parsed.guest_uuid):
        return _Extension(context, parsed.volume_id).by_event(parsed.guest_uuid)


class _Extension:
    """One volume, with the lock of its reservations held."""

    def __init__(self, context: 'StorageContext', volume_id: str) -> None:
        self.context = context
        self.storage = context.storage
        self.volume_id = volume_id
        self.seconds: dict[str, float] = {}
        self.guests: list[ExtendResult] = []
        self.without: list[str] = []
        self.failures: list[tuple[str, exception.VolumeDriversError]] = []
        self.completed = False

    def by_request(self, wanted: int) -> VolumeExtendResult:
        """Extend to so many GiB."""
        volume = self._get()
        before = volume.size
        # Read first: where it cannot be, nothing is done.
        found = users.find(self.context, volume)
        with self._step('cinder'):
            volume = self._in_cinder(volume, wanted, found)
        awaited = extension.awaited_size(volume)
        size = awaited or volume.size
        with self._timed('guests'):
            for guest in found.here:
                self._in_guest(guest, size * extension.GIB, awaited is not None)
        if awaited is not None:
            with self._step('complete'):
                volume = self._complete() or volume
                if self.failures:
                    self._make_usable(volume, self.failures[0][1])
        if self.failures and volume.size >= wanted:
            self.failures[0][1].add_note(f'Cinder has it with {volume.size} GiB; {_AGAIN}')
        self._raise_failures()
        return self._result(volume, before, size, found.elsewhere)

    def by_event(self, guest_uuid: str) -> VolumeExtendResult:
        """Let one guest see the size that Cinder has, or waits for."""
        volume = self._get()
        before = volume.size
        found = users.find(self.context, volume)
        guest = next((one for one in found.here if one.uuid == guest_uuid), None)
        awaited = None
        if guest is None:
            # Cinder may wait for the answer of another host, but not for ours.
            guest = users.Guest(guest_uuid, guest_uuid, None, '')
        elif volume.status == extension.EXTENDING:
            awaited = extension.awaited_size(volume)
            if awaited is None:
                volume = self._without_size(volume)
        size = awaited or volume.size
        with self._timed('guests'):
            try:
                self._in_guest(guest, size * extension.GIB, awaited is not None, named=True)
            except BaseException:
                if awaited is not None:
                    self._refuse_quietly()
                raise
        if awaited is not None:
            with self._step('complete'):
                volume = self._complete() or volume
        self._raise_failures()
        return self._result(volume, before, size, found.elsewhere)

    def _get(self) -> typing.Any:
        return volumes.wait(self.storage, self.volume_id, (), seconds=0.0)

    def _in_cinder(self, volume: typing.Any, wanted: int, found: users.VolumeUsers) -> typing.Any:
        """Return the volume with the size, or waited for by Cinder."""
        if volume.size >= wanted and volume.status != extension.EXTENDING:
            return volume
        if found.here and extension.awaited_size(volume) == wanted:
            return volume  # this was interrupted
        if volume.status in volumes.PASSING:
            volume = self._passed()
        if volume.size >= wanted:
            return volume
        if volume.status == extension.FAILED:
            volume = self._once_more(volume)
        volumes.require(volume, extension.READY)
        was_in_use = volume.status == 'in-use'
        if not was_in_use:
            self._require_free()
        extension.ask(self.storage, volume.id, wanted)
        volume = self._wait(wanted, for_host=bool(found.here))
        if volume.size < wanted and extension.awaited_size(volume) is None:
            raise self._refused(volume, found, was_in_use=was_in_use)
        return volume

    def _require_free(self) -> None:
        """Refuse to extend what a guest has and Cinder takes for nobody's.

        What the guest had it by may be gone, and it would wait for that.

        :raises AttachmentLost
        """
        for record in self.context.host.journal.find(volume_id=self.volume_id):
            row = self.context.reservations.get(record.key)
            if record.is_settled and row is not None and row.is_settled:
                sharing.require_known(self.context, record)

    def _passed(self) -> typing.Any:
        """Return the volume when its state has passed, or as it is after a time."""
        try:
            return volumes.wait(
                self.storage,
                self.volume_id,
                volumes.PASSING,
                seconds=self.context.options.cinder_share_timeout,
            )
        except exception.DeadlineExceeded:
            return self._get()

    def _wait(self, wanted: int, *, for_host: bool) -> typing.Any:
        seconds = self.context.options.cinder_extend_timeout
        try:
            if for_host:
                return extension.wait(self.storage, self.volume_id, wanted, seconds=seconds)
            # Where Cinder waits it is for another host.
            return volumes.wait(
                self.storage, self.volume_id, (extension.EXTENDING,), seconds=seconds
            )
        except exception.DeadlineExceeded as error:
            error.add_note(f'Cinder goes on; {_AGAIN}')
            raise

    def _once_more(self, volume: typing.Any) -> typing.Any:
        """Let a volume that could not be extended be extended again.

        :raises ExtendVolumeFailed: that takes an administrator
        """
        LOG.warning('Volume %s could not be extended before; asking Cinder again', volume.id)
        try:
            return extension.make_usable(self.storage, volume)
        except exception.CinderForbidden as error:
            raise exception.ExtendVolumeFailed(
                volume_id=volume.id, reason=_of_an_administrator(volume)
            ) from error

    def _refused(
        self, volume: typing.Any, found: users.VolumeUsers, *, was_in_use: bool
    ) -> exception.VolumeDriversError:
        """Return why Cinder did not extend it, after making it usable if that is safe."""
        if volume.status != extension.FAILED:
            return exception.ExtendVolumeFailed(
                volume_id=volume.id,
                reason=f'Cinder was asked, and has it as {volume.status} with {volume.size} GiB',
            )
        in_file = [
            one for one in found.here if users.has_file(self.context, one.uuid, self.volume_id)
        ]
        if was_in_use and in_file:
            error: exception.VolumeDriversError = exception.ExtendVolumeNotSupported(
                driver_volume_type=in_file[0].driver_volume_type
            )
            error.add_note(
                "Cinder's drivers for shares refuse that: while a guest has the file, only its "
                'QEMU can grow it (bug 1870367)'
            )
            # They refuse before they do anything.
            self._make_usable(volume, error)
            return error
        return exception.ExtendVolumeFailed(
            volume_id=volume.id,
            reason="Cinder's back end could not do it, and the log of cinder-volume says why. "
            f'The volume is {extension.FAILED} and keeps its {volume.size} GiB; repair the '
            f'cause and {_AGAIN}, or make it usable as it is with "openstack volume set '
            f'--state {extension.usable_state(volume)} {volume.id}"',
        )

    def _make_usable(self, volume: typing.Any, error: exception.VolumeDriversError) -> None:
        if volume.status != extension.FAILED:
            return
        try:
            usable = extension.make_usable(self.storage, volume)
        except exception.CinderForbidden:
            error.add_note(_of_an_administrator(volume))
        except exception.VolumeDriversError as failure:
            error.add_note(f'the volume is {extension.FAILED} in Cinder: {failure}; {_AGAIN}')
        else:
            error.add_note(f'the volume is {usable.status} again, with {usable.size} GiB')

    def _in_guest(
        self, guest: users.Guest, size: int, awaited: bool, *, named: bool = False
    ) -> None:
        """Let host and guest see the size; what fails does not stop the others.

        :param awaited: Cinder has not grown it itself
        :param named: it is the only one, and has to have the volume
        """
        try:
            done = self.context.attachments.extend(
                guest.uuid, self.volume_id, size, connection_info=guest.info
            )
            if awaited and not done.resized_in_guest and self._is_file(guest):
                raise exception.ExtendVolumeFailed(
                    volume_id=self.volume_id,
                    reason=f'Cinder waits for QEMU to grow the file, and guest {done.guest} does '
                    'not run; start it, or detach the volume, and extend it again',
                )
        except exception.VolumeDriversError as error:
            if isinstance(error, WITHOUT) and not named:
                self.without.append(guest.name)
            else:
                self.failures.append((guest.name, error))
        else:
            self.guests.append(done)

    def _is_file(self, guest: users.Guest) -> bool:
        return users.has_file(self.context, guest.uuid, self.volume_id)

    def _without_size(self, volume: typing.Any) -> typing.Any:
        """Return the volume when Cinder has ended what it does not say the size of.

        :raises ExtendVolumeFailed: it waited for this host
        """
        if extension.complete(self.storage, volume.id, error=True):
            raise exception.ExtendVolumeFailed(
                volume_id=volume.id,
                reason='Cinder waits for this host to grow it, and does not show to what size: '
                'it was told that this failed',
            )
        # Somebody extends it once more: what that brings, another event tells.
        return self._wait(0, for_host=False)

    def _complete(self) -> typing.Any:
        """Tell Cinder how it ended, and return the volume when it has heard.

        :returns: None: it could not be told of a failure
        """
        try:
            self.completed = extension.complete(
                self.storage, self.volume_id, error=bool(self.failures)
            )
            volume = volumes.wait(
                self.storage,
                self.volume_id,
                (extension.EXTENDING,),
                seconds=self.context.options.cinder_timeout,
            )
        except exception.VolumeDriversError as error:
            if not self.failures:
                error.add_note(f'the guest has the new size, and Cinder still waits; {_AGAIN}')
                raise
            self.failures[0][1].add_note(f'Cinder still waits, and could not be told: {error}')
            return None
        if not self.completed and not self.failures:
            LOG.warning(
                'Volume %s has been extended on this host, and Cinder did not wait for that',
                self.volume_id,
            )
        return volume

    def _refuse_quietly(self) -> None:
        """Tell Cinder that it failed, when there is another error to be raised."""
        try:
            extension.complete(self.storage, self.volume_id, error=True)
        except exception.VolumeDriversError:
            LOG.exception('Cinder could not be told that volume %s was not', self.volume_id)

    def _raise_failures(self) -> None:
        """Raise the first, with the others in its notes."""
        if not self.failures:
            return
        (_, error), *others = self.failures
        for name, other in others:
            error.add_note(f'guest {name}: {other}')
        if self.guests:
            seen = ', '.join(done.guest for done in self.guests)
            error.add_note(f'it is extended in guest {seen}')
        raise error

    def _result(
        self, volume: typing.Any, before: int, size: int, elsewhere: tuple[str, ...]
    ) -> VolumeExtendResult:
        return VolumeExtendResult(
            volume_id=volume.id,
            volume_name=volume.name or '',
            size_before=before * extension.GIB,
            size=size * extension.GIB,
            guests=tuple(self.guests),
            without=tuple(self.without),
            elsewhere=elsewhere,
            completed=self.completed,
            seconds=self.seconds,
        )

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Tell the observer, and take the time."""
        self._tell(name, 'before')
        try:
            with self._timed(name):
                yield
        except BaseException:
            self._tell(name, 'failed')
            raise
        self._tell(name, 'after')

    def _tell(self, name: str, moment: str) -> None:
        try:
            self.context.observer(OPERATION, name, moment)
        except Exception:
            LOG.exception('The observer of extending volume %s failed', self.volume_id)


def _of_an_administrator(volume: typing.Any) -> str:
    return (
        f'the volume is {extension.FAILED} in Cinder, and only an administrator can make it '
        f'usable: "openstack volume set --state {extension.usable_state(volume)} {volume.id}"'
    )
