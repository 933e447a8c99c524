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

"""Which of the two flows is that of a row."""

import typing

from volumedrivers.attachment.block_storage import reservation
from volumedrivers.attachment.block_storage.attachment_flow import AttachmentFlow
from volumedrivers.attachment.block_storage.legacy_flow import LegacyFlow

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.flow import StorageFlow
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.cinder.block_storage import BlockStorage


def of(storage: 'BlockStorage', found: 'Reservation') -> 'StorageFlow':
    """Return the flow by which a volume is, or was, attached."""
    if found.flow is reservation.Flow.ATTACHMENT:
        return AttachmentFlow(storage)
    return LegacyFlow(storage)
