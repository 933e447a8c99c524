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

"""volumedrivers volume attach, detach."""

import abc
import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import typing

from volumedrivers import exception
from volumedrivers.cmd import attach
from volumedrivers.cmd import base
from volumedrivers.cmd import detach
from volumedrivers.cmd import dry_run

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan

OF_CLOUD = 'Which Cinder is asked, --os-cloud and the other global options say.'
# What a person wants to see first of a result.
_FIRST = (
    'guest',
    'target',
    'volume_name',
    'volume_id',
    'attachment_id',
    'mode',
    'size',
    'size_before',
    'guests',
    'degraded',
)


class Telling(dry_run.TellsFailure):
    """What is done with a volume of Cinder: one line a step, on standard error."""

    _then = ''

    def told(self, result: Mapping[str, typing.Any], then: str) -> Mapping[str, typing.Any]:
        """Return a result, names first.

        :param then: what a person is told below: what is so now, and what to type next
        """
        self._then = then
        return {name: result[name] for name in _FIRST if name in result} | dict(result)

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[typing.Any],
    ) -> int:
        """Print it."""
        code = super().produce_output(parsed_args, column_names, data)
        if self._then and parsed_args.formatter == self.formatter_default:
            self.app.stdout.flush()
            self.program.say(self._then)
        return code


class Operation(Telling, dry_run.Operation):
    """One that can say what it would do."""

    def read(self, args: argparse.Namespace) -> None:
        """Read nothing; from now on a person sees each step."""
        if not args.dry_run:
            self.program.show_steps()


class Change(Telling):
    """One that cannot."""

    @abc.abstractmethod
    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Do it; return JSON-able data, keys in the order of printing."""

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Do it."""
        self.program.show_steps()
        self.program.services.set_up()
        return self.do(args)


class Attach(Operation):
    """Bring a volume of Cinder into a guest."""

    EPILOG = (
        'If it fails, Cinder has the volume back and nothing of it is on this host; what '
        f'could not be undone is said, and "volumedrivers recover" goes on. {OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and the disk."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        add_volume(parser)
        base.add_disk(parser, of_image=True)
        parser.add_argument('--target', help='target name, such as vdb (default: the first free)')
        parser.add_argument(
            '--read-only', action='store_true', help='the guest cannot write to the volume'
        )
        parser.add_argument(
            '--legacy',
            action='store_true',
            help='by the calls from before Cinder had attachments',
        )
        attach.add_allow_format(parser)
        attach.add_fail_degraded(parser)
        return parser

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Attach."""
        result = self.program.services.volumes.attach(
            args.guest,
            args.volume,
            attach.request(args),
            read_only=args.read_only,
            legacy=args.legacy,
            allow_format=args.allow_format,
        )
        self.exit_code = attach.settle_degraded(args, result)
        return self.told(
            result.to_dict(),
            f'Guest {result.guest} has {named(result)} as {result.target}. "volumedrivers '
            f'volume detach {result.guest} {result.target}" takes it away again.',
        )

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what attaching would do."""
        return self.program.services.volumes.plan.attach(
            args.guest,
            args.volume,
            attach.request(args),
            read_only=args.read_only,
            legacy=args.legacy,
            allow_format=args.allow_format,
        )


class Detach(Operation):
    """Take a volume of Cinder out of a guest."""

    EPILOG = (
        'The guest has to cooperate. Cinder gets the volume back when nothing of it is on '
        f'this host any more. For a guest that is gone give its UUID. {OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest, volume and how hard to try."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        add_volume(parser, attached=True)
        detach.add_effort(parser)
        return parser

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Detach."""
        try:
            result = self.program.services.volumes.detach(
                args.guest,
                args.volume,
                force=args.force,
                attempts=args.attempts,
                timeout=args.timeout,
            )
        except exception.NotRecorded as error:
            error.add_note(f'"volumedrivers volume attachments {args.volume}" shows who has it')
            raise
        if result.settled is None:
            detach.warn(result)
            then = f'Guest {result.guest} has {named(result)} no more, and Cinder has it back.'
        else:
            then = f'Guest and host had let go of {named(result)} before; {result.settled}.'
        return self.told(result.to_dict(), then)

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what detaching would do."""
        return self.program.services.volumes.plan.detach(
            args.guest,
            args.volume,
            force=args.force,
            attempts=args.attempts,
            timeout=args.timeout,
        )


def add_volume(
    parser: argparse.ArgumentParser, *, attached: bool = False, optional: bool = False
) -> None:
    """Take a VOLUME of Cinder.

    :param attached: the guest has it
    """
    parser.add_argument(
        'volume',
        metavar='VOLUME',
        nargs='?' if optional else None,
        help='name or id in Cinder'
        + (', or target name such as vdb' if attached else '')
        + (' (default: all)' if optional else ''),
    )


def named(result: typing.Any) -> str:
    """Return what a person calls the volume of a result."""
    return f'volume {result.volume_name or result.volume_id}'
