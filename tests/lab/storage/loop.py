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

"""Loop devices: a file as a block device for targets that want one."""

import contextlib
import errno
import fcntl
import os
import pathlib
import struct

CONTROL = pathlib.Path('/dev/loop-control')
BLOCK = pathlib.Path('/sys/block')

# linux/loop.h
_CLR_FD = 0x4C01
_SET_CAPACITY = 0x4C07
_CONFIGURE = 0x4C0A
_GET_FREE = 0x4C82
# struct loop_config: the file, the block size, struct loop_info64, and what is reserved.
_CONFIG = struct.Struct('=II5Q4I64s64s32s2Q8Q')
_NAME_LENGTH = 63
_SECTOR = 512  # bytes


def find(image: pathlib.Path) -> pathlib.Path | None:
    """Return the loop device of a file; None: it has none."""
    for backing in BLOCK.glob('loop*/loop/backing_file'):
        with contextlib.suppress(OSError):
            if backing.read_text().strip() == str(image):
                return pathlib.Path('/dev', backing.parent.parent.name)
    return None


def attach(image: pathlib.Path) -> pathlib.Path:
    """Return the loop device of a file, made if there is none yet."""
    found = find(image)
    if found is not None:
        return found
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = pathlib.Path(f'/dev/loop{_free_number()}')
            try:
                with _opened(device) as loop:
                    fcntl.ioctl(loop, _CONFIGURE, configuration(file, image))
                return device
            except OSError as error:
                # Another process was faster.
                if error.errno != errno.EBUSY:
                    raise
    finally:
        os.close(file)


def grow(image: pathlib.Path) -> None:
    """Let the loop device have the file's present size."""
    device = find(image)
    if device is None:
        raise FileNotFoundError(errno.ENOENT, 'no loop device of', str(image))
    with _opened(device) as loop:
        fcntl.ioctl(loop, _SET_CAPACITY)


def detach(image: pathlib.Path) -> None:
    """Free the loop device of a file; it goes when nobody uses it; once more is fine."""
    device = find(image)
    if device is not None:
        with _opened(device) as loop:
            fcntl.ioctl(loop, _CLR_FD)


def configuration(file: int, image: pathlib.Path) -> bytes:
    """Return a struct loop_config: the whole file, read and written through its cache.

    So that who reads the file itself sees what was written to the device.
    """
    name = str(image).encode()[:_NAME_LENGTH]
    return _CONFIG.pack(file, _SECTOR, *[0] * 5, *[0] * 4, name, b'', b'', 0, 0, *[0] * 8)


def _free_number() -> int:
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _GET_FREE)
    finally:
        os.close(control)


@contextlib.contextmanager
def _opened(device: pathlib.Path):  # type: ignore[no-untyped-def]
    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
