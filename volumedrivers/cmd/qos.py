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

"""volumedrivers qos."""

import argparse
from collections.abc import Mapping
import difflib
import re
import typing

from volumedrivers import exception
from volumedrivers.cmd import base
from volumedrivers.cmd import dry_run

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.disk import IOTune

_GROUP_NAME = re.compile(r'[A-Za-z0-9_.-]{1,255}')


class Qos(dry_run.Operation):
    """Limit what a guest may read and write on a volume, live."""

    NAMES_VOLUME = True
    EPILOG = (
        'Limits are those of libvirt and Cinder: total, read or write; _bytes_sec (such as '
        '100M) or _iops_sec; with _max for bursts and _max_length for their seconds; '
        'size_iops_sec and group_name. Those that are not given are lifted. Nothing is '
        'changed in Cinder.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and limits."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_volume(parser)
        parser.add_argument(
            'limits',
            metavar='NAME=VALUE',
            nargs='*',
            help='such as read_iops_sec=500 or total_bytes_sec=100M',
        )
        parser.add_argument('--unlimited', action='store_true', help='lift all limits')
        parser.add_argument(
            '--from-connection-info',
            metavar='FILE',
            help="take the limits from the qos_specs of the volume's new connection_info",
        )
        base.add_connection_info(parser, why=base.WHEN_UNRECORDED)
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read the limits, and the file."""
        ways = (bool(args.limits), args.unlimited, args.from_connection_info is not None)
        if sum(ways) != 1:
            raise exception.InvalidOption(
                option='the limit',
                found='missing' if not any(ways) else 'given in two ways',
                expected='one of NAME=VALUE ..., --unlimited and --from-connection-info',
            )
        info = self.given_connection_info(args.from_connection_info or args.connection_info)
        if args.from_connection_info is not None and info is not None:
            limits = self._of_cinder(info)
        else:
            limits = _parse(args.limits)
        self._info, self._limits = info, limits

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Limit."""
        with base.wanted_disk():
            result = self.program.services.manager.set_qos(
                args.guest, args.volume, self._limits, connection_info=self._info
            )
        return result.to_dict()

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what limiting would do."""
        with base.wanted_disk():
            return self.program.services.manager.plan.set_qos(
                args.guest, args.volume, self._limits, connection_info=self._info
            )

    def _of_cinder(self, info: 'ConnectionInfo') -> 'IOTune':
        from volumedrivers.libvirt import disk_of_volume  # noqa: PLC0415
        from volumedrivers.libvirt.disk import IOTune  # noqa: PLC0415

        return disk_of_volume.iotune(self.program.services.conf.volumedrivers, info) or IOTune()


def _parse(words: list[str]) -> 'IOTune':
    from volumedrivers.libvirt.disk import IOTune  # noqa: PLC0415

    limits: dict[str, typing.Any] = {}
    for word in words:
        name, equals, value = word.partition('=')
        if not equals or name not in IOTune.FIELDS:
            near = difflib.get_close_matches(name, IOTune.FIELDS) or ['total_bytes_sec']
            raise exception.InvalidOption(
                option=f'the limit {word!r}',
                found='unknown',
                expected=f'NAME=VALUE, with a NAME such as {" or ".join(near)}',
            )
        if name in limits:
            raise exception.InvalidOption(
                option=f'the limit {name}', found='given twice', expected='one value'
            )
        limits[name] = _value(name, value)
    return IOTune(**limits)


def _value(name: str, value: str) -> int | str:
    if name == 'group_name':
        if _GROUP_NAME.fullmatch(value):
            return value
        expected = 'letters, digits, ".", "_" and "-"'
    else:
        try:
            # A size in all of them: iops=10K is no harm.
            return base.size(value)
        except argparse.ArgumentTypeError:
            expected = 'a whole number, or such as 100M (powers of 1024)'
    raise exception.InvalidOption(option=f'the limit {name}', found=repr(value), expected=expected)
