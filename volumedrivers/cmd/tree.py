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

"""Draw the way from a guest to its volume's storage."""

from collections.abc import Mapping
import typing

import rich.console
import rich.markup
import rich.tree

from volumedrivers.cmd import text

_WIDE = 10_000


def draw(volume: Mapping[str, typing.Any], stdout: typing.TextIO) -> None:
    """Print guest, disk, device, paths and portals of an AttachedVolume as data."""
    # Into a file or a pipe every name goes whole.
    console = rich.console.Console(
        file=stdout,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        width=None if stdout.isatty() else _WIDE,
    )
    root = rich.tree.Tree(_line('guest', volume['guest'], volume['guest_uuid']))
    disk = root.add(_line('disk', volume['target'], ', '.join(_disk_facts(volume))))
    if volume['volume_id']:
        name = (volume['cinder'] or {}).get('volume_name')
        disk.add(_line('volume', name or volume['volume_id'], volume['volume_id'] if name else ''))
    source = disk.add(
        _line(
            volume['source_type'] or 'source',
            volume['source'] or '(empty)',
            ', '.join(_source_facts(volume)),
        )
    )
    for host in volume['hosts']:
        source.add(_line('server', host))
    host_side = volume['host']
    if host_side is None:
        return console.print(root)
    if host_side['problem']:
        source.add(rich.markup.escape(host_side['problem']))
    parent = source
    if host_side['device']:
        kind = 'multipath map' if len(host_side['paths']) > 1 else 'device'
        parent = source.add(_line(kind, host_side['device']))
    if host_side['mount']:
        parent.add(_line('mount', host_side['mount']))
    for path in host_side['paths']:
        branch = parent.add(_line('path', path['name'], path['state'] or ''))
        if path['portal']:
            branch.add(_line(path['transport'] or 'portal', path['portal'], path['target'] or ''))
    return console.print(root)


def _disk_facts(volume: Mapping[str, typing.Any]) -> list[str]:
    facts = [volume['device'], volume['bus'], 'read-only' if volume['read_only'] else None]
    return [fact for fact in facts if fact]


def _source_facts(volume: Mapping[str, typing.Any]) -> list[str]:
    host_side = volume['host'] or {}
    size = host_side.get('size')
    facts = [
        volume['format'],
        None if size is None else text.human_size(size),
        host_side.get('identity'),
    ]
    return [fact for fact in facts if fact]


def _line(kind: str, name: str, more: str = '') -> str:
    line = f'{kind} [bold]{rich.markup.escape(text.plain(name))}[/bold]'
    return f'{line}  {rich.markup.escape(more)}' if more else line
