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

"""What an audit has to say of one row of the journal."""

import typing

from volumedrivers.attachment.results import Finding

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.attachment.record import Record

AnyRow = typing.TypeVar('AnyRow', 'Record', 'Reservation')


class RowFindings(typing.Generic[AnyRow]):
    """Makes findings that say whose attachment it is.

    :ivar row: of either table
    """

    row: AnyRow

    def __init__(self, row: AnyRow) -> None:
        self.row = row

    def problem(self, kind: str, what: str, detail: str, what_to_do: str) -> Finding:
        """Return a finding that puts this attachment at risk."""
        return self._finding('problem', kind, what, detail, what_to_do)

    def note(self, kind: str, what: str, detail: str, what_to_do: str) -> Finding:
        """Return a finding that does not."""
        return self._finding('note', kind, what, detail, what_to_do)

    def _finding(
        self,
        severity: typing.Literal['problem', 'note'],
        kind: str,
        what: str,
        detail: str,
        what_to_do: str,
    ) -> Finding:
        return Finding(
            kind=kind,
            severity=severity,
            guest=self.row.domain_name,
            guest_uuid=self.row.domain_uuid,
            volume_id=self.row.volume_id,
            what=what,
            detail=detail,
            what_to_do=what_to_do,
        )
