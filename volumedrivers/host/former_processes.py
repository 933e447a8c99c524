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

"""Programs that a process began which is not there any more.

Whoever runs iscsiadm, rbd, mount or the like may be killed, or give up.  The
program goes on, and what it makes appears after everybody has looked: a device
that nobody knows, a mount on a directory that was taken for free.  So they are
waited for; none is ever ended, and what else their arguments say is told to
nobody.
"""

from collections.abc import Callable
from collections.abc import Collection
import contextlib
import os
import re
import time
import typing

from volumedrivers import exception
from volumedrivers.host import mount_table

_POLL = 0.02  # seconds
_ALL: frozenset[bytes] = frozenset()
_MOUNTS = re.compile(r'mount|mount\..+|systemd-run|glusterfs|ceph-fuse|[pv]storage-mount|sfused')
_UNMOUNTS = re.compile(r'umount|umount\..+|fusermount3?')
# What changes the host, by program; none named: whatever it is told to do.  A
# backup that somebody makes of an image names it too, and may take hours.
_VERBS: dict[str, frozenset[bytes]] = {
    'blockdev': _ALL,
    'cryptsetup': _ALL,
    'dmsetup': _ALL,
    'iscsiadm': _ALL,
    'losetup': _ALL,
    'lvchange': _ALL,
    'mdadm': _ALL,
    'multipath': _ALL,
    'multipathd': frozenset((b'add', b'del', b'remove', b'resize', b'reconfigure')),
    'nvme': _ALL,
    'qemu-img': frozenset((b'info', b'resize')),
    'rbd': frozenset((b'map', b'unmap')),
    'vgchange': _ALL,
}
# A portal with its port and group, a list of monitors, a key with its value.
_PARTS = re.compile(rb'[,=]')


class Process(typing.NamedTuple):
    """A program at work.

    :ivar began: clock ticks since the host started; an id is used again
    """

    pid: int
    program: str
    began: int

    def __str__(self) -> str:
        return f'{self.program} (process {self.pid})'


def running(
    words: Collection[str], proc: str = '/proc', *, unmounting: bool = True
) -> tuple[Process, ...]:
    """Return the storage programs that have one of the words for an argument.

    Whoever serves something that is mounted already is at work on nothing: such
    as the client of a mount in user space.

    :param words: names of a volume, its target, share or device; a word is an
        argument, or what stands between commas and equals signs of one
    :param unmounting: False: without those that unmount something
    :raises OSError: the processes or the mounts cannot be listed
    """
    wanted = frozenset(os.fsencode(word) for word in words if word)
    found = []
    for name in os.listdir(proc):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            process = _storage_program(proc, name, wanted, unmounting=unmounting)
            if process is not None:
                found.append(process)
    return tuple(sorted(found))


def wait_until_ended(
    words: Collection[str], seconds: float, *, what: str, unmounting: bool = True
) -> None:
    """Wait for the programs that name something of a volume and run now.

    What begins later is not waited for: it is of whoever works on the same
    target.

    :param what: what they are at, for the message
    :param unmounting: False: not for those that unmount something
    :raises Busy: names those that still run
    :raises HostUnreadable: the kernel did not say which there are
    """

    def look() -> tuple[Process, ...]:
        return running(words, unmounting=unmounting)

    first = frozenset(_looked(look))
    left = _wait(look, seconds, first.intersection) if first else frozenset()
    if left:
        raise exception.Busy(
            what=what,
            reason=f'{_listed(left)} was begun before and has not ended within {seconds:g} s',
        )


def wait_until_made(mount_point: str, seconds: float) -> None:
    """Wait until something is mounted there, or nobody is about to do it.

    :raises DeadlineExceeded: names who still tries
    :raises HostUnreadable: the kernel did not say
    """

    def look() -> tuple[Process, ...]:
        return () if mount_table.find(mount_point) else running((mount_point,))

    left = _wait(look, seconds, frozenset)
    if left:
        raise exception.DeadlineExceeded(
            what=f'a mount at {mount_point} that was begun before: {_listed(left)}',
            seconds=seconds,
        )


def _wait(
    look: Callable[[], tuple[Process, ...]],
    seconds: float,
    choose: Callable[[tuple[Process, ...]], frozenset[Process]],
) -> frozenset[Process]:
    """Return those that are still there when the time is up."""
    end = time.monotonic() + seconds
    while True:
        left = choose(_looked(look))
        if not left or time.monotonic() > end:
            return left
        time.sleep(_POLL)


def _looked(look: Callable[[], tuple[Process, ...]]) -> tuple[Process, ...]:
    try:
        return look()
    except OSError as error:
        raise exception.HostUnreadable(
            what='what runs and is mounted', reason=error.strerror or str(error)
        ) from error


def _listed(processes: Collection[Process]) -> str:
    return ', '.join(map(str, sorted(processes)))


def _storage_program(
    proc: str, name: str, wanted: frozenset[bytes], *, unmounting: bool
) -> Process | None:
    """Look at one process, if it is such a program and names one of the words."""
    # First what can be read of a process that hangs in the kernel as well: for
    # its arguments the kernel may want what that one holds.
    with open(f'{proc}/{name}/stat', 'rb') as file:
        _, _, rest = file.read().partition(b'(')
    program, _, numbers = rest.rpartition(b')')
    fields = numbers.split()
    # A zombie has no arguments any more.
    kind = _kind_of(os.fsdecode(program))
    if kind is None or (kind is _UNMOUNTS and not unmounting):
        return None
    with open(f'{proc}/{name}/cmdline', 'rb') as file:
        arguments = file.read().split(b'\0')
    named = set(arguments).union(*(_PARTS.split(argument) for argument in arguments))
    if not wanted & named:
        return None
    if isinstance(kind, frozenset) and kind and not kind & named:
        return None
    if kind is _MOUNTS and any(
        mount_table.find(os.fsdecode(place)) for place in arguments if place.startswith(b'/')
    ):
        return None
    return Process(int(name), os.fsdecode(program), int(fields[19]))


def _kind_of(program: str) -> 're.Pattern[str] | frozenset[bytes] | None':
    for pattern in (_MOUNTS, _UNMOUNTS):
        if pattern.fullmatch(program):
            return pattern
    return _VERBS.get(program)
