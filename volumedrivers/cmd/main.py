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

"""The command ``volumedrivers``: global options, logging, errors.

Commands are looked up in a table and imported when they run, and what they
work with comes from Services, so that --help loads no os-brick and no libvirt.
"""

import argparse
import difflib
import logging
import os
import sys
import typing

from cliff import app

from volumedrivers import exception
from volumedrivers.cmd import commands
from volumedrivers.cmd import errors
from volumedrivers.cmd import progress
from volumedrivers.cmd import secrecy
from volumedrivers.cmd import services
from volumedrivers.cmd import signals
from volumedrivers.cmd import text

NAME = 'volumedrivers'

_DESCRIPTION = """\
Attach Cinder volumes to libvirt guests, and take them away again without
leaving anything behind."""

_EXAMPLES = """\
examples:
  volumedrivers host check
  volumedrivers volume list --os-cloud mycloud
  volumedrivers volume attach web1 data1
  volumedrivers show web1 data1 --tree
  volumedrivers volume detach web1 data1
  volumedrivers audit"""


class UnknownCommand(exception.BadInput):
    """The words name no command."""

    template = 'there is no command {command!r}; {advice}'
    command: str
    advice: str


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, **options: typing.Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata  # noqa: PLC0415

        sys.stdout.write(f'{NAME} {importlib.metadata.version(NAME)}\n')
        parser.exit()


