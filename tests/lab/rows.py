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

"""The rows of the matrix: every driver and its variants, one line each.

The columns are the tests; what a row says here decides which of them apply.
"""

from collections.abc import Mapping
import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant of one driver.

    :ivar name: as it is typed: ``tools/lab.sh run iscsi-multipath``
    :ivar protocol: driver_volume_type
    :ivar backend: name in ``storage.backends``
    :ivar variant: what that back end is asked for
    :ivar options: of the group [volumedrivers]
    :ivar paths: how many lead to the volume when all is well
    :ivar bus: of the disk in the guest
    :ivar encryption: what Cinder says of an encrypted volume, as its provider
    :ivar stand_in: what stands in for hardware that cannot be here
    :ivar short: in the short matrix, which has every protocol once
    :ivar missing: columns that do not apply, each with the reason; a name that
        ends in ``*`` is for all columns that begin so
    """

    name: str
    protocol: str
    backend: str
    variant: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    paths: int = 1
    bus: str = 'virtio'
    encryption: str | None = None
    stand_in: str | None = None
    short: bool = False
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def needs_multipathd(self) -> bool:
        """Whether its paths are joined by device mapper."""
        return self.paths > 1 and self.protocol in ('iscsi', 'iser', 'fibre_channel')

    def why_not(self, column: str) -> str | None:
        """Return why a column does not apply to this row, or None."""
        for name, reason in self.missing.items():
            if name == column or (name.endswith('*') and column.startswith(name[:-1])):
                return reason
        return None


MULTIPATH = {'volume_use_multipath': True}
TWO = {'portals': 2}

ROWS = (
    Row('iscsi', 'iscsi', 'iscsi'),
    Row('iscsi-chap', 'iscsi', 'iscsi', {'chap': True}, short=True),
    Row('iscsi-multipath', 'iscsi', 'iscsi', TWO | {'chap': True}, MULTIPATH, paths=2),
    Row('fc', 'fibre_channel', 'fibre_channel', {}, bus='scsi'),
    Row('nvme-tcp', 'nvmeof', 'nvme_tcp'),
    Row('nfs-v4.2', 'nfs', 'nfs', {'options': 'vers=4.2'}, short=True),
)

BY_NAME = {row.name: row for row in ROWS}
