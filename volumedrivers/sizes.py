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

"""What a size of a volume can be."""

from volumedrivers import exception


def check_size(size: object, volume: str) -> int:
    """Return a size in bytes that a volume can have.

    :param volume: what it is the size of, for the message
    :raises InvalidSize: it is 0, negative or no whole number; QEMU would take
        0 and cut an image file to nothing
    """
    if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
        raise exception.InvalidSize(
            size=size, volume=volume, reason='a whole number of bytes above 0 is expected'
        )
    return size
