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

"""What is made of a refresh that was interrupted."""

import typing

from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.refresh_kinds import How
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.work import Work

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.record import Record

#: the problem of a row whose refresh has not come to its end
AGAIN = 'a refresh was interrupted; refresh the volume again'
NOT_CONNECTED = f'not connected: {AGAIN}'

# Until one of these was begun, nothing was taken away.
_BEFORE = ('', 'identify', 'decrypt')
# When one of these was begun, the row has what was connected by the new one.
_AFTER = ('define', 'clean', 'record', 'undo define')


class Abandon(Work):
    """Removes what a refresh has connected for a guest that does not run.

    The row stays: the guest's definition has the volume, which is connected
    when it is refreshed again.
    """

    operation = Operation.REFRESH

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = self.driver.lock_names(self.info, volume=self.volume)
        return (
            Step('disconnect', self.disconnect, None, options.disconnect_timeout, locks),
            Step('record', self.done, records=True),
        )

    def note(self, **changes: typing.Any) -> None:
        # Where the refresh has stopped says more than where this has.
        changes.pop('step', None)
        super().note(**changes)

    def disconnect(self) -> None:
        """Take it off this host, unless somebody has it open."""
        if self.guest.is_running() or 'block' in self.others().values():
            return
        if self.volume is not None and self.volume.source_type == 'block':
            # The path of a file is that on the old share; the new one is only let go of.
            self.found_identity()
        self.driver.disconnect_volume(self.info, self.record.key, volume=self.volume)

    def done(self) -> None:
        self.settle(boot_id='', problem=NOT_CONNECTED)


def was_connecting(record: 'Record') -> bool:
    """Tell whether a guest that does not run may be without its volume."""
    return record.wanted.get('how') == How.CONNECT and record.step not in _BEFORE


def is_defined(record: 'Record') -> bool:
    """Tell whether nothing was left to do but to define the disk, or to write the row."""
    return record.step in _AFTER
