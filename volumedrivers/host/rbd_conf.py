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

"""The file with a Ceph key that os-brick makes to map an image, when nobody removed it.

os-brick writes it into the temporary directory of its helper, where the
connection_info holds a keyring, and hands its name out when the image is
mapped.  Who is killed before that cannot have written the name down; so that a
connect was begun is noted first, and the file is found by its time and by what
is in it.  It cannot be put into a directory of one connect: the temporary
directory is one for the whole helper, which serves all threads of all programs
of its user at once.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import hashlib
import pathlib
import time
import typing

from volumedrivers import exception
from volumedrivers.host import former_processes
from volumedrivers.privsep import rbd as privileged

# Seconds in which os-brick has started rbd after it has written the file.
STARTS = 2.0
# Seconds in which it has written the file after its connect was begun.
_WRITES = 60.0
_POLL = 0.05


class Owner(typing.NamedTuple):
    """Whose key it is.

    :ivar mon_host: the monitors, as os-brick writes them
    """

    mon_host: str
    user: str | None


def owner(monitors: Iterable[tuple[str, str]], user: str | None) -> Owner:
    """Return the owner as os-brick writes it.

    :param monitors: host and port of each
    """
    hosts = (f'[{host}]:{port}' if ':' in host else f'{host}:{port}' for host, port in monitors)
    return Owner(','.join(hosts), user)


def stray() -> tuple[str, ...]:
    """Return the files with a key that no rbd of this host is about to read.

    Another program that uses os-brick may keep its own for as long as an image
    is mapped or open.

    :raises HostUnreadable: the processes cannot be listed
    """
    return tuple(
        path
        for path, written in privileged.candidates()
        if time.time() - written >= _WRITES and not _is_read(path)
    )


class Begun:
    """The connects that were begun and have not removed their file, one file for each."""

    def __init__(self, state_path: str) -> None:
        self._directory = pathlib.Path(state_path, 'rbd-connects')

    def note(self, attachment: str, whose: Owner) -> None:
        """Write down that one is begun, and remove what an earlier one has left.

        :raises HostUnreadable: it cannot be written
        """
        path = self._path(attachment)
        self.remove(attachment, whose)
        with _told(path):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)

    def left(self, attachment: str, whose: Owner) -> tuple[str, ...]:
        """Return the file that a connect left, if no rbd is about to read it.

        :raises HostUnreadable
        """
        found = self._find(attachment, whose)
        if found is None or time.time() - found[1] < STARTS or _is_read(found[0]):
            return ()
        return (found[0],)

    def remove(self, attachment: str, whose: Owner) -> None:
        """Remove the file that a connect left, and forget that it was begun.

        One that rbd reads belongs to another connect.

        :raises HostUnreadable
        """
        found = self._find(attachment, whose)
        while found is not None:
            age = time.time() - found[1]
            if age >= STARTS or age < 0:
                break
            time.sleep(_POLL)
            found = self._find(attachment, whose)
        if found is not None and not _is_read(found[0]):
            privileged.remove_conf(found[0], whose.mon_host, whose.user)
        self.forget(attachment)

    def forget(self, attachment: str) -> None:
        """Its file is gone.

        :raises HostUnreadable: that cannot be written
        """
        path = self._path(attachment)
        with _told(path):
            path.unlink(missing_ok=True)

    def _find(self, attachment: str, whose: Owner) -> tuple[str, float] | None:
        path = self._path(attachment)
        with _told(path):
            try:
                began = path.stat().st_mtime
            except FileNotFoundError:
                return None
        # A connect makes one.  Those that others have made later are theirs:
        # some keep it for as long as the image is mapped.
        for conf, written in privileged.confs(whose.mon_host, whose.user):
            if began <= written <= began + _WRITES:
                return conf, written
        return None

    def _path(self, attachment: str) -> pathlib.Path:
        return self._directory / hashlib.sha256(attachment.encode()).hexdigest()


def _is_read(path: str) -> bool:
    with _told('what runs'):
        return bool(former_processes.running((path,)))


@contextlib.contextmanager
def _told(what: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise exception.HostUnreadable(
            what=str(what), reason=error.strerror or str(error)
        ) from error
