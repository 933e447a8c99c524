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

"""What refresh would do."""

from volumedrivers.attachment import plan
from volumedrivers.attachment.refresh import Refresh
from volumedrivers.attachment.refresh_kinds import How
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import changed_ways


def refresh(job: Refresh, before: str | None) -> plan.Plan:
    """Say what it would do.

    :param before: what would be done first, with an interrupted operation
    :raises VolumeDriversError
    """
    return plan.make(job, actions(job), target=job.record.target, before=before)


def actions(job: Refresh) -> dict[str, tuple[str, ...]]:
    """Return what would be done in each step."""
    driver, key, volume = job.driver, job.record.key, job.volume
    compare = plan.comparing(job.record)
    running = job.guest.is_running()
    connecting = () if job.how is How.RECORD else driver.plan_connect(job.info, key)
    told = 'the volume is reached by the new connection_info'
    if job.changed:
        told += f' ({", ".join(job.changed)})'
    found = {
        'identify': compare,
        'connect': connecting,
        'verify': tuple(f'refuse what is not {each}' for each in _identity(job)),
        'define': (
            f'replace the source of {job.record.target} in the definition of {job.guest.name}'
            + (', for its next start' if running else ''),
        ),
        'clean': driver.plan_disconnect(job.old, key, volume=volume),
        'remove': _removing(job),
        'decrypt': (f'close the encrypted volume {job.volume_id}',),
        'encrypt': (f'open the encrypted volume {job.volume_id}',),
        'record': plan.settling(job, told),
    }
    if job.how is How.CONNECT:
        found['disconnect'] = driver.plan_disconnect(job.old, key, volume=volume)
    return found


def _identity(job: Refresh) -> tuple[str, ...]:
    identity = job.recorded.identity
    return () if identity is None else (str(identity),)


def _removing(job: Refresh) -> tuple[str, ...]:
    gone = changed_ways.gone(ConnectionInfo.parse(job.record.connection_info), job.info)
    return tuple(
        f'take the path by way of {changed_ways.written(way)} away, unless it is the last '
        'that works'
        for way in gone
    )
