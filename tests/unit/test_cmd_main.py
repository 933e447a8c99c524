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

"""The command line in this process, on fakes; and what --help loads."""

import functools
import inspect
import io
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
import typing

from oslo_config import cfg
import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.cmd import commands
from volumedrivers.cmd import main
from volumedrivers.cmd import services
from volumedrivers.conf import opts
from volumedrivers.host import finding
from volumedrivers.host import health
from volumedrivers.libvirt.connected_volume import FailedPath

PASSWORD = 'chapsecret-99'


class FakeServices(services.Services):
    """Services on fakes; configuration, journal and locks are real."""

    def __init__(self, options: typing.Any, directory: pathlib.Path) -> None:
        super().__init__(options)
        self.directory = directory
        self.fakes = fake.Calls()
        self.guest = fake.FakeGuest(self.fakes)
        self.driver = fake.FakeDriver(self.fakes)
        self.closed = False

    @property
    def hypervisor(self) -> typing.Any:
        return fake.FakeHypervisor(self.guest)

    @functools.cached_property
    def manager(self) -> AttachmentManager:
        return fake.make_manager(
            self.conf, self.directory, self.driver, self.guest, observer=self.observer
        )

    def set_up(self, *, only_look: bool = False) -> None:
        self.fakes.note('look' if only_look else 'set_up')

    def close(self) -> None:
        self.closed = True
        self.fakes.note('close')


