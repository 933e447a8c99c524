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

"""One mount service for all file drivers: who uses which share on this host."""

from collections.abc import Callable
import contextlib
import errno
import functools
import os
import time
import typing

from oslo_config import cfg
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.host import bootstrap
from volumedrivers.host import deadline
from volumedrivers.host import former_processes
from volumedrivers.host import image_file
from volumedrivers.host import mount_lock
from volumedrivers.host import mount_table
from volumedrivers.host import share_users
from volumedrivers.host.mounter import Mounter
from volumedrivers.host.share import Share
from volumedrivers.host.share_users import ShareUsers

LOG = logging.getLogger(__name__)

# The claim of a mount that was begun and not yet seen in the mount table.
BEGUN = 'begun'
# What a mount answers whose client has died or whose server forgot it.
_DEAD = frozenset((errno.ENOTCONN, errno.ESTALE, errno.ECONNABORTED, errno.EHOSTDOWN))


#: names who else uses a mount point than the counted users and the given one
Elsewhere = Callable[[str, str], frozenset[str]]


class ShareMounts:
    """One mount service for all file drivers.

    Every call has a deadline, also against a server that hangs: option
    mount_timeout.  Processes that use the same state and lock directories
    agree on who mounts and who unmounts.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        users: ShareUsers | None = None,
        mounter: Mounter | None = None,
        elsewhere: Elsewhere | None = None,
        *,
        takes_over: bool = False,
    ) -> None:
        """Nothing is read or mounted yet.

        :param users: default: files below ``state_path``/share-users
        :param mounter: default: volumedrivers.privsep.mount
        :param elsewhere: asked before an unmount; default: there are no others
        :param takes_over: whether a mount of the right source, at a mount point
            of this package's, is this package's from now on: where Nova, whose
            mount points are the same, has mounted it before
        """
        self.conf = conf
        self._users = users
        self._mounter = mounter
        self._elsewhere = elsewhere
        self._takes_over = takes_over

    def acquire(
        self, share: Share, attachment: str, *, mount: Callable[[], None] | None = None
    ) -> bool:
        """Mount the share unless it is mounted, and count the user.

        A mount of the right source that somebody else made is used, and
        never unmounted by ``release``.

        :param mount: mounts the share unless it is mounted, where mount(8)
            does not; called in any case, with the mount point's lock held
        :returns: True if the attachment was not counted before
        :raises WrongMount: something else is mounted there
        :raises MountFailed, DeadlineExceeded: the attachment is not counted
        """
        place = share.mount_point
        with self._locked(share):
            new = attachment not in self.users.users(place)
            # Written down first: whoever comes later must not unmount.
            self.users.add(place, attachment)
            try:
                self._ensure_mounted(share, mount)
            except BaseException:
                if new:
                    self.users.remove(place, attachment)
                raise
        return new

    def release(self, share: Share, attachment: str, *, force: bool = False) -> bool:
        """Forget the user; unmount and remove the directory after the last one.

        :param force: if it cannot be unmounted in time, detach the mount
            from the directory tree and let the kernel end it when it can
        :returns: True while somebody still uses it
        :raises MountFailed, DeadlineExceeded: it is still counted as mounted
        """
        place = share.mount_point
        with self._locked(share):
            if self.users.users(place) - {attachment}:
                self.users.remove(place, attachment)
                return True
            others = self.elsewhere(share, attachment)
            if others:
                LOG.info('%s stays mounted: used by %s', place, ', '.join(sorted(others)))
                self.users.remove(place, attachment)
                return True
            if self._takes_over:
                self._take_over(share, share.find())
            if self.users.claimed(place) is not None:
                self._undo(share, force=force)
            self.users.remove(place, attachment)
        return False

    def idle(self) -> tuple[Share, ...]:
        """Return the shares that this package has mounted and nobody is counted for.

        Their last counted user let go while somebody else still used them.
        """
        return tuple(
            found.share
            for found in self.users.counted()
            if not found.users and found.share is not None
        )

    def release_idle(self, share: Share) -> frozenset[str]:
        """Unmount a share that nobody uses any more.

        :returns: who does; then it stays
        :raises MountFailed, DeadlineExceeded: it is still counted as mounted
        """
        place = share.mount_point
        with self._locked(share):
            users = self.users.users(place) or self.elsewhere(share, '')
            if not users and self.users.claimed(place) is not None:
                self._undo(share, force=False)
        return users

    def elsewhere(self, share: Share, attachment: str) -> frozenset[str]:
        """Return who uses a share, besides those who are counted and the given one."""
        return self._elsewhere(share.mount_point, attachment) if self._elsewhere else frozenset()

    def resolve(self, share: Share, name: str, *, volume_id: str | None = None) -> str:
        """Return the path of a file on a mounted share.

        The path is the plain ``<mount point>/<name>``; what it leads to was
        looked at.

        :param volume_id: for the message only
        :raises PathOutsideShare: the name, or a symlink, leads out of the mount
        :raises VolumeDeviceNotFound: there is no such file
        :raises MountFailed, DeadlineExceeded: the share does not answer
        """
        place = share.mount_point
        path = os.path.join(place, name)
        parts = name.split('/')
        if not name or name.startswith('/') or '..' in parts or '\0' in name:
            raise exception.PathOutsideShare(name=name, mount_point=place, resolved=path)

        def look() -> tuple[str, str]:
            root = os.path.realpath(place, strict=True)
            try:
                return root, os.path.realpath(path, strict=True)
            except FileNotFoundError as error:
                raise exception.VolumeDeviceNotFound(
                    volume_id=volume_id, reason=f'{share.source} has no file {name}'
                ) from error
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                return root, '/a loop of symbolic links'

        root, resolved = self._ask(share, look)
        if os.path.commonpath((root, resolved)) != root or resolved == root:
            raise exception.PathOutsideShare(name=name, mount_point=place, resolved=resolved)
        return path

    def locate(self, share: Share, path: str, *, volume_id: str | None = None) -> str:
        """Return a path that somebody else computed, if it is on the share.

        :raises PathOutsideShare, VolumeDeviceNotFound, MountFailed,
            DeadlineExceeded: as resolve
        """
        inside = share.mount_point.rstrip('/') + '/'
        if not path.startswith(inside):
            raise exception.PathOutsideShare(
                name=path, mount_point=share.mount_point, resolved=path
            )
        return self.resolve(share, path.removeprefix(inside), volume_id=volume_id)

    def inspect(
        self,
        path: str,
        declared: str | None,
        *,
        root: str,
        volume_id: str | None = None,
        encrypted: bool = False,
    ) -> image_file.ImageFile:
        """Call image_file.inspect with the service's deadline."""
        look = functools.partial(image_file.inspect, seconds=self.seconds, encrypted=encrypted)
        return look(path, declared, root=root, volume_id=volume_id)

    def source_of(
        self, path: str, fstypes: tuple[str, ...], *, volume_id: str | None = None
    ) -> str:
        """Return what is mounted where a file lies that somebody else mounted.

        :param fstypes: what the file system may be
        :raises WrongMount: the file lies on something else
        :raises VolumeDeviceNotFound: there is no such file
        :raises DeadlineExceeded: the file system does not answer
        """
        place = os.path.dirname(path)
        try:
            real = deadline.call(
                lambda: os.path.realpath(path, strict=True), what=path, seconds=self.seconds
            )
        except OSError as error:
            raise exception.VolumeDeviceNotFound(
                volume_id=volume_id, reason=f'{path}: {error.strerror}'
            ) from error
        found = mount_table.holding(real)
        if found.fstype not in fstypes:
            raise exception.WrongMount(
                mount_point=place,
                found=f'{found.source} ({found.fstype})',
                expected=f'a file system of type {" or ".join(fstypes)}',
            )
        return found.source

    def mount_of(self, share: Share) -> mount_table.Mount | None:
        """Return what is mounted at a share's mount point, whatever it is.

        :raises MountFailed: the kernel did not say
        """
        return share.find()

    def inode(self, path: str) -> int | None:
        """Return the number of a file that lies on a share; None: it is not there.

        :raises HostUnreadable: the share did not say
        :raises DeadlineExceeded: it does not answer
        """
        try:
            return deadline.call(
                lambda: os.stat(path).st_ino, what=f'file {path}', seconds=self.seconds
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise exception.HostUnreadable(
                what=path, reason=error.strerror or str(error)
            ) from error

    def ask(self, share: Share) -> None:
        """See that the server of a mounted share answers now.

        What a file is called and how long it is, its client may still know
        when nobody answers any more.

        :raises MountFailed, DeadlineExceeded: it does not
        """
        self._ask(share, lambda: os.statvfs(share.mount_point))

    @property
    def users(self) -> ShareUsers:
        """Who uses which mount point."""
        if self._users is None:
            state = self.conf.volumedrivers.state_path
            self._users = share_users.DirectoryUsers(os.path.join(state, 'share-users'))
        return self._users

    @property
    def seconds(self) -> float:
        """How long one step on a share may take."""
        return float(self.conf.volumedrivers.mount_timeout)

    @property
    def _root(self) -> Mounter:
        if self._mounter is None:
            from volumedrivers.privsep import mount  # noqa: PLC0415 - slow, and needs set-up

            self._mounter = mount
        return self._mounter

    def _ensure_mounted(self, share: Share, mount: Callable[[], None] | None) -> None:
        place = share.mount_point
        if self.users.claimed(place) == BEGUN:
            former_processes.wait_until_made(place, self.seconds)
        found = share.find()
        if found is not None:
            share.check(found)
            if self.users.claimed(place) == BEGUN:
                # Somebody was interrupted between mounting and noting it.
                self.users.claim(place, found.mark, share)
            self._take_over(share, found)
            if self._answers(share):
                if mount is not None:
                    self._call(share, 'mount', mount)
                return
            self._drop_dead(share, found)
        self.users.claim(place, BEGUN, share)
        try:
            self._call(share, 'mount', lambda: self._root.make_mount_point(place))
            self._call(share, 'mount', mount or self._mount_with_helper(share))
        except exception.VolumeDriversError as error:
            # Somebody else may have mounted it in the meantime.
            if not self._mounted_rightly(share):
                self._undo_failed(share, error)
                raise
        try:
            found = share.find()
            if found is None:
                raise exception.MountFailed(
                    source=share.source,
                    mount_point=place,
                    reason='the mount helper reports success, but nothing is mounted',
                )
            share.check(found)
            if not self._answers(share):
                raise exception.MountFailed(
                    source=share.source,
                    mount_point=place,
                    reason='it was mounted, and its client died at once',
                )
            self.users.claim(place, found.mark, share)
        except exception.VolumeDriversError as error:
            self._undo_failed(share, error)
            raise

    def _take_over(self, share: Share, found: mount_table.Mount | None) -> None:
        """Claim a mount that somebody else made, where that is wanted."""
        if (
            self._takes_over
            and found is not None
            and share.matches(found)
            and self.users.claimed(share.mount_point) is None
        ):
            self.users.claim(share.mount_point, found.mark, share)

    def _mount_with_helper(self, share: Share) -> Callable[[], None]:
        def mount() -> None:
            self._root.mount(
                share.fstype,
                share.source,
                share.mount_point,
                share.options,
                share.credentials,
                timeout=self.seconds,
            )

        return mount

    def _mounted_rightly(self, share: Share) -> bool:
        found = share.find()
        return found is not None and share.matches(found)

    def _answers(self, share: Share) -> bool:
        """Tell whether a mount works; False: it is dead for good."""
        try:
            found = self._ask(share, lambda: os.stat(share.mount_point))
        except exception.MountFailed as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _DEAD:
                return False
            raise
        return share.root_size in (None, found.st_size)

    def _drop_dead(self, share: Share, found: mount_table.Mount) -> None:
        """Take away a mount whose client has died, so that it is mounted anew."""
        place = share.mount_point
        if self.users.claimed(place) != found.mark:
            raise exception.MountFailed(
                source=share.source,
                mount_point=place,
                reason='it is dead, and was mounted by somebody else; unmount it',
            )
        LOG.warning('The mount of %s at %s is dead; mounting it anew', share.source, place)
        self._call(
            share, 'unmount', lambda: self._root.unmount(place, lazy=True, timeout=self.seconds)
        )

    def _undo_failed(self, share: Share, error: exception.VolumeDriversError) -> None:
        """Take back what a failed mount left; the first error stays the one raised."""
        late = isinstance(error, exception.DeadlineExceeded)
        if late and share.find() is None:
            # It may still come about; the claim says whose it is then.
            return
        try:
            self._undo(share, force=True, just_made=True)
        except exception.VolumeDriversError as second:
            # The claim stays, so that a later call finishes this.
            error.add_note(f'and taking it back failed: {second}')

    def _undo(self, share: Share, *, force: bool, just_made: bool = False) -> None:
        """Unmount what is claimed, and forget the claim; nothing else is touched.

        :param just_made: whatever is there came about in this call
        """
        place = share.mount_point
        claim = self.users.claimed(place)
        if claim == BEGUN and not force:
            former_processes.wait_until_made(place, self.seconds)
        found = share.find()
        ours = found is not None and (
            just_made or (claim in (BEGUN, found.mark) and share.matches(found))
        )
        if found is not None and not ours:
            LOG.warning('%s holds a mount not made here (%s); it stays', place, found.mark)
        else:
            if found is not None:
                self._unmount(share, force=force)
            self._remove_directory(share)
        self.users.unclaim(place)

    def _remove_directory(self, share: Share) -> None:
        try:
            self._call(share, 'unmount', lambda: self._root.remove_mount_point(share.mount_point))
        except exception.MountFailed as error:
            # Somebody has put something there while nothing was mounted; the
            # share is gone, and that is what was asked for.
            LOG.warning('The mount point stays: %s', error)

    def _unmount(self, share: Share, *, force: bool) -> None:
        place = share.mount_point
        end = time.monotonic() + self.seconds
        pause = 0.05
        while True:
            try:
                self._call(
                    share, 'unmount', lambda: self._root.unmount(place, timeout=self.seconds)
                )
                return
            except (exception.MountFailed, exception.Busy, exception.DeadlineExceeded) as error:
                if share.find() is None:
                    return
                over = time.monotonic() + pause > end
                if (over or not _busy(error)) and not force:
                    raise
                if over or not _busy(error):
                    break
            time.sleep(pause)
            pause = min(pause * 2, 1.0)
        self._call(
            share, 'unmount', lambda: self._root.unmount(place, lazy=True, timeout=self.seconds)
        )

    def _call(self, share: Share, verb: str, function: Callable[[], None]) -> None:
        what = f'{verb} of {share.source} at {share.mount_point}'
        # The privileged function has the same deadline and the better message.
        try:
            deadline.call(function, what=what, seconds=self.seconds + 2)
        except OSError as error:
            raise exception.MountFailed(
                source=share.source, mount_point=share.mount_point, reason=f'{verb}: {error}'
            ) from error

    def _ask(self, share: Share, function: Callable[[], typing.Any]) -> typing.Any:
        try:
            return deadline.call(
                function, what=f'{share.source} at {share.mount_point}', seconds=self.seconds
            )
        except OSError as error:
            raise exception.MountFailed(
                source=share.source, mount_point=share.mount_point, reason=str(error)
            ) from error

    def _locked(self, share: Share) -> contextlib.AbstractContextManager[None]:
        return mount_lock.hold(share.mount_point, bootstrap.lock_path(self.conf), self.seconds)


def _busy(error: exception.VolumeDriversError) -> bool:
    return isinstance(error, exception.Busy) or 'busy' in str(error)
