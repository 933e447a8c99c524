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

"""Read sysfs, where any file may vanish between two looks."""

import errno
import os

# What the kernel answers for an attribute of a device that is not there (any
# more) or has no such attribute; other errors are not an answer.
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EINVAL))


def read(*path: str) -> str | None:
    """Return an attribute without surrounding blanks; None: no such one, or empty."""
    data = read_bytes(*path)
    if data is None:
        return None
    return data.decode('ascii', 'replace').strip(' \t\n\0') or None


def read_bytes(*path: str) -> bytes | None:
    """Return a binary attribute; None: there is no such one."""
    try:
        with open(os.path.join(*path), 'rb') as file:
            return file.read()
    except OSError as e:
        if e.errno in _ABSENT:
            return None
        raise


def listdir(*path: str) -> list[str]:
    """Return a directory's entries, sorted; none of them when it is not there."""
    try:
        return sorted(os.listdir(os.path.join(*path)))
    except OSError as e:
        if e.errno in _ABSENT:
            return []
        raise
