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

"""volumedrivers reconnect, repair."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import typing

from volumedrivers import exception
from volumedrivers.cmd import base
from volumedrivers.cmd import dry_run

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.connection_info import ConnectionInfo


class Reconnect(dry_run.Operation):
    """Bring a guest's volume to this host again, after a reboot."""

    NAMES_VOLUME = True
    EPILOG = (
        "Before the guest starts. It gets the path that the guest's definition has, or is "
        'refused. "volumedrivers recover" does it for all guests.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest and volume."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_volume(parser)
        base.add_connection_info(parser, why=base.TO_CONNECT)
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read the file."""
        self._info = self.given_connection_info(args.connection_info)

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Reconnect."""
        with base.wanted_disk():
            result = self.program.services.manager.reconnect(
                args.guest, args.volume, connection_info=self._info
            )
        return result.to_dict()

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what reconnecting would do."""
        with base.wanted_disk():
            return self.program.services.manager.plan.reconnect(
                args.guest, args.volume, connection_info=self._info
            )


class Repair(dry_run.Operations):
    """Add the missing paths of attached volumes that are back."""

    NAMES_VOLUME = True
    COLUMNS = (
        'guest',
        'target',
        'volume_id',
        'identity',
        'paths_before',
        'paths_found',
        'paths_asked',
        'paths_failed',
        'degraded',
        'problem',
        'seconds',
        'guest_uuid',
    )
    TEXT_COLUMNS = (
        'guest',
        'target',
        'volume_id',
        'paths_before',
        'paths_found',
        'paths_asked',
        'problem',
    )
    PLAN_COLUMNS = dry_run.PLAN
    PLAN_TEXT_COLUMNS = ('guest', 'target', 'volume_id', 'recorded', 'locked_by', 'problem')
    NOTHING = 'No volume has fewer paths than were asked for.'
    EPILOG = (
        'Without VOLUME: every attached volume with fewer paths than were asked for. Exits '
        'with 0 if all paths are there, 7 if some still are missing, and 1 if a volume could '
        'not be looked after.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take a guest and a volume, or fewer."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser, optional=True)
        parser.add_argument(
            'volume',
            metavar='VOLUME',
            nargs='?',
            help='volume id, target name such as vdb, or name in Cinder',
        )
        base.add_connection_infos(parser)
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read the files."""
        self._infos = self.connection_infos(args.connection_info)
        if args.volume is not None and len(self._infos) > 1:
            raise exception.InvalidOption(
                option='--connection-info',
                found='given more than once',
                expected='that of VOLUME only',
            )

    def do(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Repair."""
        if args.volume is not None:
            return [self._one(args)]
        found = self.program.services.manager.repair_all(args.guest, connection_infos=self._infos)
        return [result.to_dict() for result in found]

    def plan(self, args: argparse.Namespace) -> 'Iterable[Plan]':
        """Say what repairing would do."""
        planner = self.program.services.manager.plan
        if args.volume is None:
            return planner.repair_all(args.guest, connection_infos=self._infos)
        with base.wanted_disk():
            return [planner.repair(args.guest, args.volume, connection_info=self._info)]

    def settle(self, rows: Sequence[Mapping[str, typing.Any]]) -> None:
        """Let what is still missing count, and what failed more."""
        if any(row.get('degraded') for row in rows):
            self.exit_code = exception.Degraded.exit_code
        if any(row['problem'] for row in rows):
            self.exit_code = exception.OperationFailed.exit_code

    def lines(self, row: Mapping[str, typing.Any], width: int | None) -> Iterable[str]:
        """Return the lines of a plan."""
        return dry_run.plan_lines(row, width)

    @property
    def _info(self) -> 'ConnectionInfo | None':
        """That of VOLUME."""
        return next(iter(self._infos.values()), None)

    def _one(self, args: argparse.Namespace) -> dict[str, typing.Any]:
        """Repair the volume that was named; what goes wrong is raised."""
        with base.wanted_disk():
            result = self.program.services.manager.repair(
                args.guest, args.volume, connection_info=self._info
            )
        return {name: getattr(result, name, None) for name in self.COLUMNS}
