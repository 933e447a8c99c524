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

"""Multipath maps, as root."""

import re

from volumedrivers import exception
from volumedrivers.privsep import commands
from volumedrivers.privsep import context


@context.privileged
def flush_map(wwid: str, *, timeout: float = 60) -> None:
    """Flush and remove one multipath map.

    ``multipath -f`` writes out what is buffered and refuses a map that is
    open, so no data is lost here.

    :param wwid: WWID or name of the map, as ``multipath -l`` shows it
    :raises PrivilegedCallRefused: no map can have that name
    :raises FlushFailed: it is open, or a path does not take the data
    :raises DeadlineExceeded, ToolMissing
    """
    _check_wwid('flush_map', wwid)
    result = commands.run(['multipath', '-f', wwid], what=f'flush of map {wwid}', timeout=timeout)
    if result.code:
        raise exception.FlushFailed(volume_id=None, reason=f'{wwid}: {result.output}')


@context.privileged
def make_map(wwid: str, disk: str, *, timeout: float = 20) -> None:
    """Let multipathd take a disk, though it be the only path of its map.

    With find_multipaths it waits for a second path, unless it knows the WWID.

    :param wwid: WWID of the volume
    :param disk: kernel's name of the disk, such as sdb
    :raises PrivilegedCallRefused: no volume or disk can be called that
    :raises ConnectFailed: multipath or multipathd did not
    :raises DeadlineExceeded, ToolMissing
    """
    _check_wwid('make_map', wwid)
    if not isinstance(disk, str) or not re.fullmatch(r'sd[a-z]{1,8}', disk):
        raise exception.PrivilegedCallRefused(function='make_map', reason=f'{disk!r} is no disk')
    for argv in (['multipath', '-a', wwid], ['multipathd', 'add', 'path', disk]):
        result = commands.run(argv, what=f'multipath map {wwid}', timeout=timeout)
        # multipathd ends with 0 and says "fail".
        if result.code or result.output.endswith('fail'):
            raise exception.ConnectFailed(
                volume_id=None,
                driver_volume_type='multipath',
                reason=f'{" ".join(argv)}: {result.output}',
            )


def _check_wwid(function: str, wwid: object) -> None:
    if not isinstance(wwid, str) or not re.fullmatch(r'[0-9A-Za-z][0-9A-Za-z_.:-]{0,127}', wwid):
        raise exception.PrivilegedCallRefused(function=function, reason=f'{wwid!r} is no WWID')
