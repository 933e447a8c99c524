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

"""A share as it is to be mounted, and whether a mount is that share."""

import dataclasses
import fnmatch
import hashlib
import os
import re
import typing

from volumedrivers import exception
from volumedrivers.host import mount_table
from volumedrivers.host.mount_table import Mount


def mount_point(base: str, export: str) -> str:
    """Return where an export is mounted, as Nova and os-brick name it too.

    :param base: directory of all mount points
    :param export: what the storage calls the share
    """
    digest = hashlib.md5(export.encode(), usedforsecurity=False).hexdigest()
    return os.path.join(base, digest)


@dataclasses.dataclass(frozen=True)
class Share:
    """What is to be mounted where, and how.

    :ivar source: what mount(8) is given and /proc/self/mountinfo shows
    :ivar fstype: what mount(8) is given: nfs, cifs, glusterfs, quobyte, ...
    :ivar mounted_fstypes: what the kernel may call it: nfs4, fuse.glusterfs ...
    :ivar options: mount options, not secret
    :ivar credentials: secret mount options; they never reach an argument list
    :ivar mounted_sources: what the kernel may call the source where that is
        not ``source``; patterns of fnmatch
    :ivar root_size: what stat(2) tells as the size of the mount's root while
        the client is well; None: it tells nothing
    """

    source: str
    mount_point: str
    fstype: str
    mounted_fstypes: tuple[str, ...]
    options: tuple[str, ...] = ()
    credentials: typing.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    mounted_sources: tuple[str, ...] = ()
    root_size: int | None = None

    def find(self) -> Mount | None:
        """Return what is mounted at the mount point, whatever it is.

        :raises MountFailed: the kernel did not say
        """
        try:
            return mount_table.find(self.mount_point)
        except OSError as error:
            raise exception.MountFailed(
                source=self.source,
                mount_point=self.mount_point,
                reason=f'the mount table cannot be read: {error.strerror}',
            ) from error

    def check(self, found: Mount) -> None:
        """:raises WrongMount: what is mounted is not this share"""
        if not self.matches(found):
            raise exception.WrongMount(
                mount_point=self.mount_point,
                found=f'{found.source} ({found.fstype})',
                expected=f'{self.source} ({" or ".join(self.mounted_fstypes)})',
            )

    def matches(self, found: Mount) -> bool:
        """Tell whether what is mounted is this share, by type and source."""
        if found.fstype not in self.mounted_fstypes:
            return False
        if found.fstype.startswith('fuse') and found.root != '/':
            # Some directory of the share, bound here.
            return False
        if self.mounted_sources:
            return any(fnmatch.fnmatchcase(found.source, one) for one in self.mounted_sources)
        return _plain(found.source) == _plain(self.source)


def _plain(source: str) -> str:
    """Return a source as all helpers would write it.

    They differ in a slash at the end and in slashes that are doubled; an SMB
    share may be written with backslashes.
    """
    source = source.replace('\\', '/')
    start = '//' if source.startswith('//') else ''
    return start + re.sub('/+', '/', source[len(start) :]).rstrip('/')
