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

"""volumedrivers attach."""

import argparse
from collections.abc import Mapping
import logging
import typing

from volumedrivers import exception
from volumedrivers.cmd import base

LOG = logging.getLogger(__name__)


class Attach(base.ShowOne):
    """Bring a volume to this host and into a guest."""

    EPILOG = (
        'If it fails, the volume is taken off the host again. A volume with fewer paths '
        'than asked for is attached with a warning.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and the disk."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_connection_info(parser, required=True)
        base.add_disk(parser)
        parser.add_argument('--target', help='target name, such as vdb (default: the first free)')
        parser.add_argument(
            '--fail-degraded',
            action='store_true',
            help='exit with 7 if paths are missing; the volume stays attached',
        )
        return parser

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Attach."""
        info = self.connection_info(args.connection_info)
        from volumedrivers.attachment.results import DiskRequest  # noqa: PLC0415

        services = self.program.services
        services.set_up()
        result = services.operations.attach(
            info,
            args.guest,
            DiskRequest(
                bus=args.bus,
                target=args.target,
                type=args.type,
                unit=args.unit,
                boot_index=args.boot_index,
            ),
        )
        if result.degraded:
            LOG.warning(
                'volume %s has %d of %d paths',
                result.volume_id,
                result.paths_found,
                result.paths_asked,
            )
            if args.fail_degraded:
                self.exit_code = exception.Degraded.exit_code
        return result.to_dict()
