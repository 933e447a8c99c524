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

"""volumedrivers extend."""

import argparse
from collections.abc import Mapping
import typing

from volumedrivers.cmd import base
from volumedrivers.cmd import dry_run

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan


class Extend(dry_run.Operation):
    """Let a guest see that its volume has grown."""

    NAMES_VOLUME = True
    EPILOG = 'Extend the volume in Cinder, or on the storage, first.'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and size."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_volume(parser)
        parser.add_argument(
            'size',
            metavar='SIZE',
            type=base.size,
            help='size the volume has now: bytes, or such as 10G',
        )
        base.add_connection_info(parser, why=base.WHEN_UNRECORDED)
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read the file."""
        self._info = self.given_connection_info(args.connection_info)

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Extend."""
        with base.wanted_disk():
            result = self.program.services.manager.extend(
                args.guest, args.volume, args.size, connection_info=self._info
            )
        return result.to_dict()

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what extending would do."""
        with base.wanted_disk():
            return self.program.services.manager.plan.extend(
                args.guest, args.volume, args.size, connection_info=self._info
            )
