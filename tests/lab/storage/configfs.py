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

"""Files and directories of the kernel that are commands: configfs, sysfs."""

import errno
import os
import pathlib
import subprocess


def modprobe(*names: str) -> None:
    """Load kernel modules, and what they need."""
    subprocess.run(['modprobe', '-a', *names], check=True)


def write(path: pathlib.Path, text: object) -> None:
    """Write an attribute by one system call.

    :raises OSError: the kernel did not take it; the text is not in the error
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(text).encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)


def read(path: pathlib.Path) -> str | None:
    """Return an attribute without the line's end; None: it is not there."""
    try:
        return path.read_text().rstrip('\n')
    except OSError as error:
        # The last is said of a device that goes while it is read.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV):
            return None
        raise


def link(link: pathlib.Path, to: pathlib.Path) -> None:
    """Make a symbolic link unless it is there."""
    if not link.is_symlink():
        link.symlink_to(to)


def unlink(link: pathlib.Path) -> None:
    """Remove a symbolic link; once more is fine."""
    link.unlink(missing_ok=True)


def remove(directory: pathlib.Path) -> None:
    """Remove a directory with the links and directories that were made in it.

    Those that the kernel has made itself go with it; once more is fine.
    """
    if not directory.is_dir():
        return
    for entry in sorted(directory.iterdir()):
        if entry.is_symlink():
            entry.unlink()
    directory.rmdir()
