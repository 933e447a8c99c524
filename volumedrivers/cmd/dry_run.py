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

"""What --dry-run prints: the steps of an operation, without doing them."""

import abc
import argparse
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import typing

from volumedrivers.cmd import base
from volumedrivers.cmd import text

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.attachment.results import Result

_FACTS = (
    ('locked_by', 'has to wait for '),
    ('before', 'first            '),
    ('used_by', 'also used by     '),
    ('recorded', 'recorded         '),
    ('on_host', 'on this host     '),
)


class Operation(base.ShowOne):
    """A command that can say what it would do."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take --dry-run."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--dry-run',
            action='store_true',
            help='print the steps, and what each would do; change nothing',
        )
        return parser

    @abc.abstractmethod
    def read(self, args: argparse.Namespace) -> None:
        """Read the files that were given, before anything is set up."""

    @abc.abstractmethod
    def do(self, args: argparse.Namespace) -> 'Result':
        """Do it."""

    @abc.abstractmethod
    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what ``do`` would do."""

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Do it, or say what would be done."""
        self.read(args)
        self.program.services.set_up()
        result = self.plan(args) if args.dry_run else self.do(args)
        self._data = self.program.mask.data(result.to_dict())
        return self._data  # type: ignore[no-any-return]

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[typing.Any],
    ) -> int:
        """Print a plan in lines, or what a format says."""
        if not parsed_args.dry_run or parsed_args.formatter != 'text' or parsed_args.columns:
            return int(super().produce_output(parsed_args, column_names, data))
        self.app.stdout.writelines(
            f'{line}\n' for line in _lines(self._data, text.terminal_width(self.app.stdout))
        )
        return 0


def _lines(plan: Mapping[str, typing.Any], width: int | None) -> Iterable[str]:
    disk = f' as {plan["target"]}' if plan['target'] else ''
    yield from _wrapped(
        '',
        f'Nothing is done; {plan["operation"]} of volume {plan["volume_id"]} '
        f'({plan["driver_volume_type"]}) and guest {plan["guest"]}{disk} would be:',
        width,
    )
    for name, head in _FACTS:
        value = plan[name]
        for line in [value] if isinstance(value, str) else value or ():
            yield from _wrapped(f'  {head}', line, width)
    yield from _wrapped('  locked throughout ', plan['lock'], width)
    for number, step in enumerate(plan['steps'], 1):
        locks = f'; locks {", ".join(step["locks"])}' if step['locks'] else ''
        yield ''
        yield from _wrapped(
            f'{number}. ', f'{step["name"]}  (at most {step["seconds"]:g} s{locks})', width
        )
        for action in step['actions']:
            yield from _wrapped('   - ', action, width)
    if plan['xml']:
        yield ''
        yield from plan['xml'].rstrip().splitlines()


def _wrapped(head: str, words: str, width: int | None) -> Iterable[str]:
    first, *others = text.wrap(words, width, indent=len(head))
    yield f'{head}{first}'
    yield from (f'{" " * len(head)}{line}' for line in others)
