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
from volumedrivers.cmd import dry_run

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.attachment.results import AttachResult
    from volumedrivers.attachment.results import DiskRequest
    from volumedrivers.attachment.volume_encryption import VolumeEncryption
    from volumedrivers.connection_info import ConnectionInfo

LOG = logging.getLogger(__name__)


class Attach(dry_run.Operation):
    """Bring a volume to this host and into a guest."""

    EPILOG = (
        'If it fails, the volume is taken off the host again. A volume with fewer paths '
        'than asked for is attached with a warning; "volumedrivers repair" adds them when '
        'they are back.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and the disk."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_connection_info(parser, required=True)
        base.add_disk(parser)
        parser.add_argument('--target', help='target name, such as vdb (default: the first free)')
        parser.add_argument(
            '--attachment-id', metavar='ID', help="Cinder's, for the record; any text will do"
        )
        parser.add_argument(
            '--encryption',
            metavar='FILE',
            help='JSON file with what Cinder says of an encrypted volume '
            '(GET /volumes/ID/encryption); it names the key and does not hold it',
        )
        add_allow_format(parser)
        add_fail_degraded(parser)
        return parser

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Attach."""
        result = self.program.services.manager.attach(
            self._info,
            args.guest,
            request(args),
            attachment_id=args.attachment_id,
            encryption=self._encryption,
            allow_format=args.allow_format,
        )
        self.exit_code = settle_degraded(args, result)
        return result.to_dict()

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what attaching would do."""
        return self.program.services.manager.plan.attach(
            self._info,
            args.guest,
            request(args),
            encryption=self._encryption,
            allow_format=args.allow_format,
        )

    def read(self, args: argparse.Namespace) -> None:
        """Read the files, before anything is set up."""
        if args.connection_info == args.encryption == '-':
            raise exception.InvalidOption(
                option='--encryption',
                found='standard input, as --connection-info is',
                expected='a file for one of them',
            )
        self._info: ConnectionInfo = self.connection_info(args.connection_info)
        self._encryption: VolumeEncryption | None = None
        if args.encryption is not None:
            from volumedrivers.attachment import volume_encryption  # noqa: PLC0415

            self._encryption = volume_encryption.VolumeEncryption.parse(
                base.read_json('--encryption', args.encryption), volume_id=self._info.volume_id
            )


def add_allow_format(parser: argparse.ArgumentParser) -> None:
    """Take --allow-format."""
    parser.add_argument(
        '--allow-format',
        action='store_true',
        help='let an encrypted volume that is blank be formatted; nothing else ever is',
    )


def add_fail_degraded(parser: argparse.ArgumentParser) -> None:
    """Take --fail-degraded."""
    parser.add_argument(
        '--fail-degraded',
        action='store_true',
        help='exit with 7 if paths are missing; the volume stays attached',
    )


def settle_degraded(args: argparse.Namespace, result: 'AttachResult') -> int:
    """Return the exit code; warn of paths that are missing."""
    if not result.degraded:
        return 0
    LOG.warning(
        'volume %s has %d of %d paths', result.volume_id, result.paths_found, result.paths_asked
    )
    return exception.Degraded.exit_code if args.fail_degraded else 0


def request(args: argparse.Namespace) -> 'DiskRequest':
    """Return what the guest shall see."""
    from volumedrivers.attachment.results import DiskRequest  # noqa: PLC0415

    return DiskRequest(
        bus=args.bus,
        target=args.target,
        type=args.type,
        unit=args.unit,
        boot_index=args.boot_index,
    )
