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

"""volumedrivers detach."""

import argparse
from collections.abc import Mapping
import logging
import typing

from volumedrivers.cmd import base
from volumedrivers.cmd import dry_run

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.attachment.results import DetachResult

LOG = logging.getLogger(__name__)


class Detach(dry_run.Operation):
    """Take a volume out of a guest and off this host."""

    NAMES_VOLUME = True
    EPILOG = (
        'The guest has to cooperate. A volume that the guest does not have is still '
        'removed from the host, unless another guest of this host has it. For a guest that '
        'is gone give its UUID. Cinder is not told: "volumedrivers volume detach" is for that.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and how hard to try."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_volume(parser)
        base.add_connection_info(parser, why=base.WHEN_UNRECORDED)
        add_effort(parser)
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read the file."""
        self._info = self.given_connection_info(args.connection_info)

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Detach."""
        result = self.program.services.manager.detach(
            args.guest,
            args.volume,
            connection_info=self._info,
            force=args.force,
            attempts=args.attempts,
            timeout=args.timeout,
        )
        warn(result)
        side = self.program.services.host_only.side(result.guest_uuid, result.volume_id)
        if side is not None:
            LOG.warning(
                'Cinder still has volume %s attached (attachment %s); "volumedrivers volume '
                'detach %s %s" gives it back',
                side.volume_name or result.volume_id,
                side.attachment_id,
                result.guest,
                result.volume_id,
            )
        return result.to_dict() | {'cinder': None if side is None else side.to_dict()}

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what detaching would do."""
        return self.program.services.manager.plan.detach(
            args.guest,
            args.volume,
            connection_info=self._info,
            force=args.force,
            attempts=args.attempts,
            timeout=args.timeout,
        )


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Take how hard to try."""
    parser.add_argument(
        '--force',
        action='store_true',
        help='remove from the host even if flushing fails; unwritten data is lost',
    )
    parser.add_argument(
        '--attempts',
        type=_positive,
        metavar='N',
        help='how often to ask the guest (default: option device_detach_attempts)',
    )
    parser.add_argument(
        '--timeout',
        type=_positive,
        metavar='SECONDS',
        help='how long to wait for it each time (default: option device_detach_timeout)',
    )


def warn(result: 'DetachResult') -> None:
    """Tell what was not as it should be."""
    if not result.removed_from_guest:
        LOG.warning(
            'guest %s did not have volume %s; only this host was looked after',
            result.guest,
            result.volume_id,
        )
    if result.leftovers:
        LOG.warning(
            'of volume %s is still here: %s; "volumedrivers recover" tries again',
            result.volume_id,
            ', '.join(result.leftovers),
        )


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise argparse.ArgumentTypeError(f'{value!r} is not a whole number above 0')
    return int(value)