class Shell:
    """Runs the command and keeps what it said."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.out = self.err = ''
        self.services: list[FakeServices] = []
        self.prepare: typing.Callable[[FakeServices], None] = lambda made: None

    def make(self, options: typing.Any) -> FakeServices:
        self.services.append(FakeServices(options, self.directory))
        self.prepare(self.services[-1])
        return self.services[-1]

    def run(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        code = main.VolumeDriversApp(self.make, stdout=out, stderr=err).run(list(arguments))
        self.out, self.err = out.getvalue(), err.getvalue()
        assert PASSWORD not in self.out + self.err
        return code

    def json(self, *arguments: str, code: int = 0) -> typing.Any:
        assert self.run(*arguments, '-f', 'json') == code, self.err
        return json.loads(self.out)


@pytest.fixture
def shell(tmp_path: pathlib.Path) -> Shell:
    return Shell(tmp_path / 'state')


@pytest.fixture
def file(tmp_path: pathlib.Path) -> str:
    path = tmp_path / 'volume.json'
    path.write_text(json.dumps(fake.connection_info()))
    path.chmod(0o600)
    return str(path)


def has(target: str) -> typing.Callable[[FakeServices], None]:
    return lambda made: made.guest.present.append(fake.make_disk(fake.VOLUME_ID, target))


def fails(step: str, error: BaseException) -> typing.Callable[[FakeServices], None]:
    return lambda made: made.fakes.fail.update({step: error})


def test_attach(shell: Shell, file: str) -> None:
    result = shell.json('attach', 'web1', '--connection-info', file, '--bus', 'scsi')
    assert result['target'] == 'sda'
    assert result['source'] == fake.PATH
    assert result['paths_failed'] == []
    assert all(key == key.lower() and ' ' not in key for key in result)
    assert shell.services[0].closed


def test_attach_as_text(shell: Shell, file: str) -> None:
    assert shell.run('attach', 'web1', '--connection-info', file, '--target', 'vdx') == 0
    assert 'Target              vdx\n' in shell.out
    assert 'Identity            wwn:3600\n' in shell.out
    assert shell.err == ''


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_told_to_end_in_the_middle(
    shell: Shell, file: str, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    """As systemd does it: the step ends, and what was done is undone."""

    def stopped(made: FakeServices) -> None:
        connect = made.driver.connect_volume

        def signalled(info: typing.Any, attachment: str) -> typing.Any:
            os.kill(os.getpid(), number)
            time.sleep(0.1)
            return connect(info, attachment)

        made.driver.connect_volume = signalled  # type: ignore[method-assign]

    shell.prepare = stopped
    before = signal.getsignal(number)
    arguments = ['attach', 'web1', '--connection-info', file]
    assert main.main(arguments, make_services=shell.make) == code
    assert capsys.readouterr().err.startswith('Interrupted.')
    (made,) = shell.services
    assert [call for call in made.fakes.calls if call in ('connect', 'disconnect')] == [
        'connect',
        'disconnect',
    ]
    assert made.manager.context.journal.find() == ()
    assert signal.getsignal(number) is before


def degraded(made: FakeServices) -> None:
    made.driver.failed_paths = (FailedPath('192.0.2.2:3260', f'refused {PASSWORD}'),)


@pytest.mark.parametrize(('options', 'code'), [((), 0), (('--fail-degraded',), 7)])
def test_attach_with_fewer_paths(
    shell: Shell, file: str, options: tuple[str, ...], code: int
) -> None:
    shell.prepare = degraded
    result = shell.json('attach', 'web1', '--connection-info', file, *options, code=code)
    assert result['degraded'] is True
    assert result['paths_failed'] == [{'name': '192.0.2.2:3260', 'reason': 'refused ***'}]
    assert '1 of 2 paths' in shell.err


def test_attach_reads_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'stdin', io.StringIO(json.dumps(fake.connection_info())))
    assert shell.run('attach', 'web1', '--connection-info', '-') == 0


def test_detach(shell: Shell, file: str) -> None:
    shell.prepare = has('vdb')
    result = shell.json(
        'detach',
        'web1',
        'vdb',
        '--connection-info',
        file,
        '--force',
        '--attempts',
        '2',
        '--timeout',
        '3',
    )
    assert result['removed_from_guest'] is True
    assert result['forced'] is True
    assert shell.services[0].guest.detach_options['attempts'] == 2


def test_detach_says_that_there_was_nothing_in_the_guest(shell: Shell, file: str) -> None:
    assert shell.run('detach', 'web1', 'vdb', '--connection-info', file) == 0
    assert 'Removed from guest  no\n' in shell.out
    assert f'guest web1 did not have volume {fake.VOLUME_ID}' in shell.err


@pytest.mark.parametrize('arguments', [('detach', 'web1', 'vdb'), ('extend', 'web1', 'vdb', '1G')])
def test_connection_info_is_needed_where_nothing_is_recorded(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    shell.prepare = has('vdb')
    assert shell.run(*arguments) == 2
    assert '--connection-info is missing; expected that of vdb: guest web1 has it' in shell.err
    assert shell.services[0].fakes.calls == ['set_up', 'close']


def test_extend(shell: Shell, file: str) -> None:
    shell.prepare = has('vdb')
    result = shell.json('extend', 'web1', fake.VOLUME_ID, '1G', '--connection-info', file)
    assert (result['requested_size'], result['size']) == (fake.GIB, fake.GIB)


def test_list(shell: Shell) -> None:
    shell.prepare = has('vdb')
    assert shell.run('list') == 0
    assert shell.out.splitlines() == [
        'Guest  Target  Volume ID                             State       Source',
        f'web1   vdb     {fake.VOLUME_ID}  unrecorded  {fake.PATH}',
    ]
    (row,) = shell.json('list', 'web1')
    assert row['guest_uuid'] == fake.GUEST_UUID
    assert shell.run('list', '-f', 'value', '-c', 'target') == 0
    assert shell.out == 'vdb\n'


def test_show(shell: Shell) -> None:
    shell.prepare = has('vdb')
    shown = shell.json('show', 'web1', 'vdb')
    assert shown['volume_id'] == fake.VOLUME_ID
    assert 'no device' in shown['host_problem']


@pytest.mark.parametrize(
    'arguments', [('show', 'web1', 'vdb'), ('show', 'web1', 'vdb', '--tree'), ('extend',)]
)
def test_disk_that_is_not_there_is_a_wrong_request(
    shell: Shell, file: str, arguments: tuple[str, ...]
) -> None:
    if arguments == ('extend',):
        arguments = ('extend', 'web1', 'vdb', '1G', '--connection-info', file)
    assert shell.run(*arguments) == 2
    assert 'guest web1 has no disk vdb; "volumedrivers list web1" shows' in shell.err


def test_lists_are_one_word_for_a_machine(shell: Shell) -> None:
    shell.prepare = has('vdb')
    assert shell.run('list', '-f', 'value', '-c', 'hosts', '-c', 'target') == 0
    assert shell.out == 'vdb []\n'
    assert shell.run('show', 'web1', 'vdb', '-f', 'shell', '-c', 'hosts') == 0
    assert shell.out == 'hosts="[]"\n'


def test_tree_is_for_people(shell: Shell) -> None:
    shell.prepare = has('vdb')
    assert shell.run('show', 'web1', 'vdb', '--tree', '-f', 'json') == 2
    assert shell.out == ''


def test_show_as_tree(shell: Shell) -> None:
    shell.prepare = has('vdb')
    assert shell.run('show', 'web1', 'vdb', '--tree') == 0
    assert shell.out.splitlines()[0] == f'guest web1  {fake.GUEST_UUID}'
    assert f'block {fake.PATH}' in shell.out


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (exception.VolumeDeviceNotFound(volume_id='v', reason='no LUN'), 5),
        (exception.ConnectFailed(volume_id='v', driver_volume_type='x', reason='y'), 1),
        (exception.ToolMissing(tool='iscsiadm', package='open-iscsi'), 3),
        (exception.IdentityMismatch(path='p', found='a', expected='b', volume_id='v'), 4),
        (KeyError('a bug'), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(shell: Shell, file: str, error: BaseException, code: int) -> None:
    shell.prepare = fails('connect', error)
    assert shell.run('attach', 'web1', '--connection-info', file) == code
    assert shell.out == ''
    assert 'Traceback' not in shell.err
    assert shell.services[0].closed


def test_debug_shows_the_traceback(shell: Shell, file: str) -> None:
    shell.prepare = fails('connect', ValueError(PASSWORD))
    assert shell.run('--debug', 'attach', 'web1', '--connection-info', file) == 70
    assert 'Traceback' in shell.err
    assert '***' in shell.err


def test_failure_to_close_does_not_hide_the_result(shell: Shell, file: str) -> None:
    shell.prepare = fails('close', exception.HypervisorUnavailable(uri='u', reason='gone'))
    assert shell.run('attach', 'web1', '--connection-info', file) == 0
    assert 'wwn:3600' in shell.out
    assert 'cannot be reached' in shell.err


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (b'{', 'not JSON'),
        (b'[' * 100_000, 'not JSON'),
        (b'[]', 'a JSON list'),
        (b'\xff', 'not UTF-8'),
        (b'{}', 'driver_volume_type'),
        (None, 'cannot be read'),
    ],
)
def test_bad_connection_info(
    shell: Shell, tmp_path: pathlib.Path, content: bytes | None, found: str
) -> None:
    path = tmp_path / 'bad.json'
    if content is not None:
        path.write_bytes(content)
    assert shell.run('attach', 'web1', '--connection-info', str(path)) == 2
    assert found in shell.err
    assert shell.services == []


def test_content_of_a_broken_file_is_not_shown(shell: Shell, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'bad.json'
    path.write_text(f'{{"auth_password": "{PASSWORD}"')
    assert shell.run('--debug', 'attach', 'web1', '--connection-info', str(path)) == 2


def test_warning_of_a_file_that_others_read(shell: Shell, file: str) -> None:
    pathlib.Path(file).chmod(0o644)
    assert shell.run('attach', 'web1', '--connection-info', file) == 0
    assert 'chmod 600' in shell.err


@pytest.mark.parametrize(
    'arguments',
    [
        ('nonsense',),
        ('driver', 'nonsense'),
        ('attach',),
        ('attach', 'web1'),
        ('extend', 'web1', 'vdb', 'much'),
        ('detach', 'web1', 'vdb', '--attempts', '0'),
        ('list', '--nonsense'),
        ('--connect',),
        ('-q', '-v', 'list'),
        ('list', '-f', 'nonsense'),
    ],
)
def test_wrong_arguments(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell.run(*arguments) == 2
    assert shell.err.startswith('Error: ')
    assert 'what to do' in shell.err
    assert shell.services == []


def test_global_options_may_stand_behind_the_command(shell: Shell) -> None:
    assert shell.run('list', '--connect', 'test:///x') == 0
    assert shell.services[0].uri == 'test:///x'


def test_configuration_file(shell: Shell, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'my.conf'
    path.write_text('[volumedrivers]\nconnection_uri = qemu:///session\n')
    assert shell.run('--config-file', str(path), 'list') == 0
    assert shell.services[0].uri == 'qemu:///session'


@pytest.mark.parametrize(
    'content', ['[volumedrivers]\nmount_timeout = soon\n', 'no section\n', None]
)
def test_wrong_configuration(shell: Shell, tmp_path: pathlib.Path, content: str | None) -> None:
    path = tmp_path / 'my.conf'
    if content is not None:
        path.write_text(content)
    assert shell.run('--config-file', str(path), 'host', 'check') == 2
    assert 'the configuration is not usable' in shell.err


def test_no_command_shows_the_help(shell: Shell) -> None:
    assert shell.run() == 0
    assert shell.out.startswith('usage: volumedrivers')


def test_help_lists_commands_and_exit_codes(shell: Shell) -> None:
    assert shell.run('--help') == 0
    for command in commands.COMMANDS:
        assert f'  {command.name} ' in shell.out
        assert command.summary in shell.out
    assert 'exit codes:' in shell.out


@pytest.mark.parametrize('command', commands.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(shell: Shell, command: commands.Command) -> None:
    assert shell.run(*command.name.split(), '--help') == 0
    asked = shell.out
    assert shell.run('help', *command.name.split()) == 0
    assert shell.out == asked
    assert f'usage: volumedrivers {command.name}' in asked
    # The table's line is the first of what the class says.
    said = (inspect.getdoc(command.load()) or '').rstrip('.')
    assert command.summary.startswith(said)


@pytest.mark.parametrize(
    ('word', 'meant'),
    [
        ('driver', '"driver list" or "driver show"?'),
        ('atach', 'did you mean "attach"'),
        ('frobnicate', '--help" lists them'),
    ],
)
def test_what_may_have_been_meant(shell: Shell, word: str, meant: str) -> None:
    assert shell.run(word) == 2
    assert meant in shell.err


def test_help_of_nothing(shell: Shell) -> None:
    assert shell.run('nonsense', '--help') == 2
    assert shell.run('help', 'nonsense') == 2
    assert 'there is no command' in shell.err


def test_completion(shell: Shell) -> None:
    assert shell.run('complete') == 0
    assert 'attach' in shell.out
    assert '--connection-info' in shell.out


def test_version(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run('--version') == 0
    assert capsys.readouterr().out.startswith('volumedrivers ')


def test_logging_is_as_before(shell: Shell) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    shell.run('--debug', 'list')
    assert (logging.getLogger().handlers[:], logging.getLogger().level) == before


def test_libraries_are_silent_without_debug(shell: Shell) -> None:
    def talk(made: FakeServices) -> None:
        logging.getLogger('os_brick.initiator').error('os-brick failed')
        logging.getLogger('volumedrivers.host').warning('look here')
        logging.getLogger('volumedrivers.host').info('in detail')

    shell.prepare = talk
    shell.run('list')
    assert shell.err == 'WARNING: look here\n'
    shell.run('-v', 'list')
    assert shell.err == 'WARNING: look here\nINFO: in detail\n'
    shell.run('-q', 'list')
    assert shell.err == ''
    shell.run('--debug', 'list')
    assert 'os-brick failed' in shell.err


FINDINGS = (
    finding.ok('privilege', 'runs as root'),
    finding.warning('udev', 'udev does not run', 'start it'),
)
PROBLEM = finding.problem('lock path', 'is no directory', 'move it')


@pytest.mark.parametrize(('found', 'code'), [(FINDINGS, 0), ((*FINDINGS, PROBLEM), 3)])
def test_host_check(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[finding.Finding, ...],
    code: int,
) -> None:
    monkeypatch.setattr(health, 'check', lambda conf: found)
    rows = shell.json('host', 'check', code=code)
    assert [row['status'] for row in rows] == ['ok', *(str(one.status) for one in found)]
    assert shell.run('host', 'check', '--bad') == code
    assert 'privilege' not in shell.out
    assert '-> start it' in shell.out


def test_host_check_without_libvirt(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(hypervisor: typing.Any) -> None:
        raise exception.HypervisorUnavailable(uri='u', reason='nobody listens')

    monkeypatch.setattr(fake.FakeHypervisor, 'guests', refuse)
    monkeypatch.setattr(health, 'check', lambda conf: ())
    (row,) = shell.json('host', 'check', code=3)
    assert 'nobody listens' in row['what']


def test_drivers(shell: Shell) -> None:
    rows = {row['name']: row for row in shell.json('driver', 'list')}
    assert 'multipath' in rows['iscsi']['capabilities']
    shown = shell.json('driver', 'show', 'rbd')
    assert shown['class'] == 'volumedrivers.libvirt.drivers.rbd:RbdVolumeDriver'
    assert shown['works_here'] is (shown['why_not'] is None)
    assert shell.run('driver', 'show', 'nonsense') == 2


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ((), '<source dev="/dev/disk/by-id/unknown"/>'),
        (('--path', '/dev/disk/by-id/wwn-0x9'), '<source dev="/dev/disk/by-id/wwn-0x9"/>'),
        ((), '<target dev="vda" bus="virtio"/>'),
        (('--bus', 'scsi'), '<target dev="sda" bus="scsi"/>'),
        (('--target', 'vdx'), '<target dev="vdx" bus="virtio"/>'),
        (('--bus', 'scsi', '--target', 'sdb', '--unit', '3'), 'unit="3"'),
        (('--bus', 'fdc', '--type', 'floppy'), '<disk type="block" device="floppy">'),
    ],
)
def test_disk_xml(shell: Shell, file: str, options: tuple[str, ...], expected: str) -> None:
    assert shell.run('disk', 'xml', '--connection-info', file, *options) == 0
    assert expected in shell.out


def test_disk_xml_of_a_volume_qemu_opens(shell: Shell, file: str, tmp_path: pathlib.Path) -> None:
    config = tmp_path / 'qemu.conf'
    config.write_text(
        '[volumedrivers]\niscsi_client = qemu\niscsi_initiator_name = iqn.2020-01.test:host\n'
    )
    command = ('--config-file', str(config), 'disk', 'xml', '--connection-info', file)
    assert shell.run(*command) == 0
    assert '<host name="192.0.2.1" port="3260"/>' in shell.out
    assert shell.run(*command, '--path', '/dev/sda') == 2


def test_disk_xml_of_a_file(shell: Shell, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'nfs.json'
    data = {'export': '192.0.2.1:/e', 'name': 'volume-1', 'format': 'qcow2', 'options': None}
    path.write_text(json.dumps({'driver_volume_type': 'nfs', 'serial': 's', 'data': data}))
    assert shell.run('disk', 'xml', '--connection-info', str(path)) == 0
    assert '/volume-1"/>' in shell.out
    assert 'type="qcow2"' in shell.out


def test_connector(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    from volumedrivers.host import connector_properties

    asked = []

    def properties(conf: cfg.ConfigOpts, *, write_host_files: bool = False) -> dict[str, object]:
        asked.append(write_host_files)
        return {'host': 'here', 'multipath': False, 'initiator': 'iqn.2020-01.test:host'}

    monkeypatch.setattr(connector_properties, 'get_connector_properties', properties)
    found = shell.json('connector', 'show')
    assert found == {'host': 'here', 'multipath': False, 'initiator': 'iqn.2020-01.test:host'}
    assert shell.services[0].fakes.calls == ['set_up', 'close']

    earlier = tmp_path / 'connector.json'
    earlier.write_text(json.dumps({**found, 'multipath': True}))
    differs = shell.json('connector', 'show', '--compare', str(earlier), '--write-host-files')
    assert asked == [False, True]
    assert list(differs) == ['multipath']
    assert (differs['multipath']['was'], differs['multipath']['is']) == (True, False)
    earlier.write_text(json.dumps(found))
    assert shell.run('connector', 'show', '--compare', str(earlier)) == 0
    assert shell.out == 'nothing\n'


HEAVY = (
    'os_brick',
    'castellan',
    'sqlite3',
    'libvirt',
    'lxml',
    'openstack',
    'oslo_config',
    'rich',
    'cmd2',
    'yaml',
)


@pytest.mark.parametrize('arguments', [['--help'], ['--version'], ['nonsense'], []])
def test_what_help_loads(arguments: list[str]) -> None:
    program = (
        'import sys; from volumedrivers.cmd.main import main; main(sys.argv[1:]); '
        f'print(sorted(set({HEAVY!r}) & set(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == '[]'


def test_what_list_loads_and_makes(tmp_path: pathlib.Path) -> None:
    config = tmp_path / 'my.conf'
    config.write_text(f'[volumedrivers]\nstate_path = {tmp_path / "state"}\n')
    program = (
        'import sys; from volumedrivers.cmd.main import main; '
        'code = main(["--connect=test:///default", "--config-file", *sys.argv[1:], "list"]); '
        "print(code, sorted({'os_brick', 'castellan'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, '-c', program, str(config)], capture_output=True, text=True, check=True
    )
    assert done.stdout == '0 []\n'
    assert not (tmp_path / 'state').exists()


@pytest.mark.parametrize('argument', ['--help', '--version'])
def test_nobody_reads(argument: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = 'import sys; from volumedrivers.cmd.main import main; sys.exit(main(sys.argv[1:]))'
    done = subprocess.run(
        [sys.executable, '-c', program, argument],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ''


def test_services_are_made_when_used() -> None:
    options = types.SimpleNamespace(config_file=[], config_dir=[], connect=None)
    made = services.Services(typing.cast(typing.Any, options))
    made.close()
    assert made.uri == made.conf[opts.GROUP.name].connection_uri
    assert made.registry.get('local') is not None


def test_host_without_libvirt_python(monkeypatch: pytest.MonkeyPatch) -> None:
    options = types.SimpleNamespace(config_file=[], config_dir=[], connect=None)
    made = services.Services(typing.cast(typing.Any, options))
    monkeypatch.delitem(sys.modules, 'volumedrivers.libvirt.hypervisor', raising=False)
    monkeypatch.setitem(sys.modules, 'libvirt', None)
    with pytest.raises(exception.ToolMissing, match=r'volumedrivers\[libvirt\]'):
        _ = made.hypervisor
    with pytest.raises(exception.ToolMissing):
        _ = made.manager
