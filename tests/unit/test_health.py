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

"""Each check finds what is wrong, says what to do, and never hangs."""

from collections.abc import Iterable
import os
import pathlib
import socket
import struct
import subprocess
import threading
import time
import types
import typing

from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import finding
from volumedrivers.host import health
from volumedrivers.host import health_paths
from volumedrivers.host import health_services
from volumedrivers.host import mount_table
from volumedrivers.host import multipathd
from volumedrivers.host import qemu_modules
from volumedrivers.host import requirements
from volumedrivers.host.finding import Status

ANYTHING = types.SimpleNamespace()


def one(found: Iterable[finding.Finding]) -> finding.Finding:
    (only,) = found
    if only.status in (Status.WARNING, Status.PROBLEM):
        assert only.what_to_do
    return only


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> cfg.ConfigOpts:
    made = cfg.ConfigOpts()
    opts.register_opts(made)
    made([])
    made.set_override('state_path', str(tmp_path / 'state'), opts.GROUP.name)
    return made


def test_whole_check_of_this_host(conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> None:
    found = health.check(conf)
    names = [each.name for each in found]
    for name in ('privilege', 'state path', 'lock path', 'tool qemu-img', 'module nfs'):
        assert names.count(name) == 1
    assert all(each.what for each in found)
    assert os.listdir(tmp_path) == []  # nothing was made


def test_a_check_that_hangs_is_unknown() -> None:
    def hang(options: typing.Any) -> Iterable[finding.Finding]:
        time.sleep(5)
        return ()

    found = one(health.run('slow', hang, ANYTHING, seconds=0.05))
    assert found.status == Status.UNKNOWN
    assert 'the check of slow' in found.what


@pytest.mark.parametrize('error', [PermissionError(13, 'denied'), exception.NotSetUp(reason='no')])
def test_a_check_that_fails_is_unknown(error: Exception) -> None:
    def fail(options: typing.Any) -> Iterable[finding.Finding]:
        raise error

    assert one(health.run('broken', fail, ANYTHING)).status == Status.UNKNOWN


def test_a_mistake_in_a_check_is_not_hidden() -> None:
    def mistake(options: typing.Any) -> Iterable[finding.Finding]:
        raise KeyError('x')

    with pytest.raises(KeyError):
        health.run('wrong', mistake, ANYTHING)


# Services


def test_udev(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / 'control')
    assert one(health_services.udev(ANYTHING, path=path)).status == Status.WARNING
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        assert one(health_services.udev(ANYTHING, path=path)).status == Status.WARNING
        server.listen()
        assert one(health_services.udev(ANYTHING, path=path)).status == Status.OK


def table(tmp_path: pathlib.Path, *names: str) -> str:
    path = tmp_path / 'unix'
    lines = [f'ffff: 00000002 00000000 00010000 0001 01 12 {name}' for name in names]
    path.write_text('\n'.join(['Num RefCount Protocol Flags Type St Inode Path', *lines, '']))
    return str(path)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The tools that are there; a test changes the set."""
    there: set[str] = {'iscsiadm', 'nvme', 'qemu-img'}
    monkeypatch.setattr(
        requirements.Tool,
        'missing',
        lambda tool: None if tool.name in there else f'no {tool.name}; install {tool.package}',
    )
    return there


def test_iscsid(tmp_path: pathlib.Path, tools: set[str]) -> None:
    running = table(tmp_path, '@ISCSIADM_ABSTRACT_NAMESPACE')
    assert one(health_services.iscsid(ANYTHING, table=running)).status == Status.OK
    stopped = table(tmp_path, '/run/other')
    assert one(health_services.iscsid(ANYTHING, table=stopped)).status == Status.WARNING
    tools.clear()  # its absence is said once, by the check of the tools
    assert tuple(health_services.iscsid(ANYTHING, table=stopped)) == ()


def test_tools(tools: set[str]) -> None:
    found = {each.name: each for each in health_services.tools(ANYTHING)}
    assert found['tool iscsiadm'].status == Status.OK
    assert found['tool mount.nfs'].status == Status.WARNING
    assert found['tool mount.nfs'].what == 'no mount.nfs, which NFS needs'
    assert found['tool mount.nfs'].what_to_do == 'install nfs-common'


def test_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        requirements.KernelModule,
        'missing',
        lambda module: 'no nfs; boot another' if module.name == 'nfs' else None,
    )
    bad = [each for each in health_services.kernel_modules(ANYTHING) if each.status != 'ok']
    assert [(each.name, each.what_to_do) for each in bad] == [('module nfs', 'boot another')]


@pytest.mark.parametrize(
    ('lacking', 'statuses'),
    [
        ({'none'}, {Status.OK}),
        ({'none', 'rbd'}, {Status.OK, Status.WARNING}),
        (set(), {Status.UNKNOWN}),  # a QEMU without modules tells nothing
    ],
)
def test_qemu(monkeypatch: pytest.MonkeyPatch, lacking: set[str], statuses: set[Status]) -> None:
    monkeypatch.setattr(
        qemu_modules,
        'why_no_block_driver',
        lambda name: f'no {name}; install it' if name in lacking else None,
    )
    assert {each.status for each in health_services.qemu_drivers(ANYTHING)} == statuses


CONFIG = """\
defaults {{
\tverbosity 2
\tfind_multipaths "{find}"
\tuser_friendly_names "{friendly}"
}}
blacklist {{
\tdevnode "^vd"
}}
"""


class Multipathd:
    """Answers like multipathd, in a thread; ``answer`` None: it stays silent."""

    def __init__(self, answer: str | None) -> None:
        self.address = f'\0volumedrivers-test-{os.getpid()}-{id(self)}'
        self.asked = b''
        self._answer = answer
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.address)
        self._server.listen()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> typing.Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(5)
        self._server.close()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            self.asked = connection.recv(1024)
            if self._answer is None:
                self._done.wait(5)
                return
            data = self._answer.encode() + b'\0'
            connection.sendall(struct.pack('=Q', len(data)))
            for start in range(0, len(data), 7):  # in pieces, as a socket may
                connection.sendall(data[start : start + 7])


def multipath(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    *,
    answer: str | None = None,
    running: bool = True,
    wanted: bool = True,
) -> dict[str, finding.Finding]:
    options = types.SimpleNamespace(volume_use_multipath=wanted, iser_use_multipath=False)
    if not running:
        there = table(tmp_path)
        return {each.name: each for each in health_services.multipath(options, table=there)}
    with Multipathd(answer) as server:
        monkeypatch.setattr(multipathd, 'ADDRESS', server.address)
        there = table(tmp_path, f'@{server.address[1:]}')
        return {
            each.name: each
            for each in health_services.multipath(options, table=there, seconds=0.3)
        }


@pytest.mark.parametrize(
    ('find', 'friendly', 'bad'),
    [
        ('yes', 'no', set()),
        ('strict', 'no', set()),
        ('no', 'no', {'find_multipaths'}),
        ('off', 'yes', {'find_multipaths', 'user_friendly_names'}),
        ('greedy', 'no', {'find_multipaths'}),
    ],
)
def test_multipath_settings(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    find: str,
    friendly: str,
    bad: set[str],
) -> None:
    answer = CONFIG.format(find=find, friendly=friendly)
    found = multipath(monkeypatch, tmp_path, answer=answer)
    assert set(found) == {'multipathd', 'find_multipaths', 'user_friendly_names'}
    assert {name for name, each in found.items() if each.status == Status.WARNING} == bad
    assert found['multipathd'].status == Status.OK


def test_multipathd_with_an_answer_nobody_understands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    found = multipath(monkeypatch, tmp_path, answer='fail\n')
    assert found['multipath settings'].status == Status.UNKNOWN


@pytest.mark.parametrize(
    ('running', 'wanted', 'status'),
    [
        (True, True, Status.PROBLEM),
        (True, False, Status.WARNING),
        (False, True, Status.PROBLEM),
        (False, False, Status.OK),
    ],
)
def test_multipathd_that_is_silent_or_absent(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    running: bool,
    wanted: bool,
    status: Status,
) -> None:
    found = multipath(monkeypatch, tmp_path, running=running, wanted=wanted)
    assert found['multipathd'].status == status


def test_multipathd_that_closes_the_connection() -> None:
    address = f'\0volumedrivers-test-{os.getpid()}-closes'
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(OSError, match=r'closed|reset|pipe'):
            multipathd.ask('show config', seconds=2, address=address)


def test_what_multipathd_is_asked() -> None:
    with Multipathd('ok') as server:
        assert multipathd.ask('show config', seconds=2, address=server.address) == 'ok'
    assert server.asked == struct.pack('=Q', 12) + b'show config\0'


# Paths and privilege


@pytest.mark.parametrize('there', [True, False])
def test_writable_directory(conf: cfg.ConfigOpts, tmp_path: pathlib.Path, there: bool) -> None:
    if there:
        (tmp_path / 'state').mkdir()
    assert one(health_paths.state_path(conf.volumedrivers)).status == Status.OK
    assert (tmp_path / 'state').exists() is there


def test_directory_that_is_a_file(conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'state').write_text('')
    assert one(health_paths.state_path(conf.volumedrivers)).status == Status.PROBLEM
    assert one(health_paths.mount_point_bases(conf.volumedrivers)).status == Status.PROBLEM


def test_directory_of_somebody_else(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    found = one(health_paths.state_path(conf.volumedrivers))
    assert found.status == Status.PROBLEM
    assert found.what_to_do.startswith('install -d')


@pytest.mark.parametrize(
    ('content', 'status'),
    [
        ('[oslo_concurrency]\nlock_path = {same}\n', Status.OK),
        (
            '[DEFAULT]\nstate_path = {state}\n[oslo_concurrency]\nlock_path = $state_path/lock\n',
            Status.OK,
        ),
        ('[oslo_concurrency]\nlock_path = /elsewhere\n', Status.WARNING),
        ('[oslo_concurrency]\nlock_path = /x\n[os_brick]\nlock_path = {same}\n', Status.OK),
        ('[DEFAULT]\nmy_ip = 192.0.2.1\n', None),
        ('not a configuration', None),
        (None, None),
    ],
)
def test_lock_path_of_a_neighbour(
    tmp_path: pathlib.Path, content: str | None, status: Status | None
) -> None:
    same = tmp_path / 'lock'
    file = tmp_path / 'nova.conf'
    if content is not None:
        file.write_text(content.format(same=same, state=tmp_path))
    _, *found = health_paths.lock_path(ANYTHING, str(same), (('Nova', str(file)),))
    assert [each.status for each in found] == ([] if status is None else [status])


@pytest.mark.parametrize(
    ('content', 'status'),
    [
        ('## comment\nInitiatorName=iqn.1993-08.org.debian:01:abc\n', Status.OK),
        ('GenerateName=yes\n', Status.WARNING),
        ('InitiatorName=\n', Status.WARNING),
        (None, Status.WARNING),
    ],
)
def test_initiator_name(
    tmp_path: pathlib.Path, tools: set[str], content: str | None, status: Status
) -> None:
    path = tmp_path / 'initiatorname.iscsi'
    if content is not None:
        path.write_text(content)
    assert one(health_paths.initiator_name(ANYTHING, path=str(path))).status == status


def test_no_initiator_and_no_iscsi(tmp_path: pathlib.Path, tools: set[str]) -> None:
    tools.clear()
    assert tuple(health_paths.initiator_name(ANYTHING, path=str(tmp_path / 'x'))) == ()
    assert tuple(health_paths.host_nqn(ANYTHING, path=str(tmp_path / 'x'))) == ()


def test_host_nqn(tmp_path: pathlib.Path, tools: set[str]) -> None:
    path = tmp_path / 'hostnqn'
    assert one(health_paths.host_nqn(ANYTHING, path=str(path))).status == Status.WARNING
    path.write_text('nqn\n')
    assert one(health_paths.host_nqn(ANYTHING, path=str(path))).status == Status.OK


@pytest.mark.parametrize(
    ('error', 'hang', 'status'),
    [
        (None, False, Status.OK),
        (None, True, Status.PROBLEM),
        (PermissionError(13, 'denied'), False, Status.UNKNOWN),
        (OSError(116, 'Stale file handle'), False, Status.PROBLEM),
    ],
)
def test_remote_mounts(
    monkeypatch: pytest.MonkeyPatch, error: OSError | None, hang: bool, status: Status
) -> None:
    def statvfs(path: str) -> None:
        assert path == '/mnt/remote'  # local file systems are not asked
        if hang:
            time.sleep(5)
        if error is not None:
            raise error

    mounts = (
        mount_table.Mount(1, '/', '/', 'ext4', '/dev/vda1'),
        mount_table.Mount(2, '/', '/mnt/remote', 'nfs4', 'server:/export'),
        mount_table.Mount(3, '/', '/proc/fs/nfsd', 'nfsd', 'nfsd'),
    )
    monkeypatch.setattr(mount_table, 'read', lambda: mounts)
    monkeypatch.setattr(os, 'statvfs', statvfs)
    found = one(health_paths.hung_mounts(ANYTHING, seconds=0.05))
    assert found.status == status
    # The name is a column, which a path would make wider than a terminal.
    assert found.name == 'mount'
    assert '/mnt/remote' in found.what


def test_root_has_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 0)
    assert one(health_paths.privilege(ANYTHING)).status == Status.OK


@pytest.mark.parametrize(
    ('answer', 'status'),
    [
        (0, Status.OK),
        (1, Status.PROBLEM),
        (FileNotFoundError(), Status.PROBLEM),
        (subprocess.TimeoutExpired('sudo', 5), Status.UNKNOWN),
    ],
)
def test_sudo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, answer: typing.Any, status: Status
) -> None:
    config = tmp_path / 'rootwrap.conf'
    config.write_text('')
    commands: list[list[str]] = []

    def run(command: list[str], **options: typing.Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, answer)

    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    monkeypatch.setattr(subprocess, 'run', run)
    options = types.SimpleNamespace(rootwrap_config=str(config))
    assert one(health_paths.privilege(options)).status == status
    # It is asked what is allowed; nothing is run.
    assert commands[0][:3] == ['sudo', '-n', '-l']


def test_no_rootwrap(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    options = types.SimpleNamespace(rootwrap_config=str(tmp_path / 'none'))
    assert one(health_paths.privilege(options)).status == Status.PROBLEM