class VolumeDriversApp(app.App):
    """cliff's application, without its interactive mode."""

    NAME = NAME

    def __init__(
        self, make_services: typing.Callable[..., services.Services], **streams: typing.Any
    ) -> None:
        super().__init__(_DESCRIPTION, None, commands.CommandTable(), **streams)
        self.mask = secrecy.Mask()
        self._make_services = make_services
        self._services: services.Services | None = None
        self._handler: progress.StepHandler | None = None

    @property
    def services(self) -> services.Services:
        """What the commands work with; made when first used."""
        if self._services is None:
            self._services = self._make_services(self.options)
            if self._handler is not None:
                self._services.observer = self._handler.observe
            self._services.mask = self.mask
        return self._services

    def show_steps(self) -> None:
        """Say each step of what is about to be done, unless --quiet."""
        if self._handler is not None:
            self._handler.shows_steps = True

    def say(self, words: str) -> None:
        """Tell a person what is so now, beside the result; unless --quiet."""
        if self.options.verbose_level:
            self.stderr.write(f'{text.plain(self.mask.text(words))}\n')

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, typing.Any] | None = None,
    ) -> argparse.ArgumentParser:
        """Return the parser of the global options; they may stand anywhere."""
        parser = argparse.ArgumentParser(
            prog=self.NAME,
            description=description,
            add_help=False,
            allow_abbrev=False,
            usage='%(prog)s [options] COMMAND ...',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        errors.explain_parser_errors(parser, self.stderr)
        parser.add_argument(
            '-h', '--help', action='store_true', help='show this, or the help of a command'
        )
        parser.add_argument('--version', action=_Version, help='show the version')
        parser.add_argument(
            '--connect',
            metavar='URI',
            help='libvirt URI, such as qemu:///system (default: option connection_uri)',
        )
        parser.add_argument(
            '--os-cloud',
            metavar='NAME',
            help='cloud of clouds.yaml whose Cinder is meant (default: option cinder_cloud, '
            'OS_CLOUD and the other OS_* variables, then group [cinder])',
        )
        parser.add_argument(
            '--config-file',
            metavar='FILE',
            action='append',
            default=[],
            help='configuration; may be repeated (default: '
            '/etc/volumedrivers/volumedrivers.conf, if there is one)',
        )
        parser.add_argument(
            '--config-dir',
            metavar='DIR',
            action='append',
            default=[],
            help='directory of *.conf files; may be repeated',
        )
        volume = parser.add_mutually_exclusive_group()
        volume.add_argument(
            '-v',
            '--verbose',
            dest='verbose_level',
            action='count',
            default=1,
            help='say what is being done, step by step',
        )
        volume.add_argument(
            '-q',
            '--quiet',
            dest='verbose_level',
            action='store_const',
            const=0,
            help='log nothing but errors',
        )
        parser.add_argument(
            '--debug',
            action='store_true',
            help='log everything, os-brick too, and show tracebacks',
        )
        return parser

    def configure_logging(self) -> None:
        """Log to standard error; os-brick and other libraries only with --debug."""
        debug = self.options.debug
        self._handler = progress.StepHandler(self.stderr)
        self._handler.setFormatter(
            secrecy.MaskingFormatter(
                self.mask,
                '%(asctime)s %(levelname)s %(name)s: %(message)s'
                if debug
                else '%(levelname)s: %(message)s',
            )
        )
        if not debug:
            self._handler.addFilter(logging.Filter(NAME))
        root = logging.getLogger()
        root.addHandler(self._handler)
        if debug:
            root.setLevel(logging.DEBUG)
        levels = {0: logging.ERROR, 1: logging.WARNING}
        self._handler.setLevel(
            logging.DEBUG if debug else levels.get(self.options.verbose_level, logging.INFO)
        )
        logging.getLogger(NAME).setLevel(self._handler.level)

    def run(self, argv: list[str]) -> int:
        """Run a command and return its exit code; nothing is raised."""
        level = logging.getLogger().level
        try:
            try:
                code = self._run(argv)
            except SystemExit as stop:  # argparse: --version, a wrong option
                code = stop.code if isinstance(stop.code, int) else errors.UNEXPECTED
            self.stdout.flush()  # a closed pipe is noticed here, not at exit
            return code
        except BrokenPipeError as error:
            return errors.exit_code(error)
        except (Exception, KeyboardInterrupt) as error:
            self._explain(error)
            return errors.exit_code(error)
        finally:
            self._stop()
            if self._handler is not None:
                logging.getLogger().removeHandler(self._handler)
                logging.getLogger().setLevel(level)

    def show_help(self, words: list[str]) -> None:
        """Print the help of a command, or of all.

        :raises UnknownCommand
        """
        if words:
            command, name, _ = self._find(words)
            # No options are needed to describe a command.
            parser = command(self, self.options).get_parser(f'{self.NAME} {name}')
            self.stdout.write(parser.format_help())
            return
        width = max(len(command.name) for command in commands.COMMANDS)
        listed = '\n'.join(
            f'  {command.name:<{width}}  {command.summary}' for command in commands.COMMANDS
        )
        self.stdout.write(
            f'{self.parser.format_help()}\ncommands:\n{listed}\n\n'
            f'{_EXAMPLES}\n\n{errors.EXIT_CODES}\n'
        )

    def _run(self, argv: list[str]) -> int:
        self.options, remainder = self.parser.parse_known_args(argv)
        self.configure_logging()
        if not remainder:
            self.show_help([])
            return errors.OK
        if self.options.help:
            self.show_help(remainder)
            return errors.OK
        command_class, name, arguments = self._find(remainder)
        command = command_class(self, self.options)
        parsed = command.get_parser(f'{self.NAME} {name}').parse_args(arguments)
        return int(command.run(parsed))

    def _find(self, words: list[str]) -> tuple[typing.Any, str, list[str]]:
        try:
            return self.command_manager.find_command(words)
        except ValueError:
            near = '" or "'.join(_near(words))
            raise UnknownCommand(
                command=' '.join(word for word in words if not word.startswith('-')) or words[0],
                advice=f'did you mean "{near}"?' if near else f'"{self.NAME} --help" lists them',
            ) from None

    def _debug(self) -> bool:
        return bool(getattr(getattr(self, 'options', None), 'debug', False))

    def _explain(self, error: BaseException) -> None:
        width = text.terminal_width(self.stderr)
        self._say(errors.explain(error, self.mask, debug=self._debug(), width=width))

    def _say(self, words: str) -> None:
        self.stderr.write(f'{text.plain(self.mask.text(words))}\n')

    def _stop(self) -> None:
        if self._services is None:
            return
        try:
            self._services.close()
        except KeyboardInterrupt:  # once more, and all has been said
            return
        except Exception as error:  # what the command did is done; only say it
            self._explain(error)


def _near(words: list[str]) -> list[str]:
    """Return the commands that the words may have been meant to name."""
    names = [command.name for command in commands.COMMANDS]
    group = [name for name in names if name.startswith(f'{words[0]} ')]
    meant = difflib.get_close_matches(' '.join(words[:2]), group, n=1, cutoff=0.8)
    return meant or group or difflib.get_close_matches(words[0], names)


def main(
    argv: list[str] | None = None,
    *,
    make_services: typing.Callable[..., services.Services] = services.Services,
) -> int:
    """Run the command line; returns the exit code."""
    with signals.like_interrupts():
        code = VolumeDriversApp(make_services).run(sys.argv[1:] if argv is None else argv)
    if code == errors.BROKEN_PIPE:
        # Nobody reads any more; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
