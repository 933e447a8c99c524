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

"""Jobs on a disk of a guest, such as a copy or a backup, which keep it as it is."""

import typing

import libvirt
from oslo_log import log as logging

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

_BACKUP = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP
_NAMES: typing.Final = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: 'block pull',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: 'block copy',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: 'block commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: 'block commit',
    _BACKUP: 'backup',
}


def why_refused(
    hypervisor: 'Hypervisor', guest_uuid: str, guest_name: str, target: str | None
) -> exception.Busy | None:
    """Return what to tell if a job runs on a disk that libvirt refused to change.

    What libvirt says itself is "in use", or "not supported", and names no job.
    """
    if target is None:
        return None
    try:
        job = hypervisor.ask(
            f'ask for the job on {target} of guest {guest_name}',
            lambda _: hypervisor.domain(guest_uuid).blockJobInfo(target, 0),
            guest=guest_name,
        )
    except exception.VolumeDriversError as error:
        # The first error is the one reported.
        LOG.debug('%s', error)
        return None
    if not job:
        return None
    kind = job.get('type')
    name = _NAMES.get(kind, 'block job')
    end = (
        f'virsh domjobabort {guest_name}'
        if kind == _BACKUP
        else f'virsh blockjob {guest_name} {target} --abort'
    )
    return exception.Busy(
        what=f'disk {target} of guest {guest_name}',
        reason=f'a {name} runs on it; wait for its end, or end it with "{end}", and call again',
    )
