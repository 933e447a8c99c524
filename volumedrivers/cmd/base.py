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

"""What the commands share: their arguments, and how a result becomes output."""

import abc
import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import logging
import os
import re
import stat
import sys
import typing

from cliff import command
from cliff import lister
from cliff import show
from stevedore import extension

from volumedrivers import exception
from volumedrivers.cmd import errors
from volumedrivers.cmd import text

if typing.TYPE_CHECKING:
    from volumedrivers.cmd.main import VolumeDriversApp
    from volumedrivers.connection_info import ConnectionInfo

LOG = logging.getLogger(__name__)

_SIZE = re.compile(r'([0-9]+)(?:([KMGTP])(?:iB)?)?', re.ASCII)
#: of --connection-info
WHEN_UNRECORDED = 'needed for a volume that was attached otherwise ("volumedrivers list")'
TO_CONNECT = 'needed for a volume whose storage asks for credentials, which are not recorded'

_POWERS = {None: 0, 'K': 1, 'M': 2, 'G': 3, 'T': 4, 'P': 5}


class NoSuchDisk(exception.BadInput):
    """The VOLUME of a command is not in the guest."""

    template = 'guest {guest} has no disk {disk}; "volumedrivers list {guest}" shows its volumes'
    guest: str
    disk: str


class NotKnown(exception.BadInput):
    """The VOLUME of a command is not in the journal, and has to be."""

    template = (
        'no attachment of volume {volume} to guest {guest} is recorded on this host; '
        '"volumedrivers list" shows what is'
    )
    guest: str
    volume: str


class Base(command.Command):
    """A command of this program."""

    EPILOG = ''
    exit_code = 0
    #: VOLUME may be the name in Cinder, as it is recorded
    NAMES_VOLUME = False

    @property
    def program(self) -> 'VolumeDriversApp':
        """The application; cliff knows it by its base class only."""
        return typing.cast('VolumeDriversApp', self.app)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return cliff's parser, with an error that is one sentence."""
        parser = super().get_parser(prog_name)
        errors.explain_parser_errors(parser, self.app.stderr)
        return parser

    def get_epilog(self) -> str:
        """Return the class' own; cliff's would read the metadata of every package."""
        return self.EPILOG

    def connection_info(self, name: str) -> 'ConnectionInfo':
        """Read --connection-info; its secrets are hidden from now on.

        :raises InvalidOption: no such file, or not JSON
        :raises InvalidConnectionInfo
        """
        from volumedrivers.connection_info import ConnectionInfo  # noqa: PLC0415

        info = ConnectionInfo.parse(read_json('--connection-info', name))
        secrets = info.secrets()
        self.program.mask.add(secrets)
        if secrets:
            _warn_if_others_can_read(name)
        return info

    def given_connection_info(self, name: str | None) -> 'ConnectionInfo | None':
        """Read --connection-info, if it was given."""
        return None if name is None else self.connection_info(name)

    def connection_infos(self, names: Sequence[str]) -> 'dict[str, ConnectionInfo]':
        """Read several --connection-info; by volume id."""
        if len(names) != len(set(names)):
            raise exception.InvalidOption(
                option='--connection-info', found='given twice', expected='a file of each volume'
            )
        infos = map(self.connection_info, names)
        return {info.volume_id or info.serial or '': info for info in infos}


@contextlib.contextmanager
def wanted_disk() -> Iterator[None]:
    """Let a disk that is not there be a wrong request; only to detach it is it success.

    :raises NoSuchDisk, NotKnown
    """
    try:
        yield
    except exception.DiskNotFound as error:
        raise NoSuchDisk(guest=error.guest, disk=error.disk) from error
    except exception.NotRecorded as error:
        raise NotKnown(guest=error.guest, volume=error.volume) from error


class _Result(Base):
    """A command whose result can be printed in cliff's formats and as text."""

    @property
    def formatter_default(self) -> str:
        return 'text'

    def _load_formatter_plugins(self) -> typing.Any:
        manager = super()._load_formatter_plugins()  # type: ignore[misc]
        manager.extensions.append(
            extension.Extension(
                'text', typing.cast(typing.Any, None), text.TextFormatter, text.TextFormatter()
            )
        )
        return manager

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return int(super().run(parsed_args) or self.exit_code)
        except exception.InvalidOption as error:
            if error.option != 'connection_info':
                raise
            # As it is called here.
            raise exception.InvalidOption(
                option='--connection-info', found=error.found, expected=error.expected
            ) from error.__cause__


class ShowOne(_Result, show.ShowOne):
    """A command that answers with one thing."""

    @abc.abstractmethod
    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Do it; return JSON-able data, keys in the order of printing."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], typing.Any]:
        """Do it and prepare the result for a formatter."""
        return self.cells(parsed_args, self.act(parsed_args))

    def cells(
        self, args: argparse.Namespace, data: Mapping[str, typing.Any]
    ) -> tuple[tuple[str, ...], typing.Any]:
        """Prepare data for a formatter, without what is secret."""
        masked = self.program.mask.data(dict(data))
        values = (_cell(args.formatter, name, value) for name, value in masked.items())
        return tuple(masked), tuple(values)


