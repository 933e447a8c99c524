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

"""Shares for tests of drivers: nothing is mounted, every file is there."""

from collections.abc import Callable
import os

from volumedrivers import exception
from volumedrivers.host.image_file import ImageFile
from volumedrivers.host.mount_table import Mount
from volumedrivers.host.share import Share
from volumedrivers.host.share_users import MemoryUsers
from volumedrivers.host.shares import ShareMounts


class FakeShareMounts(ShareMounts):
    """Counts users and checks names as the real one does, and touches no file.

    :ivar mounted: the shares that are mounted now, by mount point
    """

    def __init__(self) -> None:
        self.mounted: dict[str, Share] = {}
        self._users = MemoryUsers()

    def acquire(
        self, share: Share, attachment: str, *, mount: Callable[[], None] | None = None
    ) -> bool:
        """Note it; ``mount`` is called as the real one calls it."""
        if mount is not None:
            mount()
        new = attachment not in self.users.users(share.mount_point)
        self.users.add(share.mount_point, attachment)
        self.mounted[share.mount_point] = share
        return new

    def release(self, share: Share, attachment: str, *, force: bool = False) -> bool:
        """Forget it."""
        self.users.remove(share.mount_point, attachment)
        if self.users.users(share.mount_point):
            return True
        self.mounted.pop(share.mount_point, None)
        return False

    def elsewhere(self, share: Share, attachment: str) -> frozenset[str]:
        """Know of nobody."""
        return frozenset()

    def resolve(self, share: Share, name: str, *, volume_id: str | None = None) -> str:
        """Return the path, if the name alone does not lead out."""
        path = os.path.join(share.mount_point, name)
        if not name or name.startswith('/') or '..' in name.split('/'):
            raise exception.PathOutsideShare(
                name=name, mount_point=share.mount_point, resolved=path
            )
        return path

    def locate(self, share: Share, path: str, *, volume_id: str | None = None) -> str:
        """Believe it."""
        return path

    def inspect(
        self,
        path: str,
        declared: str | None,
        *,
        root: str,
        volume_id: str | None = None,
        encrypted: bool = False,
    ) -> ImageFile:
        """Believe what is declared."""
        return ImageFile(path, declared or 'raw', 1 << 30, 1)

    def source_of(
        self, path: str, fstypes: tuple[str, ...], *, volume_id: str | None = None
    ) -> str:
        """Believe that the file lies on the first type."""
        return fstypes[0]

    def mount_of(self, share: Share) -> Mount | None:
        """Tell what was acquired."""
        if share.mount_point not in self.mounted:
            return None
        source = share.mounted_sources[0].replace('*', '') if share.mounted_sources else None
        return Mount(1, '/', share.mount_point, share.mounted_fstypes[0], source or share.source)

    def ask(self, share: Share) -> None:
        """Believe that it answers."""

    def inode(self, path: str) -> int | None:
        """Believe that every file is there."""
        return 1
