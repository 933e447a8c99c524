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

"""What the lab says to QEMU, and the parts of a machine that need none."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import typing

import pytest

from tests.lab.vm import counter
from tests.lab.vm import initrd
from tests.lab.vm import machine
from tests.lab.vm import memory
from tests.lab.vm import modules
from tests.lab.vm import qemu
from tests.lab.vm import qmp

ANSWERS: dict[str, list[dict[str, typing.Any]]] = {
    'qmp_capabilities': [{'return': {}}],
    'query-status': [{'event': 'STOP'}, {'return': {'status': 'paused'}}],
    'bad': [{'error': {'class': 'GenericError', 'desc': 'no such device'}}],
    'getfd': [{'return': {}}],
}


class Monitor:
    """Answers as QEMU does."""

    def __init__(self, path: pathlib.Path, greeting: dict[str, typing.Any]) -> None:
        self.received: list[dict[str, typing.Any]] = []
        self.files: list[int] = []
        self._greeting = greeting
        self._listener = socket.socket(socket.AF_UNIX)
        directory = os.open(path.parent, os.O_RDONLY)
        self._listener.bind(f'/proc/self/fd/{directory}/{path.name}')
        os.close(directory)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(json.dumps(self._greeting).encode() + b'\r\n')
            while True:
                data, files, _, _ = socket.recv_fds(connection, 1 << 16, 1)
                if not data:
                    return
                self.files += files
                request = json.loads(data)
                self.received.append(request)
                if request['execute'] == 'quit':
                    return
                for answer in ANSWERS[request['execute']]:
                    connection.sendall(json.dumps(answer).encode() + b'\r\n')


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    # Longer than the address of a socket may be.
    deep = tmp_path / ('x' * 120)
    deep.mkdir()
    return deep / 'monitor.sock'


@pytest.fixture
def monitor(path: pathlib.Path) -> Monitor:
    return Monitor(path, {'QMP': {'version': {}}})


def test_an_answer_and_not_an_event(monitor: Monitor, path: pathlib.Path) -> None:
    with qmp.QmpClient(path) as client:
        assert client.execute('query-status') == {'status': 'paused'}
    assert [request['execute'] for request in monitor.received] == [
        'qmp_capabilities',
        'query-status',
    ]


@pytest.mark.usefixtures('monitor')
def test_what_qemu_refuses(path: pathlib.Path) -> None:
    with qmp.QmpClient(path) as client, pytest.raises(qmp.QmpError, match='no such device'):
        client.execute('bad')


def test_a_file_goes_along(monitor: Monitor, path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'state').write_text('frozen')
    with qmp.QmpClient(path) as client, (tmp_path / 'state').open() as file:
        client.execute('getfd', {'fdname': 'state'}, descriptor=file.fileno())
    with os.fdopen(monitor.files[0]) as received:
        assert received.read() == 'frozen'


@pytest.mark.usefixtures('monitor')
def test_a_qemu_that_ends(path: pathlib.Path) -> None:
    with qmp.QmpClient(path) as client, pytest.raises(qmp.QmpError, match='closed'):
        client.execute('quit')


def test_something_else_that_answers(path: pathlib.Path) -> None:
    Monitor(path, {'hello': 1})
    with pytest.raises(qmp.QmpError, match='no monitor'):
        qmp.QmpClient(path)


def test_a_qemu_that_never_comes(path: pathlib.Path) -> None:
    with pytest.raises(qmp.QmpError, match='ended'):
        qmp.connect(path, lambda: False)
    with pytest.raises(qmp.QmpError, match='within'):
        qmp.connect(path, lambda: True, timeout=0.1)


def test_the_cards_of_both_fabrics_are_where_their_names_say() -> None:
    text = ' '.join(qemu.devices())
    for name, (slot, address, hub) in qemu.FABRICS.items():
        card = f'e1000e,id={name},netdev={name}_port,mac={address},addr={slot}'
        assert f'-device {card}' in text
        assert f'hubport,id={name}_port,hubid={hub}' in text
    assert len({address for _, address, _ in qemu.FABRICS.values()}) == 4


def test_nothing_of_a_machine_is_reached_from_outside() -> None:
    forwards = re.findall(r'hostfwd=\S+', ' '.join(qemu.devices()))
    assert forwards == [f'hostfwd=tcp:127.0.0.1:0-:{qemu.AGENT_PORT}']


def test_a_port_that_is_not_there(tmp_path: pathlib.Path) -> None:
    vm = machine.VirtualMachine(tmp_path, tmp_path)
    with pytest.raises(machine.MachineError, match='fabric_b_target'):
        vm.set_link('fabric_c', False)


def test_no_machine_runs_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(machine.MachineError, match=str(tmp_path)):
        machine.VirtualMachine.running(tmp_path)
    facts = {'pid': os.getpid(), 'port': 1, 'token': 'x', 'image': '/', 'frozen': None}
    facts |= {'accelerator': 'tcg', 'size': 1, 'processors': 1}
    (tmp_path / 'machine.json').write_text(json.dumps(facts))
    # A process of that number runs, but it is another one.
    with pytest.raises(machine.MachineError, match='ended'):
        machine.VirtualMachine.running(tmp_path)


def test_there_is_nothing_to_restore(tmp_path: pathlib.Path) -> None:
    with pytest.raises(machine.MachineError, match='no frozen state'):
        machine.VirtualMachine(tmp_path, tmp_path).restore()


def test_memory_is_kept_without_its_empty_parts(tmp_path: pathlib.Path) -> None:
    size = 64 << 20
    kept = memory.Memory(size)
    os.pwrite(kept.descriptor, b'begin', 0)
    os.pwrite(kept.descriptor, b'middle', 40_000_001)
    os.pwrite(kept.descriptor, bytes(1 << 20), 8 << 20)
    kept.save(tmp_path / 'memory')
    kept.close()
    data = (tmp_path / 'memory').read_bytes()
    assert len(data) == size
    assert data[:5] == b'begin'
    assert data[40_000_001:40_000_007] == b'middle'
    assert data.count(0) == size - len('beginmiddle')
    assert (tmp_path / 'memory').stat().st_blocks * 512 < 1 << 20


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    tree = tmp_path / '6.1'
    (tree / 'kernel').mkdir(parents=True)
    (tree / 'modules.dep').write_text(
        'kernel/near.ko: kernel/far.ko\n'
        'kernel/far.ko:\n'
        'kernel/top-most.ko: kernel/near.ko kernel/far.ko\n'
    )
    (tree / 'modules.builtin').write_text('kernel/fs/inside.ko\n')
    for name in ('near', 'far', 'top-most'):
        (tree / 'kernel' / f'{name}.ko').write_text(name)
    return tree


def test_modules_come_after_those_they_need(tree: pathlib.Path) -> None:
    found = modules.needed(tree, ('inside', 'top_most', 'near'))
    assert [path.stem for path in found] == ['far', 'near', 'top-most']
    with pytest.raises(modules.ModuleMissing, match='absent'):
        modules.needed(tree, ('absent',))


def test_the_archive_is_one_that_cpio_reads(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'archive'
    with path.open('wb') as file:
        archive = initrd.Archive(file)
        archive.directory('dev')
        archive.character_device('dev/console', 5, 1)
        archive.file('init', b'#!', 0o755)
        archive.end()
    with path.open('rb') as file:
        listed = subprocess.run(
            ['cpio', '-tvn', '--quiet'], stdin=file, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    fields = [line.split() for line in listed]
    assert [(line[0], line[-1]) for line in fields] == [
        ('drwxr-xr-x', 'dev'),
        ('crw-------', 'dev/console'),
        ('-rwxr-xr-x', 'init'),
    ]
    assert fields[1][4:6] == ['5,', '1']
    assert fields[2][4] == '2'


def test_the_rate_of_the_counter_is_the_same_each_time() -> None:
    first, second = counter.kilohertz(), counter.kilohertz()
    assert first is not None
    assert second == pytest.approx(first, rel=1e-3)
    assert 500_000 < first < 10_000_000


def test_an_emulated_kernel_is_told_the_rate_of_its_clock() -> None:
    files = {'kernel': pathlib.Path('k'), 'initrd': pathlib.Path('i'), 'disk': 'd'}
    rest: dict[str, typing.Any] = {'size': 1, 'processors': 1, 'memory': 'memory-backend-ram'}
    told = [' '.join(qemu.arguments(name, **files, **rest)) for name in ('tcg', 'kvm')]
    assert ['tsc_early_khz=' in text for text in told] == [True, False]
