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
    if not isinstance(wwid, str) or not re.fullmatch(r'[0-9A-Za-z][0-9A-Za-z_.:-]{0,127}', wwid):
        raise exception.PrivilegedCallRefused(function='flush_map', reason=f'{wwid!r} is no WWID')
    result = commands.run(['multipath', '-f', wwid], what=f'flush of map {wwid}', timeout=timeout)
    if result.code:
        raise exception.FlushFailed(volume_id=None, reason=f'{wwid}: {result.output}')
