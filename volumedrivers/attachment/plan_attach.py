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

"""What attach would do."""

import dataclasses
import typing

from volumedrivers.attachment import plan
from volumedrivers.attachment.attach import Attach
from volumedrivers.host.crypt_devices import CryptDevices
from volumedrivers.libvirt import encryption_support
from volumedrivers.libvirt import pretend
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.volume_encryption import VolumeEncryption


def attach(job: Attach, encryption: 'VolumeEncryption | None', before: str | None) -> plan.Plan:
    """Say what it would do.

    :param before: what would be done first, with an interrupted operation
    :raises VolumeDriversError
    """
    job.look()
    context, guest = job.context, job.guest
    others = tuple(
        record
        for record in context.journal.find(domain_uuid=guest.uuid)
        if record.key != job.record.key
    )
    target, unit = job.place(guest.names(), others)
    preview = _Preview(job, encryption)
    xml, about = _disk(job, preview, target, unit)
    running = guest.is_running()
    actions = {
        'connect': job.driver.plan_connect(job.info, job.record.key),
        'identify': ('read what it is, and refuse it if that is recorded as another volume',),
        'encrypt': preview.opening,
        'attach': (
            f'reserve {target} in the journal',
            f'give guest {guest.name} the disk below, '
            + plan.when(running=running)
            + (f' ({about})' if about else ''),
        ),
        'record': plan.settling(job, 'the volume is attached'),
    }
    return plan.make(job, actions, target=target, before=before, xml=xml)


class _Preview:
    """The volume as it would be once it is connected and opened.

    :ivar opening: what would be done to decrypt it
    :ivar seen: the volume as the guest would get it
    :ivar encryption: what its disk would say of it
    """

    def __init__(self, job: Attach, encryption: 'VolumeEncryption | None') -> None:
        context, info = job.context, job.info
        conf = context.registry.context.conf
        driver = pretend.make_registry(conf).get(info.driver_volume_type)
        self.driver = driver
        self.seen = _connected_already(job) or pretend.volume(driver, info, conf.volumedrivers)
        self.encryption = job.request.encryption
        self.opening: tuple[str, ...] = ()
        if not job.must_be_opened:
            return
        way = None
        if encryption is None or encryption.is_ours:
            provider = 'luks' if encryption is None else encryption.provider
            way = encryption_support.choose(context.hypervisor, self.seen, provider)
            if way.by == 'host':
                path = CryptDevices.path(job.volume_id)
                self.seen = dataclasses.replace(self.seen, path=path)
            else:
                self.encryption = DiskEncryption(pretend.UNKNOWN_SECRET, provider, way.engine)
        self.opening = context.encryptor.plan_open(
            info, None, encryption, allow_format=job.allow_format, way=way
        )


def _disk(job: Attach, preview: _Preview, target: str, unit: int | None) -> tuple[str, str]:
    """Return the disk's document, and what in it only connecting will tell."""
    job.require_scsi(preview.seen)
    request = job.request
    disk = preview.driver.get_disk(
        job.info,
        preview.seen,
        DiskInfo(
            bus=request.bus,
            dev=target,
            type=request.type,
            unit=unit,
            boot_index=request.boot_index,
            encryption=preview.encryption,
        ),
    )
    xml = disk.to_xml()
    unknown = [
        what
        for value, what in (
            (pretend.UNKNOWN_DEVICE, 'the name of the device'),
            (pretend.UNKNOWN_SECRET, 'the UUID of the secret'),
        )
        if value in xml
    ]
    return xml, f'{" and ".join(unknown)} will be known by then' if unknown else ''


def _connected_already(job: Attach) -> ConnectedVolume | None:
    """Return the volume as another guest has it: a device is one for all of them."""
    for record in job.context.journal.find(volume_id=job.volume_id):
        if (
            record.volume is not None
            and record.volume.source_type == 'block'
            and record.boot_id == job.context.boot_id
        ):
            return record.volume
    return None
