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

"""The program that starts nova-compute with these drivers."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import types
import typing

import nova.config
from oslo_log import log
import pytest

from volumedrivers.nova import compute
from volumedrivers.nova import registration
from volumedrivers.nova import services

# Before 34 the environment alone says it, and the default is eventlet.
NATIVE_THREADS = (
    {}
    if int(importlib.metadata.version('nova').partition('.')[0]) >= 34
    else {'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'true'}
)

Run = typing.Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    """Run it in a process of its own, as it decides how that one's threads are."""
    file = tmp_path / 'nova.conf'

    def start(
        *words: str, text: str = '', threads: dict[str, str] = NATIVE_THREADS
    ) -> subprocess.CompletedProcess[str]:
        file.write_text(f'[DEFAULT]\nstate_path = {tmp_path}\nhost = compute-1\n{text}')
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith('OS_')
        }
        return subprocess.run(
            [
                *(sys.executable, '-W', 'ignore', '-m', 'volumedrivers.nova.compute'),
                *(*words, '--config-file', str(file)),
            ],
            env={**environment, **threads},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return start


def test_check_says_whose_drivers_are_whose_and_touches_nothing(
    run: Run, tmp_path: pathlib.Path
) -> None:
    done = run('--check', text='[volumedrivers]\nnova_volume_types = rbd, nfs\n')
    assert done.returncode == 0, done.stderr
    whose = dict(line.split() for line in done.stdout.splitlines())
    assert whose.pop('Nova') == importlib.metadata.version('nova')
    assert {name for name, who in whose.items() if who == 'volumedrivers'} == {'rbd', 'nfs'}
    assert whose['iscsi'] == 'Nova'
    assert os.listdir(tmp_path) == ['nova.conf']


def test_type_that_nobody_has_keeps_it_from_starting(run: Run) -> None:
    done = run(text='[volumedrivers]\nnova_volume_types = punched-cards\n')
    assert done.returncode == 2
    assert 'nova-compute is not started' in done.stderr
    assert 'punched-cards' in done.stderr


def test_eventlet_keeps_it_from_starting(run: Run) -> None:
    done = run(text='concurrency_backend = eventlet\n', threads={})
    assert done.returncode == 3
    assert 'concurrency_backend = threading' in done.stderr


def test_options_are_printed_for_the_command_line(run: Run, tmp_path: pathlib.Path) -> None:
    done = run('--print-options', text='[libvirt]\nvolume_use_multipath = true\n')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('[volumedrivers]\n')
    assert f'state_path = {tmp_path}/volumedrivers\n' in done.stdout
    assert 'volume_use_multipath = True\n' in done.stdout


def test_it_registers_and_goes_on_as_nova_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(sys, 'argv', ['whatever'])
    monkeypatch.setattr(
        nova.config, 'parse_args', lambda argv, **options: done.append((argv, options))
    )
    monkeypatch.setattr(log, 'setup', lambda conf, name: done.append(name))
    monkeypatch.setattr(registration, 'register', done.append)
    # Nova's own decides about the threads of the process that imports it.
    novas = types.SimpleNamespace(main=lambda: done.append(list(sys.argv)))
    monkeypatch.setitem(sys.modules, 'nova.cmd.compute', novas)

    class Conf:
        class volumedrivers:
            nova_volume_types: typing.ClassVar[list[str]] = []

    monkeypatch.setattr(services, 'conf_of_nova', Conf)

    assert compute.main(['--config-file', '/etc/nova/nova.conf']) == 0

    argv = ['nova-compute', '--config-file', '/etc/nova/nova.conf']
    assert done == [(argv, {'configure_db': False, 'init_rpc': False}), 'nova', None, argv]
