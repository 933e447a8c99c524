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

"""What the documentation tells people to type and to write, as far as it needs no guest."""

from collections.abc import Iterator
import os
import pathlib
import re
import shlex
import textwrap
import typing

from openstack.config import loader
from oslo_config import cfg
import pytest

from tests.unit import fake_cinder
from volumedrivers.cinder import connection
from volumedrivers.cmd import commands
from volumedrivers.cmd import main
from volumedrivers.conf import opts

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted((ROOT / 'doc/source').glob('*.rst'))
# A command after a prompt, to its end or to what a shell does with the rest.
TYPED = re.compile(
    r'^ +(?:#|\$|[\d*/ ]+ root) (?:\S*/)?(volumedrivers .*?)(?: *[|>#].*)?$', re.MULTILINE
)
NAMED = re.compile(r'``volumedrivers ([^`]*)``')
CINDER = (ROOT / 'doc/source/cinder.rst').read_text()


def found(pattern: re.Pattern[str]) -> dict[str, str]:
    """Return the commands, and of each a page that has it."""
    said = {}
    for page in (*PAGES, ROOT / 'README.rst'):
        for words in pattern.findall(page.read_text()):
            said[' '.join(words.removeprefix('volumedrivers ').split())] = page.name
    return said


@pytest.mark.parametrize('words', sorted(found(TYPED)))
def test_what_is_typed_is_taken(words: str) -> None:
    """Options, and how many words there are."""
    app = main.VolumeDriversApp(typing.cast(typing.Any, None))
    options, rest = app.parser.parse_known_args(shlex.split(words))
    if options.help or not rest:
        return
    kind, name, arguments = commands.CommandTable().find_command(rest)
    kind(app, options).get_parser(name).parse_args(arguments)


@pytest.mark.parametrize('words', sorted(found(NAMED)))
def test_what_is_named_is_a_command(words: str) -> None:
    app = main.VolumeDriversApp(typing.cast(typing.Any, None))
    _, rest = app.parser.parse_known_args(words.split())
    if [word for word in rest if word != '...']:
        commands.CommandTable().find_command(rest)


def test_commands_are_found() -> None:
    """Or the two tests above would be of nothing."""
    typed = found(TYPED)
    assert typed['volume detach web1 data1'] == 'shell.rst'
    assert typed['-q audit --problems'] == 'shell.rst'
    assert 'README.rst' in typed.values()
    assert 'volume refresh web1 vdb' in found(NAMED)


def test_each_command_is_told_of() -> None:
    said = (ROOT / 'doc/source/shell.rst').read_text()
    for command in commands.COMMANDS:
        assert command.name in {'help', 'complete'} or command.name in said, command.name


# Finding and asking Cinder


def block(begin: str) -> str:
    """Return the block of cinder.rst that begins so."""
    (text,) = re.findall(rf'^    {re.escape(begin)}\n(?:    .*\n|\n)*', CINDER, re.MULTILINE)
    return textwrap.dedent(text)


def configuration(text: str, directory: pathlib.Path) -> cfg.ConfigOpts:
    path = directory / 'volumedrivers.conf'
    path.write_text(text)
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[str(path)])
    return conf


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in [name for name in os.environ if name.startswith('OS_')]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(loader, 'CONFIG_FILES', [str(tmp_path / 'clouds.yaml')])
    monkeypatch.setattr(loader, 'SECURE_FILES', [str(tmp_path / 'secure.yaml')])


@pytest.fixture
def cinder() -> Iterator[fake_cinder.FakeCinder]:
    with fake_cinder.served(made := fake_cinder.FakeCinder()):
        yield made


def test_groups_of_the_configuration(
    cinder: fake_cinder.FakeCinder, tmp_path: pathlib.Path
) -> None:
    """A user of Keystone and the token of a service; each line counts."""
    url = f'{cinder.url}/v3/{fake_cinder.PROJECT}'
    keystone = fake_cinder.FakeKeystone(
        {'RegionOne': {'internal': url}, 'RegionTwo': {'internal': 'http://127.0.0.1:1'}}
    )
    keystone.passwords = {'volumes': '...', 'nova': '...'}
    with fake_cinder.served(keystone):
        text = block('[cinder]') + block('[service_user]')
        assert text.count('https://cloud.example.com/identity') == 2
        text = text.replace('https://cloud.example.com/identity', keystone.url)
        storage = connection.connect(configuration(text, tmp_path))
        assert storage.ask(storage.proxy.get_volume, fake_cinder.VOLUME).name == 'data'
    headers = cinder.requests[-1].headers
    assert headers['x-auth-token'] == 'token-of-volumes'
    assert headers['x-service-token'] == 'token-of-nova'


def test_cloud_and_calls(cinder: fake_cinder.FakeCinder, tmp_path: pathlib.Path) -> None:
    """The file, and the lines of Python with it."""
    told = 'http://127.0.0.1:8776'
    clouds = block('clouds:')
    assert told in clouds
    (tmp_path / 'clouds.yaml').write_text(clouds.replace(told, cinder.url))
    code = block("storage = connection.connect(conf, 'mycloud')").replace('mycloud', 'demo')
    names: dict[str, typing.Any] = {
        'connection': connection,
        'conf': configuration('', tmp_path),
        'volume_id': fake_cinder.VOLUME,
    }
    exec(code, names)
    assert names['volume'].name == 'data'
    assert list(cinder.attachments) == [names['made'].id]
    assert cinder.count('POST /v3/attachments') == 1
