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

"""volumedrivers host check."""

import argparse
import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.cmd import base
from volumedrivers.cmd import text

if typing.TYPE_CHECKING:
    from volumedrivers.host.finding import Finding

_STATUS_WIDTH = 9


class HostCheck(base.Lister):
    """Check what this host needs, and say what to do."""

    COLUMNS = ('name', 'status', 'what', 'what_to_do')
    TEXT_COLUMNS = COLUMNS
    EPILOG = 'Exits with 3 if there is a problem; warnings and unknowns exit with 0.'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take --bad."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--bad', action='store_true', help='show only what is not ok')
        return parser

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each finding."""
        from volumedrivers.host import health  # noqa: PLC0415

        found = [self._libvirt(), *health.check(self.program.services.conf)]
        if any(one.status == 'problem' for one in found):
            self.exit_code = exception.MisconfiguredHost.exit_code
        return [
            dataclasses.asdict(one) | {'status': str(one.status)}
            for one in found
            if not args.bad or one.status != 'ok'
        ]

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[typing.Any]],
    ) -> int:
        """Print sentences with what to do below them, or what a format says."""
        if parsed_args.formatter != 'text' or parsed_args.columns:
            return super().produce_output(parsed_args, column_names, data)
        rows = list(data)
        width = text.terminal_width(self.app.stdout)
        names = 2 + max((len(row[0]) for row in rows), default=0)
        indent = _STATUS_WIDTH + names
        for name, status, what, what_to_do in rows:
            first, *others = text.wrap(what, width, indent=indent)
            if what_to_do:
                advice = text.wrap(what_to_do, width, indent=indent + 3)
                others += [f'-> {advice[0]}', *(f'   {line}' for line in advice[1:])]
            self.app.stdout.write(f'{status:<{_STATUS_WIDTH}}{name:<{names}}{first}\n')
            self.app.stdout.writelines(f'{" " * indent}{line}\n' for line in others)
        counted = collections.Counter(status for _, status, *_ in rows)
        said = ', '.join(f'{number} {status}' for status, number in sorted(counted.items()))
        self.app.stdout.write(f'\n{len(rows)} checks: {said}\n')
        return 0

    def _libvirt(self) -> 'Finding':
        from volumedrivers.host import finding  # noqa: PLC0415

        services = self.program.services
        try:
            guests = len(services.hypervisor.guests())
        except exception.ToolMissing as error:
            return finding.problem(
                'libvirt', str(error), 'run "pip install \'volumedrivers[libvirt]\'"'
            )
        except exception.VolumeDriversError as error:
            return finding.problem(
                'libvirt', str(error), 'run "systemctl start libvirtd", or give --connect'
            )
        return finding.ok('libvirt', f'{services.uri} answers and has {guests} guests')
