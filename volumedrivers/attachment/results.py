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

"""What an operation did, as data: JSON-able, and nothing in it is secret."""

import dataclasses
import typing

from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.driver import DiskEncryption


@dataclasses.dataclass(frozen=True)
class DiskRequest:
    """What the guest shall see; None lets the operation choose.

    :ivar bus: virtio, scsi, sata, usb ...
    :ivar target: name of the target, such as vdb
    :ivar type: disk, cdrom, floppy or lun
    :ivar unit: unit on SCSI controller 0
    """

    bus: str = 'virtio'
    target: str | None = None
    type: str = 'disk'
    unit: int | None = None
    boot_index: int | None = None
    encryption: DiskEncryption | None = None


class Result:
    """Base of the results."""

    def to_dict(self) -> dict[str, typing.Any]:
        """Return plain, JSON-able data."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


def paths_of(volume: ConnectedVolume | None) -> dict[str, typing.Any]:
    """Return the fields of a result that say what the volume is, and by which paths.

    :param volume: as it was connected last; None: not known
    """
    return {
        'identity': None if volume is None or volume.identity is None else str(volume.identity),
        'paths_asked': None if volume is None else volume.paths.asked,
        'paths_found': None if volume is None else volume.paths.found,
        'paths_failed': () if volume is None else volume.paths.failed,
        'degraded': None if volume is None else volume.degraded,
    }


@dataclasses.dataclass(frozen=True)
class AttachResult(Result):
    """A volume is in the guest.

    :ivar source: what libvirt was given: a path, or protocol:name
    :ivar seconds: what each step took
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    bus: str
    target: str
    source_type: str
    source: str
    format: str
    identity: str | None
    multipath_id: str | None
    paths_asked: int
    paths_found: int
    paths_failed: tuple[FailedPath, ...]
    degraded: bool
    encryption: str | None
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class DetachResult(Result):
    """A volume is out of the guest, and off this host unless others use it.

    :ivar target: what its disk was called; None: the guest did not have it
    :ivar removed_from_guest: False: the guest did not have it
    :ivar still_used_by: other guests of this host that have the volume; then
          its device stays
    :ivar paths_asked, paths_found, paths_failed: when it was connected or
          repaired last; None: not recorded
    :ivar leftovers: what is still here of it: with force what would not go,
          and what was not made for it, which is never removed
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    removed_from_guest: bool
    still_used_by: tuple[str, ...]
    forced: bool
    identity: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    degraded: bool | None
    leftovers: tuple[str, ...]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class ExtendResult(Result):
    """The host, and the guest if it runs, see the volume's new size.

    :ivar size: bytes that this host sees
    :ivar resized_in_guest: False for a guest that does not run: it will see
        the new size when it starts
    :ivar paths_asked, paths_found, paths_failed: when it was connected or
        repaired last; None: not recorded
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str
    requested_size: int
    size: int
    resized_in_guest: bool
    identity: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    degraded: bool | None
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class SwapResult(Result):
    """A running guest has gone on with a copy of its volume; the old place is off this host.

    :ivar source: what libvirt has now: a path, or protocol:name
    :ivar copied: bytes
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str
    source: str
    copied: int
    identity: str | None
    paths_asked: int
    paths_found: int
    paths_failed: tuple[FailedPath, ...]
    degraded: bool
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class QosResult(Result):
    """A disk has new limits.

    :ivar limits: by libvirt's names; what is not there is not limited
    :ivar paths_asked, paths_found, paths_failed: when it was connected or
        repaired last; None: not recorded
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str
    limits: dict[str, int | str]
    identity: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    degraded: bool | None
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class ConnectResult(Result):
    """A volume of a guest is on this host (again), with these paths.

    :ivar target: the guest's disk
    :ivar paths_before: how many there were before a repair
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    source: str
    identity: str | None
    paths_before: int
    paths_asked: int
    paths_found: int
    paths_failed: tuple[FailedPath, ...]
    degraded: bool
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class RefreshResult(Result):
    """A volume is reached by a new connection_info, now or from the next start on.

    :ivar changed: keys of the connection_info that say otherwise than before;
        their values may be secret, and are not here
    :ivar now: what was changed at once, a sentence each
    :ivar next_start: what the guest sees when it starts the next time
    :ivar left: what is still there of the old ways, and why
    :ivar target: the guest's disk
    :ivar paths_asked, paths_found, paths_failed: as they are now; None: not
        recorded
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    source: str
    changed: tuple[str, ...]
    now: tuple[str, ...]
    next_start: tuple[str, ...]
    left: tuple[str, ...]
    identity: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    degraded: bool | None
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class ForgetResult(Result):
    """An attachment is not in the journal any more.

    :ivar target, source, identity, paths_asked, paths_found, paths_failed: as
        they were recorded
    :ivar operation, step, problem: what had stopped, where and why; None: it
        was attached
    :ivar leftovers: what of it is still in the guest and on this host, which
        nobody will remove
    """

    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    source: str
    identity: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    degraded: bool | None
    operation: str | None
    step: str | None
    problem: str | None
    leftovers: tuple[str, ...]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Repaired(Result):
    """What became of one of several volumes whose paths were to be repaired.

    :ivar paths_before: that were there
    :ivar paths_found: that are there now; None: see problem
    :ivar degraded: whether some still are missing, as far as is known
    :ivar problem: why it could not be repaired
    :ivar seconds: what each step took
    """

    guest: str
    guest_uuid: str
    volume_id: str
    target: str | None
    identity: str | None
    paths_before: int
    paths_found: int | None
    paths_asked: int
    paths_failed: tuple[FailedPath, ...]
    degraded: bool
    problem: str | None
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Outcome(Result):
    """What recover did with one attachment.

    :ivar operation: which one had stopped; None: it was attached
    :ivar action: finished, undone, reconnected; or what is left to do:
        running (left alone), failed
    :ivar detail: why, or what is to be done
    """

    guest: str
    guest_uuid: str
    volume_id: str
    operation: str | None
    step: str
    action: str
    detail: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Finding(Result):
    """Something that journal, guests and host do not agree on.

    :ivar kind: which check found it, such as degraded or stray-secret
    :ivar severity: problem, or note: of what may belong to somebody else, or
        puts nothing at risk
    :ivar guest, guest_uuid, volume_id: '' where none is known
    :ivar what: the device, path, mount, secret or row
    :ivar what_to_do: one sentence, with the command to type
    """

    kind: str
    severity: typing.Literal['problem', 'note']
    guest: str
    guest_uuid: str
    volume_id: str
    what: str
    detail: str
    what_to_do: str


