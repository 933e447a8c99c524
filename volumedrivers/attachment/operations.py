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

"""Attach, detach and extend: the steps in their order, each with its undo.

The order is Nova's.  Attach: host, disk document, guest.  Detach: guest, then
host.  Extend: host, then guest.
"""

import dataclasses
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import host_side
from volumedrivers.attachment import steps
from volumedrivers.attachment import work
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.connection_info import ConnectionInfo

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor
    from volumedrivers.libvirt.registry import Registry


class Operations:
    """What can be done with the volumes of the guests of one hypervisor.

    Every operation may be called again after any failure.  What libvirt cannot
    say is never taken for "it is not there": the operation stops.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, registry: 'Registry', hypervisor: 'Hypervisor'
    ) -> None:
        self.options = conf.volumedrivers
        self.registry = registry
        self.hypervisor = hypervisor

    def attach(
        self, connection_info: ConnectionInfo, guest: str, request: DiskRequest | None = None
    ) -> AttachResult:
        """Bring the volume to this host and into the guest.

        After an error the volume is neither in the guest nor on the host;
        where that could not be done, the error's notes say so.  A disk that
        the guest has only in one of its definitions is completed, and so is
        that of a guest that does not run, after a reboot of this host.

        :param guest: name or UUID
        :raises AlreadyAttached: the guest runs and has the volume
        :raises VolumeDriversError: of the driver, or of libvirt
        """
        domain = self.hypervisor.guest(guest)
        job = work.Attach(self, connection_info, domain, request or DiskRequest())
        job.look()
        seconds = steps.run(
            (
                steps.Step('connect', job.connect, job.disconnect),
                steps.Step('describe', job.describe),
                steps.Step('attach', job.attach, job.detach),
            )
        )
        return job.result(seconds)

    def detach(
        self,
        connection_info: ConnectionInfo,
        guest: str,
        volume: str | None = None,
        *,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> DetachResult:
        """Take the volume out of the guest and off this host.

        A volume that the guest does not have is still removed from the host,
        unless another guest of this host has it.

        :param guest: name or UUID; by its UUID also a guest that is gone
        :param volume: volume id or target name; must be the volume of
            connection_info, which is what counts when it is None
        :param force: remove from the host even if flushing fails
        :param attempts: live detach attempts; default: option
            device_detach_attempts
        :param timeout: seconds for each; default: option device_detach_timeout
        :raises InvalidOption: the guest has another volume under this target
        :raises VolumeDriversError: of the driver, or of libvirt; call again
        """
        domain = guest_disks.look_up(self.hypervisor, guest)
        job = work.Detach(
            self, connection_info, domain, force=force, attempts=attempts, timeout=timeout
        )
        job.find(volume)
        seconds = steps.run(
            (
                steps.Step('detach', job.detach),
                steps.Step('disconnect', job.disconnect),
            )
        )
        return job.result(seconds)

    def extend(
        self, connection_info: ConnectionInfo, guest: str, volume: str | None, size: int
    ) -> ExtendResult:
        """Let the host, and the guest if it runs, see that the volume has grown.

        :param size: bytes that the volume has now; a guest that does not run
            sees it at its next start
        :raises InvalidSize, ShrinkRefused, DiskNotFound
        :raises ExtendVolumeFailed, ExtendVolumeNotSupported, ResizeRefused
        """
        domain = self.hypervisor.guest(guest)
        job = work.Extend(self, connection_info, domain, size)
        job.find(volume)
        seconds = steps.run(
            (
                steps.Step('extend', job.extend),
                steps.Step('resize', job.resize),
            )
        )
        return job.result(seconds)

    def list(
        self, guest: str | None = None, *, all_disks: bool = False
    ) -> tuple[AttachedVolume, ...]:
        """Return the volumes of a guest, or of all guests.

        :param all_disks: also the disks that have no volume id
        """
        domains = self.hypervisor.guests() if guest is None else (self.hypervisor.guest(guest),)
        found = (
            guest_disks.describe(domain, disk) for domain in domains for disk in domain.disks()
        )
        return tuple(volume for volume in found if all_disks or volume.volume_id is not None)

    def show(self, guest: str, volume: str) -> AttachedVolume:
        """Return one volume of a guest and what is behind it on this host.

        :param volume: volume id or target name
        :raises DiskNotFound
        """
        domain = self.hypervisor.guest(guest)
        disk = guest_disks.find(domain, volume)
        if disk is None:
            raise exception.DiskNotFound(guest=domain.name, disk=volume)
        found = guest_disks.describe(domain, disk)
        return dataclasses.replace(
            found,
            host=host_side.look(found.source_type, found.source, self.registry.context.devices),
        )
