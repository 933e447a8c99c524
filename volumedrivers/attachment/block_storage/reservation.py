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

"""What this host has of a volume in Cinder: a row of the journal's second table.

The first table, ``record``, is of guest and host.  Both have the same key, and
either can be there without the other: Cinder is asked before the volume is
brought to the host, and told after it has left.
"""

from collections.abc import Mapping
import dataclasses
import enum
import typing

from volumedrivers.attachment.record import make_key

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.libvirt.guest import Guest


class Flow(enum.StrEnum):
    """By which of Cinder's calls a volume is attached."""

    ATTACHMENT = 'attachment'
    LEGACY = 'legacy'


class Operation(enum.StrEnum):
    """What is being done with Cinder's side of an attachment."""

    ATTACH = 'volume attach'
    DETACH = 'volume detach'
    REFRESH = 'volume refresh'
    MIGRATE = 'volume migrate'


@dataclasses.dataclass(frozen=True)
class Reservation:
    """A row; while ``operation`` is set it is unfinished, and ``step`` was begun.

    :ivar key: ``<domain uuid>/<volume id>``, as the Record's
    :ivar endpoint: Cinder's; another one knows nothing of this attachment
    :ivar project: id of the user's; to another one Cinder may show nothing of it;
        None: not known
    :ivar host: what Cinder calls this host
    :ivar attachment_id: None until it is known
    :ivar instance: that the attachment names; None: it names none
    :ivar mode: rw, or ro
    :ivar connector: what Cinder was told of this host
    :ivar wanted: what else the operation has to know when it goes on
    :ivar problem: why the operation stopped; '' while it runs
    :ivar process: id of the process that wrote last
    :ivar began, changed: seconds since the epoch
    """

    key: str
    endpoint: str
    host: str
    domain_uuid: str
    domain_name: str
    volume_id: str
    volume_name: str
    flow: Flow = Flow.ATTACHMENT
    attachment_id: str | None = None
    instance: str | None = None
    project: str | None = None
    mode: str = 'rw'
    connector: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    operation: Operation | None = None
    step: str = ''
    wanted: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    problem: str = ''
    process: int = 0
    began: float = 0.0
    changed: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the volume is attached and nothing is being done with it."""
        return self.operation is None


def reservation_of(context: 'StorageContext', domain: 'Guest', volume: typing.Any) -> Reservation:
    """Return a row, which is not written yet, of what Cinder may have for a guest of this host.

    :param volume: the SDK's
    """
    return Reservation(
        key=make_key(domain.uuid, volume.id),
        endpoint=context.storage.endpoint,
        project=context.storage.project,
        host=context.host.host,
        domain_uuid=domain.uuid,
        domain_name=domain.name,
        volume_id=volume.id,
        volume_name=volume.name or '',
    )