class Lister(_Result, lister.Lister):
    """A command that answers with many things."""

    #: names of all columns
    COLUMNS: typing.ClassVar[tuple[str, ...]]
    #: those of text and table without --long
    TEXT_COLUMNS: typing.ClassVar[tuple[str, ...]]
    #: what a person is told when there is no row
    NOTHING = ''

    @abc.abstractmethod
    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Do it; return rows with the keys of COLUMNS."""

    def columns(self, args: argparse.Namespace, *, short: bool) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self.TEXT_COLUMNS if short else self.COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take --long besides cliff's options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--long', action='store_true', help='all columns in text and table too'
        )
        return parser

    def take_action(
        self,
        parsed_args: argparse.Namespace,
    ) -> tuple[Sequence[str], Iterable[typing.Any]]:
        """Do it and prepare the rows for a formatter."""
        short = (
            parsed_args.formatter in ('text', 'table')
            and not parsed_args.long
            and not parsed_args.columns
        )
        rows = self.program.mask.data(list(self.act(parsed_args)))
        names = self.columns(parsed_args, short=short)
        how = parsed_args.formatter
        return names, [tuple(_cell(how, name, row[name]) for name in names) for row in rows]

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[typing.Any]],
    ) -> int:
        """Print the rows, or that there is none."""
        rows = list(data)
        if not rows and self.NOTHING and parsed_args.formatter == 'text':
            self.app.stdout.write(f'{self.NOTHING}\n')
            return 0
        return int(super().produce_output(parsed_args, column_names, rows) or 0)


def add_guest(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Take a GUEST."""
    parser.add_argument(
        'guest',
        metavar='GUEST',
        nargs='?' if optional else None,
        help='name or UUID of the domain' + (' (default: all)' if optional else ''),
    )


def add_volume(parser: argparse.ArgumentParser) -> None:
    """Take a VOLUME."""
    parser.add_argument(
        'volume',
        metavar='VOLUME',
        help='volume id, target name such as vdb, or name in Cinder, where that is recorded',
    )


def name_volume(command: Base, args: argparse.Namespace) -> None:
    """Take VOLUME for a volume's name where it is one; Cinder is not asked."""
    if command.NAMES_VOLUME and args.volume is not None:
        args.volume = command.program.services.host_only.volume_id(args.guest, args.volume)


def add_connection_info(
    parser: argparse.ArgumentParser, *, required: bool = False, why: str = ''
) -> None:
    """Take --connection-info.

    :param why: when it is needed, where it need not be given
    """
    parser.add_argument(
        '--connection-info',
        metavar='FILE',
        required=required,
        help="JSON file with the volume's connection_info as Cinder gives it; "
        '"-" is standard input' + (f'; {why}' if why else ''),
    )


def add_connection_infos(parser: argparse.ArgumentParser) -> None:
    """Take any number of --connection-info."""
    parser.add_argument(
        '--connection-info',
        metavar='FILE',
        action='append',
        default=[],
        help=f"JSON file with a volume's connection_info, or -; may be repeated; {TO_CONNECT}",
    )


def add_disk(parser: argparse.ArgumentParser, *, of_image: bool = False) -> None:
    """Take what the guest shall see.

    :param of_image: leave the bus to the image that the volume is made from
    """
    default = "hw_disk_bus of a bootable volume's image, else virtio" if of_image else 'virtio'
    parser.add_argument(
        '--bus',
        default='' if of_image else 'virtio',
        help=f'virtio, scsi, sata, usb ... (default: {default})',
    )
    parser.add_argument(
        '--type',
        default='disk',
        choices=('disk', 'lun', 'cdrom', 'floppy'),
        help='kind of device (default: disk)',
    )
    parser.add_argument('--unit', type=int, metavar='N', help='unit on SCSI controller 0')
    parser.add_argument(
        '--boot-index', type=int, metavar='N', help='1 boots first (default: never booted)'
    )


def size(value: str) -> int:
    """Return the bytes of ``10737418240`` or ``10G`` (powers of 1024, as in Cinder)."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise argparse.ArgumentTypeError(
            f'{value!r} is no size; expected bytes, or a whole number with K, M, G, T or P '
            '(powers of 1024), such as 10G'
        )
    return int(match[1]) << (10 * _POWERS[match[2]])


def _cell(formatter: str, name: str, value: typing.Any) -> typing.Any:
    if not isinstance(value, list | dict):
        return value
    if formatter in ('csv', 'shell', 'value'):
        # One word a field; cliff would write how Python shows it.
        return json.dumps(value)
    return text.Value(name, value)


def read_json(option: str, name: str) -> Mapping[str, object]:
    """Return the object in a JSON file; ``-`` is standard input.

    :raises InvalidOption: no such file, or no JSON object; shows no content
    """
    what = 'standard input' if name == '-' else name
    try:
        if name == '-':
            content = sys.stdin.read()
        else:
            with open(name, encoding='utf-8') as file:
                content = file.read()
        data = json.loads(content)
    except UnicodeDecodeError:
        raise exception.InvalidOption(
            option=option, found=f'{what}, which is not UTF-8', expected='a JSON object'
        ) from None
    except OSError as error:
        raise exception.InvalidOption(
            option=option,
            found=f'{what}, which cannot be read ({error.strerror})',
            expected='a readable file, or -',
        ) from error
    except (ValueError, RecursionError) as error:
        # The decoder's message has a position and none of the content; but
        # the error itself has all of it, so it is not kept as the cause.
        raise exception.InvalidOption(
            option=option, found=f'{what}, which is not JSON ({error})', expected='a JSON object'
        ) from None
    if not isinstance(data, dict):
        raise exception.InvalidOption(
            option=option, found=f'{what}, a JSON {type(data).__name__}', expected='a JSON object'
        )
    return data


def _warn_if_others_can_read(name: str) -> None:
    if name == '-':
        return
    mode = os.stat(name).st_mode
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        LOG.warning('%s holds secrets and every user can read it; "chmod 600" it', name)
