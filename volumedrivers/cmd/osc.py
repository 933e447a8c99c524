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

"""The volume commands as a plug-in of OpenStackClient: ``openstack volume guest ...``.

Which cloud, and as whom, the client's options say.  It finds this by the
entry points of this package; nothing here imports it.
"""

import argparse
import functools
import typing

from volumedrivers import exception
from volumedrivers.cmd import errors
from volumedrivers.cmd import progress
from volumedrivers.cmd import secrecy
from volumedrivers.cmd import services
from volumedrivers.cmd import signals
from volumedrivers.cmd import text
from volumedrivers.cmd import volume
from volumedrivers.cmd import volume_change
from volumedrivers.cmd import volume_listing

if typing.TYPE_CHECKING:
    from volumedrivers.cinder.block_storage import BlockStorage

# What the client wants to know of a plug-in.
API_NAME = 'volumedrivers'
API_VERSION_OPTION = 'os_volumedrivers_api_version'
API_VERSIONS: typing.Final = {'1': 'volumedrivers.cmd.osc'}
DEFAULT_API_VERSION = '1'


def make_client(instance: object) -> None:
    """Make none: the commands use the connection that the client has."""


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Take where this host's configuration is."""
    parser.add_argument(
        '--volumedrivers-config-file',
        metavar='FILE',
        action='append',
        default=[],
        help='for "volume guest": configuration of volumedrivers; may be repeated (default: '
        '/etc/volumedrivers/volumedrivers.conf, if there is one)',
    )
    return parser


class _Services(services.Services):
    """Those whose Cinder is the client's."""

    def __init__(self, options: argparse.Namespace, connection: typing.Any) -> None:
        super().__init__(options)
        self._connection = connection

    @functools.cached_property
    def storage(self) -> 'BlockStorage':
        """The client's."""
        from volumedrivers.cinder.block_storage import BlockStorage  # noqa: PLC0415

        options = self.conf.volumedrivers
        session = self._connection.session
        if session.timeout is None:
            # The client waits for ever.
            session.timeout = options.cinder_timeout
        return BlockStorage(
            self._connection, retries=options.cinder_retries, timeout=options.cinder_timeout
        )


class _Program:
    """What our commands want of their application."""

    def __init__(self, app: typing.Any) -> None:
        self._app = app
        self.mask = secrecy.Mask()
        files = app.options.volumedrivers_config_file
        options = argparse.Namespace(config_file=files, config_dir=[], connect=None, os_cloud=None)
        connection = app.client_manager.sdk_connection
        secrecy.hear(connection.session, self.mask)
        self.services = _Services(options, connection)

    def show_steps(self) -> None:
        steps = progress.StepHandler(self._app.stderr)
        steps.shows_steps = True
        if self._app.options.verbose_level:
            self.services.observer = steps.observe

    def say(self, words: str) -> None:
        if self._app.options.verbose_level:
            self._app.stderr.write(f'{text.plain(self.mask.text(words))}\n')


class _Plugged:
    """A command of ours in the client, with our account of an error, and its exit code."""

    app: typing.Any
    auth_required = True

    @property
    def program(self) -> _Program:
        """What stands for our application."""
        return self._program

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run it."""
        self._program = _Program(self.app)
        try:
            with signals.like_interrupts():
                return int(super().run(parsed_args))  # type: ignore[misc]
        except (exception.VolumeDriversError, KeyboardInterrupt) as error:
            width = text.terminal_width(self.app.stderr)
            self.app.stderr.write(f'{errors.explain(error, self._program.mask, width=width)}\n')
            return errors.exit_code(error)
        finally:
            self._program.services.close()


def _plugged(command: type) -> type:
    return type(command.__name__, (_Plugged, command), {'__doc__': command.__doc__})


List, Show, Attachments, Attach, Detach, Extend, Refresh = map(
    _plugged,
    (
        volume_listing.List,
        volume_listing.Show,
        volume_listing.Attachments,
        volume.Attach,
        volume.Detach,
        volume_change.Extend,
        volume_change.Refresh,
    ),
)
