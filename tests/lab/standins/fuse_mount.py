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

"""Mount a passthrough as a vendor's client does: in the background, until it is unmounted."""

import ctypes
import dataclasses
import errno
import json
import os
import pathlib

from tests.lab.standins import fuse_wire
from tests.lab.standins.passthrough import FUSE
from tests.lab.standins.passthrough import Look
from tests.lab.standins.passthrough import Tree

SESSIONS = pathlib.Path('/run/lab/standins/sessions')

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_BUFFER = 1 << 18


@dataclasses.dataclass(frozen=True)
class Mounting:
    """What is mounted, and as what.

    :ivar client: whose it is, below ``SESSIONS``
    :ivar source, fstype: in the mount table
    :ivar directory: that is shown
    :ivar checked: the kernel itself checks who may do what
    """

    client: str
    source: str
    fstype: str
    directory: pathlib.Path
    mount_point: str
    look: Look = dataclasses.field(default_factory=Look)
    checked: bool = False
    read_only: bool = False


def mount(mounting: Mounting) -> None:
    """Mount, and return when it is served, by a process in the background.

    :raises OSError: the kernel refused
    """
    device = os.open(FUSE, os.O_RDWR | os.O_CLOEXEC)
    root = os.stat(mounting.directory).st_mode & 0o170000
    options = f'fd={device},rootmode={root:o},user_id=0,group_id=0,allow_other'
    if mounting.checked:
        options += ',default_permissions'
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if mounting.read_only else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (mounting.source, mounting.mount_point, mounting.fstype)
    encoded = [os.fsencode(each) for each in arguments]
    if libc.mount(*encoded, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), mounting.mount_point)
    serving, ready = os.pipe()
    if os.fork():
        os.close(ready)
        # Closed by the child, whether it serves or has died.
        os.read(serving, 1)
        return
    os.close(serving)
    os.setsid()
    os.chdir('/')
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    try:
        serve(mounting, device, ready)
    finally:
        os._exit(0)


def serve(mounting: Mounting, device: int, ready: int) -> None:
    """Answer the kernel until the file system is unmounted.

    :param ready: a descriptor that is closed after the first answer
    """
    tree = Tree(mounting.directory, mounting.look)
    session = SESSIONS / mounting.client / f'{os.getpid()}.json'

    def note() -> None:
        session.parent.mkdir(parents=True, exist_ok=True)
        new = session.with_suffix('.new')
        open_files = sorted(set(tree.open_files.values()))
        new.write_text(
            json.dumps(
                {
                    'directory': str(mounting.directory),
                    'mount_point': mounting.mount_point,
                    'open': open_files,
                }
            )
        )
        new.rename(session)

    tree.changed = note
    note()
    try:
        while True:
            try:
                message = os.read(device, _BUFFER)
            except FileNotFoundError:
                # Who asked has been killed.
                continue
            except OSError as error:
                if error.errno == errno.ENODEV:
                    # It is unmounted.
                    return
                raise
            answer = tree.answer(fuse_wire.Request.parse(message))
            if answer is not None:
                fuse_wire.send(device, answer)
            if ready >= 0:
                os.close(ready)
                ready = -1
    finally:
        session.unlink(missing_ok=True)
