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

"""What extend and a change of limits would do."""

from volumedrivers.attachment import plan
from volumedrivers.attachment.change import Change
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.change import SetQos
from volumedrivers.libvirt.disk import IOTune


def change(job: Extend | SetQos, before: str | None) -> plan.Plan:
    """Say what it would do, after it has found the disk.

    :param before: what would be done first, with an interrupted operation
    :raises VolumeDriversError
    """
    return plan.make(job, actions(job), target=job.target, before=before)


def actions(job: Extend | SetQos) -> dict[str, tuple[str, ...]]:
    """Return what would be done in each step.

    :raises VolumeDriversError
    """
    return _extend(job) if isinstance(job, Extend) else _set_qos(job)


def _extend(job: Extend) -> dict[str, tuple[str, ...]]:
    job.identify()
    guest, record = job.guest, job.record
    opened = record.opened
    where = plan.where(record)
    grow = _growing(job, where)
    if opened is not None and opened.by == 'host':
        grow += (f'cryptsetup resize {opened.path}',)
    less = opened.header_size if opened is not None else 0
    return {
        'identify': plan.comparing(record),
        'extend': grow,
        'resize': (
            f'tell guest {guest.name} that {job.target} has {job.requested - less} bytes'
            if guest.is_running()
            else f'guest {guest.name} does not run, and sees the new size when it starts',
        ),
        'record': _done(job),
    }


def _set_qos(job: SetQos) -> dict[str, tuple[str, ...]]:
    guest = job.guest
    return {
        'limit': (
            f'limit {job.target} of guest {guest.name} to {_limits(job.iotune)}, '
            + plan.when(running=guest.is_running())
            + f' (now {_limits(guest.iotune(job.target))})',
        ),
        'record': _done(job),
    }


def _done(job: Change) -> tuple[str, ...]:
    path = job.context.journal.path
    if job.before is None:
        return (f'leave nothing in {path}: the volume was attached otherwise',)
    return (f'write to {path} that it is done',)


def _limits(iotune: IOTune) -> str:
    found = [
        f'{name} {value}' for name in IOTune.FIELDS if (value := getattr(iotune, name)) is not None
    ]
    return ', '.join(found) or 'nothing: no limit'


def _growing(job: Extend, where: str) -> tuple[str, ...]:
    source_type = job.volume.source_type if job.volume is not None else ''
    if source_type == 'block':
        return (
            f'scan {where} again, on all its paths, until this host sees {job.requested} bytes',
        )
    if source_type == 'file':
        return (f'make sure that {where} is the file that was attached; QEMU makes it larger',)
    if source_type == 'network':
        return (f'make sure that {where} is the volume that was attached; QEMU asks its storage',)
    return ('let this host look again at the volume',)
