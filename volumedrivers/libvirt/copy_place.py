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

"""Where the data of a disk is that is being copied; loads no libvirt."""

from collections.abc import Callable
import enum

#: is told how many bytes are copied, and of how many
Progress = Callable[[int, int], None]


class Place(enum.StrEnum):
    """Where the data of a disk is."""

    OLD = 'old'
    COPYING = 'copying'  # still where it was, and a copy is being made
    NEW = 'new'
    ELSEWHERE = 'elsewhere'  # neither here nor there
    NOWHERE = 'nowhere'  # the guest has no such disk
