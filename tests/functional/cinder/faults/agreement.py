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

"""What Cinder, the journal, guest and host have of a volume; and whether they agree."""

import dataclasses
import os
import pathlib
import typing

from openstack import exceptions as sdk

from tests.functional.cinder import clock
from tests.functional.cinder.made_volumes import MadeVolume
from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cmd import errors
from volumedrivers.cmd import secrecy
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder.faults import Faults

_NONE = 'none'


@dataclasses.dataclass(frozen=True)
class State:
    """Of one volume and one guest.

    :ivar status: in Cinder; none: it is not there
    :ivar attachments: status, instance and host of each, as Cinder has them
    :ivar reservation: Cinder's side in the journal: none, attached or unfinished
    :ivar record: guest and host in the journal, likewise
    :ivar guest: whether it is in the running guest, and in its definition
    :ivar host: what is there for it besides: targets, mounts and secrets
    """

    status: str
    attachments: tuple[tuple[str, str | None, str | None], ...]
    reservation: str
    record: str
    guest: tuple[bool, bool]
    host: tuple[str, ...]


def targets(directory: pathlib.Path) -> tuple[str, ...]:
    """Return the files below a directory that a tgtd has open: what is exported."""
    found = set()
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            if (process / 'comm').read_text().strip() != 'tgtd':
                continue
            opened = [os.readlink(link) for link in (process / 'fd').iterdir()]
        except OSError:
            continue  # it has ended
        found |= {name for name in opened if name.startswith(f'{directory}/')}
    return tuple(sorted(found))


class Bench:
    """A manager and a guest, and who knows what they have.

    :ivar faults: in front of Cinder
    :ivar places: where files are that Cinder exports
    """

    def __init__(
        self,
        manager: VolumeManager,
        guest: Guest,
        faults: Faults,
        places: tuple[pathlib.Path, ...],
    ) -> None:
        self.manager = manager
        self.guest = guest
        self.faults = faults
        self.places = places

    @property
    def proxy(self) -> typing.Any:
        """The SDK's."""
        return self.manager.context.storage.proxy

    def state(self, volume_id: str) -> State:
        """Look at everything; no fault is in the way."""
        with self.faults.aside():
            return self._state(volume_id)

    def _state(self, volume_id: str) -> State:
        key = make_key(self.guest.uuid, volume_id)
        try:
            status = self.proxy.get_volume(volume_id).status
        except sdk.NotFoundException:
            status = _NONE
        attachments = [
            (one.status, one.instance, (one.connector or {}).get('host'))
            for one in self.proxy.attachments(volume_id=volume_id)
        ]
        context = self.manager.context
        live, defined = (
            any(
                guest_disks.volume_id_of(disk) == volume_id
                for disk in self.guest.disks(persistent=persistent)
            )
            for persistent in (False, True)
        )
        return State(
            status=status,
            attachments=tuple(sorted(attachments, key=str)),
            reservation=_row(context.reservations.get(key)),
            record=_row(context.host.journal.get(key)),
            guest=(live, defined),
            host=self._host(volume_id),
        )

    def _host(self, volume_id: str) -> tuple[str, ...]:
        found = [name for place in self.places for name in targets(place) if volume_id in name]
        table = pathlib.Path('/proc/self/mountinfo').read_text()
        base = self.manager.context.options.nfs_mount_point_base
        found += [line.split()[4] for line in table.splitlines() if f' {base}/' in line]
        connection = self.guest.hypervisor.connection()
        found += [secret.usageID() for secret in connection.listAllSecrets()]
        return tuple(found)

    def attach(self, volume: MadeVolume) -> None:
        """Attach it by its name."""
        assert self.attach_named(volume.name) == volume.id

    def attach_named(self, name: str) -> str:
        """Attach what is called that; return its id."""
        # The guest stands still, and lets go of no disk on another bus.
        return self.manager.attach(self.guest.name, name, DiskRequest(bus='scsi')).volume_id

    def detach(self, volume: MadeVolume) -> None:
        """Detach it by its id."""
        self.manager.detach(self.guest.name, volume.id)

    def rows(self) -> tuple[typing.Any, ...]:
        """Return Cinder's side in the journal."""
        return self.manager.context.reservations.find(domain_uuid=self.guest.uuid)

    def recover(self, *, at_once: bool = False) -> list[str]:
        """Recover; return what was done with each, or why it could not be.

        :param at_once: not only when Cinder cannot be at anything any more
        """
        seconds = 0 if at_once else self.manager.context.options.cinder_timeout
        with clock.put_forward(seconds):
            return [f'{one.action}: {one.detail}' for one in self.manager.recover()]


def _row(row: typing.Any) -> str:
    if row is None:
        return _NONE
    return 'attached' if row.is_settled else 'unfinished'


def assert_told(error: exception.VolumeDriversError) -> str:
    """Check that a person can go on from what is said; return it."""
    said = errors.explain(error, secrecy.Mask())
    first = said.splitlines()[0]
    assert first.startswith('Error: ')
    assert 'Traceback' not in said
    # No text of a proxy, and nothing that only a programmer reads.
    for word in ('<html', '<h1>', ' object at 0x', 'None', 'KeyError', 'NoneType'):
        assert word not in said, said
    assert 'what to do' in said or '"' in first or '; give ' in first, said
    return said


def assert_agree(bench: Bench, volume_id: str, before: State, error: BaseException) -> State:
    """Check that all is as before, or as the error says; return what is there."""
    now = bench.state(volume_id)
    told = failure.of(error)
    if told is None:
        # No step was begun.
        assert now == before
        return now
    assert told.volume_id == volume_id
    assert told.record in {now.reservation, 'unfinished'}
    if now.record != _NONE and now.status != _NONE:
        # Cinder keeps what this host has.
        assert any(one[1] == bench.guest.uuid for one in now.attachments), now
    if now.reservation == 'unfinished':
        (row,) = [one for one in bench.rows() if one.volume_id == volume_id]
        assert row.problem
        assert told.record == 'unfinished'
        assert 'recover' in assert_told(typing.cast(exception.VolumeDriversError, error))
    else:
        assert now == before
    return now


def assert_settled(bench: Bench, volume: MadeVolume, *states: State) -> None:
    """Check that it comes to one of these states once Cinder is well, and stays there."""
    bench.faults.clear()
    done = bench.recover()
    assert all(one.startswith(('finished', 'undone')) for one in done), done
    assert bench.state(volume.id) in states
    assert bench.recover() == []
    assert bench.state(volume.id) in states


def assert_goes_on(bench: Bench, volume: MadeVolume, before: State) -> None:
    """Check that the volume can be attached now, and detached."""
    bench.attach(volume)
    now = bench.state(volume.id)
    assert (now.status, now.reservation, now.record) == ('in-use', 'attached', 'attached')
    assert now.guest == (True, True)
    bench.detach(volume)
    assert bench.state(volume.id) == before
