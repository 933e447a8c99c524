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

"""What is told of volumes and attachments, as data: JSON-able, and nothing in it is secret."""

import dataclasses
import typing

from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import Result


@dataclasses.dataclass(frozen=True)
class ListedAttachment(Result):
    """An attachment, as Cinder and this host know it.

    :ivar attachment_id: Cinder's; None: this host does not know it yet
    :ivar status: in Cinder; "not in Cinder" for what only the journal has
    :ivar guest: name of a guest of this host; None: it is none of them
    :ivar guest_uuid: that the attachment names
    :ivar target: of the guest's disk
    :ivar host: that has it; None: none, or Cinder does not tell this user
    :ivar mode: rw, or ro; None: Cinder does not know yet
    :ivar recorded: yes; no; or what is unfinished, and where it stopped
    """

    attachment_id: str | None
    volume_id: str
    volume_name: str
    status: str
    guest: str | None
    guest_uuid: str | None
    target: str | None
    host: str | None
    mode: str | None
    recorded: str


@dataclasses.dataclass(frozen=True)
class ListedVolume(Result):
    """A volume of the project.

    :ivar attached_to: guests of this host with their targets, and whoever else
          has it, in words
    """

    name: str
    id: str
    status: str
    size_gib: int
    volume_type: str | None
    bootable: bool
    multiattach: bool
    encrypted: bool
    read_only: bool
    attached_to: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ShownVolume(ListedVolume):
    """One volume, with all that Cinder and this host say of it.

    :ivar encryption: provider, key, cipher; None: Cinder does not tell this user
    :ivar qos: Cinder's names and values; None: Cinder does not tell this user
    :ivar image_metadata: of the image that a bootable volume was made from
    :ivar on_this_host: in the guests of this host
    """

    description: str | None
    availability_zone: str | None
    created_at: str | None
    encryption: dict[str, typing.Any] | None
    qos: dict[str, typing.Any] | None
    image_metadata: dict[str, str]
    attachments: tuple[ListedAttachment, ...]
    on_this_host: tuple[AttachedVolume, ...]