@dataclasses.dataclass(frozen=True)
class HostPath:
    """One kernel device that leads to a volume, and the portal behind it."""

    name: str
    state: str
    transport: str | None = None
    portal: str | None = None
    target: str | None = None


@dataclasses.dataclass(frozen=True)
class HostSide:
    """A disk's source on this host.

    :ivar device: what the kernel calls it now
    :ivar size: bytes
    :ivar mount: what is mounted where a file is
    :ivar problem: what is wrong with it
    """

    device: str | None = None
    size: int | None = None
    identity: str | None = None
    paths: tuple[HostPath, ...] = ()
    mount: str | None = None
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What the journal says of an attachment.

    :ivar operation: what is being done with it or was interrupted; None:
        nothing, it is attached
    :ivar step: that was begun
    :ivar problem: why the operation stopped, or what is wrong
    :ivar encryption: provider, and who decrypts
    :ivar this_boot: False: the host was started since it was connected
    :ivar began, changed: ISO 8601, with the offset of this host's clock
    :ivar process: id of the one that wrote it
    :ivar manager: who puts the disk into the guest, such as nova; None: this package
    """

    operation: str | None
    step: str | None
    problem: str | None
    attachment_id: str | None
    driver_volume_type: str
    identity: str | None
    multipath_id: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    connect_seconds: float | None
    encryption: str | None
    this_boot: bool
    began: str
    changed: str
    process: int
    manager: str | None = None


@dataclasses.dataclass(frozen=True)
class AttachedVolume(Result):
    """One disk of a guest; ``volume_id`` is None when it is no Cinder volume.

    What is only recorded has no disk, and what it would be.

    :ivar state: attached, unrecorded, or what is unfinished; for people
    :ivar record: the journal's; None: it has none
    :ivar host: what is behind it on this host, where that was asked for
    """

    guest: str
    guest_uuid: str
    volume_id: str | None
    bus: str | None
    target: str
    device: str
    source_type: str | None
    source: str
    format: str | None
    hosts: tuple[str, ...] = ()
    read_only: bool = False
    alias: str | None = None
    state: str | None = None
    record: Recorded | None = None
    host: HostSide | None = None
