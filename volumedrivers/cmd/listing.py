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

"""volumedrivers list, show."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
import typing

from volumedrivers import exception
from volumedrivers.cmd import base

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.host_only import CinderSide

# Of a volume, each with fields of its own.
_PARTS = ('host', 'record', 'cinder')


class List(base.Lister):
    """List the volumes that guests have."""

    COLUMNS = (
        'guest',
        'target',
        'volume_name',
        'volume_id',
        'state',
        'bus',
        'source_type',
        'source',
        'format',
        'hosts',
        'read_only',
        'device',
        'alias',
        'guest_uuid',
        'attachment_id',
        'operation',
        'step',
        'problem',
        'manager',
    )
    TEXT_COLUMNS = ('guest', 'target', 'volume_id', 'state', 'source')
    _NAMED_COLUMNS = ('guest', 'target', 'volume_name', 'volume_id', 'state', 'source')
    _is_named = False
    EPILOG = (
        'State is "attached" when all is well and "unrecorded" when somebody else attached '
        'the volume; what is unfinished is for "volumedrivers recover".'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take a guest, or none for all."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser, optional=True)
        parser.add_argument(
            '--all', action='store_true', help='also disks that are no Cinder volumes'
        )
        return parser

    def columns(self, args: argparse.Namespace, *, short: bool) -> tuple[str, ...]:
        """Return the names of the columns; names in Cinder where there are any."""
        if short and self._is_named:
            return self._NAMED_COLUMNS
        return super().columns(args, short=short)

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each volume."""
        found = self.program.services.host_only.list(args.guest, all_disks=args.all)
        rows = [_row(volume.to_dict(), side) for volume, side in found]
        self._is_named = any(row['volume_name'] for row in rows)
        return rows


class Show(base.ShowOne):
    """Show one volume of a guest and the way to its storage."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest and volume."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_volume(parser)
        parser.add_argument(
            '--tree', action='store_true', help='draw guest, disk, device, paths and portals'
        )
        return parser

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Return the volume."""
        volume = self._ask(args)
        return {name: value for name, value in volume.items() if name not in _PARTS} | {
            f'{part}_{name}': value
            for part in _PARTS
            for name, value in (volume[part] or {}).items()
        }

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Draw a tree, or print as any other result."""
        if not parsed_args.tree:
            return super().run(parsed_args)
        if parsed_args.formatter != self.formatter_default:
            raise exception.InvalidOption(
                option='-f',
                found=parsed_args.formatter,
                expected='nothing beside --tree, which is for people',
            )
        from volumedrivers.cmd import tree  # noqa: PLC0415

        tree.draw(self.program.mask.data(self._ask(parsed_args)), self.app.stdout)
        return 0

    def _ask(self, args: argparse.Namespace) -> dict[str, typing.Any]:
        with base.wanted_disk():
            volume, side = self.program.services.host_only.show(args.guest, args.volume)
        return volume.to_dict() | {'cinder': None if side is None else side.to_dict()}


def _row(volume: dict[str, typing.Any], side: 'CinderSide | None') -> dict[str, typing.Any]:
    record = volume['record'] or {}
    told = {
        name: record.get(name)
        for name in ('attachment_id', 'operation', 'step', 'problem', 'manager')
    }
    told['volume_name'] = None
    if side is not None:
        told['volume_name'] = side.volume_name
        told['attachment_id'] = side.attachment_id
        if told['operation'] is None:
            told |= {'operation': side.operation, 'step': side.step, 'problem': side.problem}
    return volume | told
