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
    from volumedrivers.attachment.failure import Failure
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.attachment.results import Result

_FACTS = (
    ('problem', 'would fail       '),
    ('locked_by', 'has to wait for  '),
    ('before', 'first            '),
    ('used_by', 'also used by     '),
    ('recorded', 'recorded         '),
    ('on_host', 'on this host     '),
)
#: the columns of several plans
PLAN = (
    'operation',
    'guest',
    'guest_uuid',
    'volume_id',
    'driver_volume_type',
    'target',
    'lock',
    'locked_by',
    'before',
    'recorded',
    'on_host',
    'used_by',
    'steps',
    'xml',
    'problem',
)


class TellsFailure(base.ShowOne):
    """A command that says for programs, too, what was done and left where it failed."""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run; print for a program what was done and left, also where it failed."""
        try:
            return super().run(parsed_args)
        except BaseException as error:
            failure: Failure | None = getattr(error, 'failure', None)
            if failure is not None and _is_for_programs(parsed_args):
                super().produce_output(parsed_args, *self.cells(parsed_args, failure.to_dict()))
            raise


class Operation(TellsFailure):
    """A command that can say what it would do."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take --dry-run."""
        parser = super().get_parser(prog_name)
        _add_dry_run(parser)
        return parser

    @abc.abstractmethod
    def read(self, args: argparse.Namespace) -> None:
        """Read the files that were given, before anything is set up."""

    @abc.abstractmethod
    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Do it; return JSON-able data, keys in the order of printing."""

    @abc.abstractmethod
    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what ``do`` would do."""

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Do it, or say what would be done."""
        self.read(args)
        self.program.services.set_up(only_look=args.dry_run)
        base.name_volume(self, args)
        if not args.dry_run:
            return self.do(args)
        self._plan = self.program.mask.data(self.plan(args).to_dict())
        return typing.cast(Mapping[str, typing.Any], self._plan)

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[typing.Any],
    ) -> int:
        """Print a plan in lines, or what a format says."""
        if not _as_lines(parsed_args):
            return int(super().produce_output(parsed_args, column_names, data))
        width = text.terminal_width(self.app.stdout)
        self.app.stdout.writelines(f'{line}\n' for line in plan_lines(self._plan, width))
        return 0


class Operations(base.Lister):
    """A command on several things that can say what it would do with each."""

    #: of a dry run
    PLAN_COLUMNS: typing.ClassVar[tuple[str, ...]]
    PLAN_TEXT_COLUMNS: typing.ClassVar[tuple[str, ...]]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take --dry-run."""
        parser = super().get_parser(prog_name)
        _add_dry_run(parser)
        return parser

    @abc.abstractmethod
    def read(self, args: argparse.Namespace) -> None:
        """Read the files that were given, before anything is set up."""

    @abc.abstractmethod
    def do(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Do it; return rows with the keys of COLUMNS."""

    @abc.abstractmethod
    def plan(self, args: argparse.Namespace) -> 'Iterable[Result]':
        """Say what ``do`` would do; return what has the fields of PLAN_COLUMNS."""

    def row(self, result: 'Result') -> Mapping[str, typing.Any]:
        """Return what is printed of one."""
        return result.to_dict()

    @abc.abstractmethod
    def settle(self, rows: Sequence[Mapping[str, typing.Any]]) -> None:
        """Set the exit code by what was done, or would be."""

    @abc.abstractmethod
    def lines(self, row: Mapping[str, typing.Any], width: int | None) -> Iterable[str]:
        """Return what is printed of a row of a dry run."""

    def columns(self, args: argparse.Namespace, *, short: bool) -> tuple[str, ...]:
        """Return the names of the columns."""
        if not args.dry_run:
            return super().columns(args, short=short)
        return self.PLAN_TEXT_COLUMNS if short else self.PLAN_COLUMNS

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Do it, or say what would be done."""
        self.read(args)
        self.program.services.set_up(only_look=args.dry_run)
        base.name_volume(self, args)
        rows: list[Mapping[str, typing.Any]]
        if args.dry_run:
            rows = [self.row(planned) for planned in self.plan(args)]
            self._plans = self.program.mask.data(rows)
        else:
            rows = list(self.do(args))
        self.settle(rows)
        return rows

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[typing.Any]],
    ) -> int:
        """Print plans in lines, or what a format says."""
        rows = list(data)
        if not rows or not _as_lines(parsed_args) or parsed_args.long:
            return int(super().produce_output(parsed_args, column_names, rows))
        width = text.terminal_width(self.app.stdout)
        for number, row in enumerate(self._plans):
            if number:
                self.app.stdout.write('\n')
            self.app.stdout.writelines(f'{line}\n' for line in self.lines(row, width))
        return 0


def plan_lines(plan: Mapping[str, typing.Any], width: int | None) -> Iterable[str]:
    """Return what is printed of a plan.

    :param width: of the terminal; None: lines are not broken
    """
    disk = f' as {plan["target"]}' if plan['target'] else ''
    guest = f' and guest {plan["guest"]}' if plan['guest'] else ''
    yield from wrapped(
        '',
        f'Nothing is done; {plan["operation"]} of volume {_volume(plan)}{guest}{disk} would be:',
        width,
    )
    for name, head in _FACTS:
        value = plan[name]
        for line in [value] if isinstance(value, str) else value or ():
            yield from wrapped(f'  {head}', line, width)
    yield from wrapped('  locked throughout ', plan['lock'], width)
    yield from step_lines(plan['steps'], width)
    if plan['xml']:
        yield ''
        yield from plan['xml'].rstrip().splitlines()


def step_lines(steps: Iterable[Mapping[str, typing.Any]], width: int | None) -> Iterable[str]:
    """Return what is printed of steps, with an empty line before each."""
    for number, step in enumerate(steps, 1):
        locks = f'; locks {", ".join(step["locks"])}' if step['locks'] else ''
        yield ''
        yield from wrapped(
            f'{number}. ', f'{step["name"]}  (at most {step["seconds"]:g} s{locks})', width
        )
        for action in step['actions']:
            yield from wrapped('   - ', action, width)


def wrapped(head: str, words: str, width: int | None) -> Iterable[str]:
    """Return lines that begin under one another, right of the head."""
    first, *others = text.wrap(words, width, indent=len(head))
    yield f'{head}{first}'
    yield from (f'{" " * len(head)}{line}' for line in others)


def _volume(plan: Mapping[str, typing.Any]) -> str:
    """Return what the volume is called; Cinder tells the type only when it exports it."""
    name = plan.get('volume_name')
    called = f'{name}, {plan["volume_id"]}' if name else plan['volume_id']
    kind = plan['driver_volume_type']
    return f'{called} ({kind})' if kind else str(called)


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='print the steps, and what each would do; change nothing',
    )


def _is_for_programs(args: argparse.Namespace) -> bool:
    # Of a person's columns a failure has others, and its sentence says it all.
    return args.formatter not in ('text', 'table') and not args.columns


def _as_lines(args: argparse.Namespace) -> bool:
    return args.dry_run and args.formatter == 'text' and not args.columns
