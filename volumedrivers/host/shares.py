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

"""Shares mounted on this host, and who uses them."""

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Share:
    """What is to be mounted where, and how.

    :ivar source: what mount(8) is given and /proc/self/mountinfo shows
    :ivar fstype: what mount(8) is given: nfs, cifs, glusterfs, quobyte, ...
    :ivar mounted_fstypes: what the kernel may call it: nfs4, fuse.glusterfs ...
    :ivar options: mount options, not secret
    :ivar credentials: secret mount options; they never reach an argument list
    """

    source: str
    mount_point: str
    fstype: str
    mounted_fstypes: tuple[str, ...]
    options: tuple[str, ...] = ()
    credentials: typing.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


class ShareUsers(typing.Protocol):
    """Where the users of a mount are counted; a later one keeps them on disk."""

    def add(self, mount_point: str, attachment: str) -> None: ...

    def remove(self, mount_point: str, attachment: str) -> None: ...

    def users(self, mount_point: str) -> frozenset[str]: ...


class ShareMounts:
    """One mount service for all file drivers.

    Every call has a deadline, also against a server that hangs.
    """

    def acquire(self, share: Share, attachment: str) -> None:
        """Mount the share unless it is mounted, and count the user.

        :raises WrongMount: something else is mounted there
        :raises MountFailed, DeadlineExceeded
        """
        raise NotImplementedError

    def release(self, share: Share, attachment: str) -> bool:
        """Forget the user; unmount and remove the directory after the last one.

        :returns: True while somebody still uses it
        :raises MountFailed, DeadlineExceeded: it is still counted as mounted
        """
        raise NotImplementedError

    def resolve(self, share: Share, name: str) -> str:
        """Return the path of a file on a mounted share.

        :raises PathOutsideShare: the name, or a symlink, leads out of the mount
        """
        raise NotImplementedError
