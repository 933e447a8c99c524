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

"""What reconnect and repair would do."""

from volumedrivers.attachment import plan
from volumedrivers.attachment.connect_again import ConnectAgain
from volumedrivers.attachment.connect_again import Reconnect
from volumedrivers.attachment.connect_again import Repair
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.libvirt.encryption_support import Way


def connect_again(job: Reconnect | Repair, before: str | None) -> plan.Plan:
    """Say what it would do.

    :param before: what would be done first, with an interrupted operation
    :raises VolumeDriversError
    """
    return plan.make(job, actions(job), target=job.record.target, before=before)


def actions(job: Reconnect | Repair) -> dict[str, tuple[str, ...]]:
    """Return what would be done in each step.

    :raises VolumeDriversError
    """
    return _reconnect(job) if isinstance(job, Reconnect) else _repair(job)


def _reconnect(job: Reconnect) -> dict[str, tuple[str, ...]]:
    return {
        'connect': job.driver.plan_connect(job.info, job.record.key),
        'identify': _verifying(job),
        'encrypt': _opening(job),
        'record': plan.settling(job, 'the volume is connected'),
    }


def _repair(job: Repair) -> dict[str, tuple[str, ...]]:
    job.identify_recorded()
    compare = plan.comparing(job.record)
    if job.is_whole:
        return {
            'identify': ('no path is missing', *compare),
            'record': plan.settling(job, 'all paths are there'),
        }
    return {
        'identify': compare,
        'connect': job.driver.plan_connect(job.info, job.record.key),
        'verify': _verifying(job),
        'record': plan.settling(job, 'the volume is connected, and with how many paths'),
    }


def _verifying(job: ConnectAgain) -> tuple[str, ...]:
    recorded = job.recorded
    if recorded is None:
        return ()
    expected = [
        str(recorded.identity or ''),
        f'under {recorded.path}' if recorded.path else '',
    ]
    wanted = ' '.join(filter(None, expected))
    return (f'refuse what is not {wanted}',) if wanted else ()


def _opening(job: Reconnect) -> tuple[str, ...]:
    record = job.record
    opened, metadata = record.opened, record.encryption
    if opened is None or opened.by == 'storage':
        return ()
    return job.context.encryptor.plan_open(
        job.info,
        None,
        None if metadata is None else VolumeEncryption.parse(metadata),
        way=Way(opened.by, opened.engine),
    )
