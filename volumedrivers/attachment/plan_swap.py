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

"""What recover would do with a swap that was interrupted."""

from volumedrivers.attachment.swap import FinishSwap
from volumedrivers.attachment.swap import UndoSwap


def actions(job: FinishSwap | UndoSwap) -> dict[str, tuple[str, ...]]:
    """Return what would be done in each step.

    :raises VolumeDriversError
    """
    record = job.record
    path = job.context.journal.path
    if isinstance(job, FinishSwap):
        old = job.driver.plan_disconnect(job.info, record.key, volume=job.volume)
        return {
            'define': (
                f'let the next start of guest {job.guest.name} be with {record.wanted["source"]}',
            ),
            'disconnect': old,
            'record': (f'write to {path} that it is done',),
        }
    new = job.new_driver.plan_disconnect(job.to, record.key, volume=job.there)
    return {
        'abort': (f'end the copy of {job.target} of guest {job.guest.name}, if it runs',),
        'disconnect': new,
        'record': (f'write to {path} that the volume is where it was',),
    }
