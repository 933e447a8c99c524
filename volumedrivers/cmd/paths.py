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
import typing

from volumedrivers import exception
from volumedrivers.cmd import base

if typing.TYPE_CHECKING:
    from volumedrivers.connection_info import ConnectionInfo


class Reconnect(base.ShowOne):
    """Bring a guest's volume to this host again, after a reboot."""

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

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Reconnect."""
        info = self.given_connection_info(args.connection_info)
        services = self.program.services
        services.set_up()
        with base.wanted_disk():
            return services.manager.reconnect(
                args.guest, args.volume, connection_info=info
            ).to_dict()


class Repair(base.Lister):
    """Add the missing paths of attached volumes that are back."""

    COLUMNS = (
        'guest',
        'target',
        'volume_id',
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
            'volume', metavar='VOLUME', nargs='?', help='volume id, or target name such as vdb'
        )
        base.add_connection_infos(parser)
        return parser

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Repair."""
        infos = self.connection_infos(args.connection_info)
        services = self.program.services
        services.set_up()
        if args.volume is None:
            found = services.manager.repair_all(args.guest, connection_infos=infos)
            rows = [result.to_dict() for result in found]
        else:
            rows = [self._one(args, infos)]
        if any(row['degraded'] for row in rows):
            self.exit_code = exception.Degraded.exit_code
        if any(row['problem'] for row in rows):
            self.exit_code = exception.OperationFailed.exit_code
        return rows

    def _one(
        self, args: argparse.Namespace, infos: 'Mapping[str, ConnectionInfo]'
    ) -> dict[str, typing.Any]:
        """Repair the volume that was named; what goes wrong is raised."""
        if len(infos) > 1:
            raise exception.InvalidOption(
                option='--connection-info',
                found='given more than once',
                expected='that of VOLUME only',
            )
        with base.wanted_disk():
            result = self.program.services.manager.repair(
                args.guest, args.volume, connection_info=next(iter(infos.values()), None)
            )
        row = {name: getattr(result, name, None) for name in self.COLUMNS}
        return row | {'seconds': round(sum(result.seconds.values()), 3)}
