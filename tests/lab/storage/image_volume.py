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

"""A volume whose bytes are in a file of this machine, below ``STATE``.

What serves it writes through the page cache of that file, so a read of the
file is what is stored, and a write to it is what the target serves next.
"""

import contextlib
import os
import pathlib
import typing

from tests.lab.storage import backend
from tests.lab.storage.records import Records
from tests.lab.storage.records import sync_directory
from tests.lab.waiting import WaitedInVain
from tests.lab.waiting import wait_until


class ImageVolume(backend.Volume):
    """The part of a volume that no protocol has anything to do with.

    :ivar record: what its file says, which is all that it needs to be served again
    """

    def __init__(self, records: Records, volume_id: str) -> None:
        self.records = records
        self.volume_id = volume_id
        self.record = records.load(volume_id)

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.image.stat().st_size

    @property
    def image(self) -> pathlib.Path:
        return image_path(self.records, self.volume_id)

    def read(self, offset: int, length: int) -> bytes:
        """Read the file."""
        with self.image.open('rb') as file:
            file.seek(offset)
            return file.read(length)

    def write(self, offset: int, data: bytes) -> None:
        """Write the file."""
        with self.image.open('r+b') as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def resize_image(self, size: int) -> None:
        """Let the file have this size in bytes."""
        with self.image.open('r+b') as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def save(self, **changes: typing.Any) -> None:
        """Write the record, with something new in it."""
        self.record.update(changes)
        self.records.save(self.volume_id, self.record)


def image_path(records: Records, volume_id: str) -> pathlib.Path:
    """Return where the bytes of a volume are."""
    return records.directory / f'{volume_id}.img'


def make_image(records: Records, volume_id: str, size: int) -> None:
    """Make the file of a volume: zeros, which take no space."""
    path = image_path(records, volume_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        file.truncate(size)
        os.fsync(file.fileno())
    sync_directory(path.parent)


def remove_image(records: Records, volume_id: str) -> None:
    """Remove the file of a volume; once more is fine."""
    image_path(records, volume_id).unlink(missing_ok=True)


def settled(seen: typing.Callable[[], list[str]], timeout: float = 2.0) -> list[str]:
    """Return what a target sees, once that is nothing, or after a moment.

    A target ends a session after it has answered the logout.

    :param timeout: seconds
    """
    with contextlib.suppress(WaitedInVain):
        wait_until(lambda: not seen(), 'the target to see nothing', timeout=timeout)
        return []
    return seen()
