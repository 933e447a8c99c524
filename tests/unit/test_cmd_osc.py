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

"""The commands in OpenStackClient: what it finds, and that they use its connection."""

import argparse
import configparser
import io
import json
import pathlib
import types
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import test_cmd_volume
from tests.unit.fake_hypervisor import GUEST_UUID
from tests.unit.test_cmd_volume import NAME
from tests.unit.test_cmd_volume import Cinder
from tests.unit.test_cmd_volume import CinderShell
from volumedrivers.cmd import osc
from volumedrivers.cmd import services

cinder = test_cmd_volume.cinder
shell = test_cmd_volume.shell

SETUP = pathlib.Path(__file__).parents[2] / 'setup.cfg'


class Client:
    """What the client gives a command."""

    def __init__(self, connection: typing.Any, *options: str) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        parser = osc.build_option_parser(argparse.ArgumentParser())
        self.options = parser.parse_args(options)
        self.options.verbose_level = 1
        self.command_manager = types.SimpleNamespace(namespace='openstack.volumedrivers.v1')
        self.client_manager = types.SimpleNamespace(sdk_connection=connection)

    def run(self, name: str, *arguments: str) -> int:
        command = getattr(osc, name)(self, self.options, f'volume guest {name.lower()}')
        parser = command.get_parser(f'openstack volume guest {name.lower()}')
        return int(command.run(parser.parse_args(arguments)))


@pytest.fixture
def client(cinder: Cinder, shell: CinderShell, monkeypatch: pytest.MonkeyPatch) -> Client:
    def fakes(options: argparse.Namespace, connection: typing.Any) -> services.Services:
        made = shell.make(options)
        made.storage = own(options, connection).storage
        return made

    import openstack

    own = osc._Services
    monkeypatch.setattr(osc, '_Services', fakes)
    return Client(openstack.connect(cloud='demo'))


def test_there_and_back(client: Client, cinder: Cinder) -> None:
    assert client.run('Attach', 'web1', NAME, '-f', 'json') == 0
    assert json.loads(client.stdout.getvalue())['guest_uuid'] == GUEST_UUID
    assert client.stderr.getvalue().startswith('volume attach: reserve ... ')
    assert cinder.all[fake.VOLUME_ID]['status'] == 'in-use'
    assert client.run('List') == 0
    assert 'web1 as vda' in client.stdout.getvalue()
    assert client.run('Detach', 'web1', NAME) == 0
    assert client.stderr.getvalue().endswith('and Cinder has it back.\n')
    assert cinder.attachments == {}


def test_errors_are_explained(client: Client) -> None:
    assert client.run('Attach', 'web1', 'nothing') == 2
    said = client.stderr.getvalue()
    assert "has no volume 'nothing'" in said
    assert '  what to do "volumedrivers volume list"' in said


def test_quiet(client: Client) -> None:
    client.options.verbose_level = 0
    assert client.run('Attach', 'web1', NAME) == 0
    assert client.stderr.getvalue() == ''


def test_what_the_client_finds() -> None:
    """Every command that is named is there, and the plug-in is what the client expects."""
    parser = configparser.ConfigParser()
    parser.read(SETUP)
    points = parser['entry_points']
    assert points['openstack.cli.extension'].split() == ['volumedrivers', '=', osc.__name__]
    named = [
        line.split(' = ') for line in points['openstack.volumedrivers.v1'].strip().splitlines()
    ]
    for name, value in named:
        module, _, attribute = value.partition(':')
        assert module == osc.__name__
        assert name == f'volume_guest_{attribute.lower()}'
        assert getattr(osc, attribute).__doc__
    assert (osc.API_NAME, osc.API_VERSION_OPTION) == (
        'volumedrivers',
        'os_volumedrivers_api_version',
    )
    assert osc.DEFAULT_API_VERSION in osc.API_VERSIONS
    assert osc.make_client(None) is None  # type: ignore[func-returns-value]


def test_configuration_of_this_host(cinder: Cinder, shell: CinderShell) -> None:
    file = shell.directory.parent / 'own.conf'
    file.write_text('[volumedrivers]\ncinder_retries = 7\n')
    made = Client(types.SimpleNamespace(session=None), '--volumedrivers-config-file', str(file))
    options = argparse.Namespace(
        config_file=made.options.volumedrivers_config_file,
        config_dir=[],
        connect=None,
        os_cloud=None,
    )
    session = types.SimpleNamespace(timeout=None)
    connection = types.SimpleNamespace(session=session)
    assert osc._Services(options, connection).storage.retries == 7
    assert session.timeout == 120.0  # no request waits for ever
    session.timeout = 5.0
    assert osc._Services(options, connection).storage.timeout == 120.0
    assert session.timeout == 5.0
