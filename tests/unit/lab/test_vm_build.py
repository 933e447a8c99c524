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

"""What the lab is built from, and its commands, without a machine."""

from collections.abc import Callable
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import typing

import pytest

from tests.lab.vm import accelerator
from tests.lab.vm import build
from tests.lab.vm import commands
from tests.lab.vm import image
from tests.lab.vm import kernel
from tests.lab.vm import machine
from tests.lab.vm import programs
from tests.lab.vm import python_tree
from tests.lab.vm import qemu
from tests.lab.vm.cache import Cache

Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Make a program, as a shell script, that is found before any other of its name."""
    directory = tmp_path / 'programs'
    directory.mkdir()
    monkeypatch.setenv('PATH', f'{directory}:{os.environ["PATH"]}')

    def make(name: str, script: str) -> None:
        (directory / name).write_text(f'#!/bin/sh\n{script}\n')
        (directory / name).chmod(0o755)

    return make


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    root = tmp_path / 'cache'
    root.mkdir()
    monkeypatch.setenv('VOLUMEDRIVERS_LAB_CACHE', str(root))
    return Cache()


def test_each_package_is_listed_once() -> None:
    names = image.package_names()
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r'[a-z0-9][a-z0-9.+-]+', name) for name in names)
    assert {'open-iscsi', 'multipath-tools', 'libvirt-daemon-system'} <= set(names)


def test_a_phase_is_one_line() -> None:
    output = io.StringIO()
    build.Progress(output)('rootfs', lambda: '423 packages')
    assert re.fullmatch(r'rootfs +0\.\d s  423 packages\n', output.getvalue())


def test_the_machine_gets_what_the_package_needs_and_no_tests() -> None:
    names = {found.name.lower() for found in python_tree.distributions()}
    assert {'os-brick', 'libvirt-python', 'cinder', 'lxml', 'oslo.privsep'} <= names
    assert not names & {'volumedrivers', 'pytest', 'mypy', 'ruff', 'sphinx'}
    assert all(re.fullmatch(r'[\w.-]+==[\w.+]+', line) for line in python_tree.versions())


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_tree, 'VERSION', (3, 9))
    with pytest.raises(python_tree.WrongPython, match=r'3\.9'):
        python_tree.distributions()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_tree, 'ROOT', 'volumedrivers-of-the-moon')
    with pytest.raises(python_tree.WrongPython, match='volumedrivers-of-the-moon'):
        python_tree.distributions()


def test_commands_run_by_the_python_of_the_machine(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'source').write_text(f'#!{sys.executable}\nprint(1)\n')
    python_tree._copy_script(tmp_path / 'source', tmp_path / 'target')
    assert (tmp_path / 'target').read_text() == '#!/opt/lab/venv/bin/python\nprint(1)\n'


APT = """\
cat <<'END'
Package: linux-image-amd64
Version: 6.1.192-2
Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), other
END
"""


def test_the_kernel_is_the_one_of_the_meta_package(program: Program) -> None:
    program('apt-cache', APT)
    assert kernel.candidate() == ('linux-image-6.1.0-56-amd64', '6.1.192-2')


def test_apt_knows_no_kernel(program: Program) -> None:
    program('apt-cache', 'exit 100')
    with pytest.raises(kernel.NoKernel, match='apt-get update'):
        kernel.candidate()


def test_a_program_that_fails_is_quoted(program: Program) -> None:
    program('breaks', 'echo "disk full" >&2; exit 4')
    with pytest.raises(programs.ProgramFailed, match=r'breaks ended with 4:\ndisk full'):
        programs.run([programs.find('breaks', 'some-package')])


def test_a_missing_program_comes_with_its_package() -> None:
    with pytest.raises(programs.ProgramMissing, match='Debian package some-package'):
        programs.find('no-such-program', 'some-package')


def test_only_debians_own_sources_are_taken(tmp_path: pathlib.Path) -> None:
    debian = tmp_path / 'debian.sources'
    debian.write_text('Types: deb\nURIs: http://mirror/debian\nSuites: bookworm\n')
    other = tmp_path / 'other.list'
    other.write_text('deb https://vendor/apt tools-bookworm main\n')
    assert [image._of_debian(path) for path in (debian, other)] == [True, False]


def test_the_accelerator_can_be_chosen(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_file = pathlib.Path('/vmlinuz')
    monkeypatch.setenv(accelerator.VARIABLE, 'kvm')
    assert accelerator.choose(cache, kernel_file) == 'kvm'
    monkeypatch.setenv(accelerator.VARIABLE, 'warp')
    with pytest.raises(accelerator.UnknownAccelerator, match='warp'):
        accelerator.choose(cache, kernel_file)


@pytest.mark.parametrize(('works', 'wanted'), [(True, 'kvm'), (False, 'tcg')])
def test_kvm_is_tried_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, *, works: bool, wanted: str
) -> None:
    tried = []

    def try_it(name: str, _: pathlib.Path) -> bool:
        tried.append(name)
        return works

    monkeypatch.delenv(accelerator.VARIABLE, raising=False)
    monkeypatch.setattr(os, 'access', lambda *_: True)
    monkeypatch.setattr(qemu, 'works', try_it)
    monkeypatch.setattr(qemu, 'version', lambda: 'QEMU 1')
    for _ in range(2):
        assert accelerator.choose(cache, pathlib.Path('/vmlinuz')) == wanted
    assert tried == ['kvm']
    # Another QEMU is another matter.
    monkeypatch.setattr(qemu, 'version', lambda: 'QEMU 2')
    accelerator.choose(cache, pathlib.Path('/vmlinuz'))
    assert tried == ['kvm', 'kvm']


def test_without_kvm_it_is_not_tried(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(accelerator.VARIABLE, raising=False)
    monkeypatch.setattr(os, 'access', lambda *_: False)
    assert accelerator.choose(cache, pathlib.Path('/vmlinuz')) == 'tcg'


def test_a_frozen_machine_belongs_to_an_image_and_an_accelerator() -> None:
    keys = {build._frozen_key(*given) for given in [('a', 'tcg'), ('b', 'tcg'), ('a', 'kvm')]}
    assert len(keys) == 3
    assert build._frozen_key('a', 'tcg') in keys


def test_a_frozen_machine_outlasts_changes_of_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths: list[pathlib.Path] = []

    def watched(files: set[pathlib.Path], base: pathlib.Path) -> list[bytes]:
        paths.extend(path.relative_to(base) for path in files)
        return []

    monkeypatch.setattr(build, 'content_of', watched)
    build._frozen_key('a', 'tcg')
    of_package = [str(path) for path in paths if path.parts[0] == 'volumedrivers']
    assert of_package == ['volumedrivers/testing/guests.py']
    assert pathlib.Path('tests/lab/storage/up.py') in paths
    assert pathlib.Path('tests/lab/bench/up.py') in paths


def test_a_qemu_that_does_not_start_is_quoted(program: Program, tmp_path: pathlib.Path) -> None:
    program('qemu-img', 'for last; do :; done; touch "$last"')
    program('qemu-system-x86_64', 'echo "no such machine type" >&2; exit 1')
    vm = machine.VirtualMachine(tmp_path / 'vm', tmp_path)
    with vm, pytest.raises(machine.MachineError, match='no such machine type'):
        vm.boot(timeout=5)


def test_a_token_is_nobody_elses(program: Program, tmp_path: pathlib.Path) -> None:
    program('qemu-img', 'for last; do :; done; touch "$last"')
    program('qemu-system-x86_64', 'exit 1')
    vm = machine.VirtualMachine(tmp_path / 'vm', tmp_path)
    with vm, pytest.raises(machine.MachineError):
        vm.boot(timeout=5)
    assert (tmp_path / 'vm' / 'token').stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ('given', 'wanted'),
    [
        ([], ['--junitxml=lab-report/junit.xml']),
        (['iscsi'], ['-k', 'iscsi', '--junitxml=lab-report/junit.xml']),
        (
            ['iscsi', '-x', '--lab-report=r'],
            ['-k', 'iscsi', '-x', '--lab-report=r', '--junitxml=r/junit.xml'],
        ),
        (['-n', '2'], ['-n', '2', '--junitxml=lab-report/junit.xml']),
        (
            ['--machines', '2', '--short', 'nova_'],
            ['-k', 'nova_', '--machines=2', '--short', '--junitxml=lab-report/junit.xml'],
        ),
    ],
)
def test_a_pattern_chooses_rows(
    monkeypatch: pytest.MonkeyPatch, given: list[str], wanted: list[str]
) -> None:
    started: list[typing.Any] = []
    built: list[bool] = []

    def execute(path: str, arguments: list[str]) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.delenv('VOLUMEDRIVERS_LAB_HOST', raising=False)
    monkeypatch.setattr(commands.lab_build, 'build', lambda: built.append(True))
    monkeypatch.setattr(os, 'execv', execute)
    monkeypatch.setattr(os, 'chdir', lambda _: None)
    with pytest.raises(SystemExit):
        commands.main(['run', *given])
    assert started == [[sys.executable, '-m', 'pytest', 'tests/lab', *wanted]]
    assert built == [True]
    # Somebody's own host needs no machine of ours.
    monkeypatch.setenv('VOLUMEDRIVERS_LAB_HOST', 'hosts.yaml')
    with pytest.raises(SystemExit):
        commands.main(['run', *given])
    monkeypatch.delenv('VOLUMEDRIVERS_LAB_HOST')
    with pytest.raises(SystemExit):
        commands.main(['run', *given, '--host', 'hosts.yaml'])
    assert built == [True]


@pytest.mark.parametrize(
    ('status', 'counts', 'is_tried_again'),
    [
        (0, {'passed': 3}, False),
        (1, {'passed': 3, 'failed': 2, 'error': 1}, True),
        (1, {'failed': 13}, False),
        (1, None, False),
        (2, {'failed': 1, 'not run': 1}, False),
    ],
)
def test_what_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    status: int,
    counts: dict[str, int] | None,
    is_tried_again: bool,
) -> None:
    started: list[list[str]] = []

    def first(arguments: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        started.append(arguments)
        if counts is not None:
            (tmp_path / 'matrix.json').write_text(json.dumps({'counts': counts}))
        return subprocess.CompletedProcess(arguments, status)

    def second(path: str, arguments: list[str]) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.delenv('VOLUMEDRIVERS_LAB_HOST', raising=False)
    monkeypatch.setattr(commands.lab_build, 'build', lambda: None)
    monkeypatch.setattr(commands.subprocess, 'run', first)
    monkeypatch.setattr(os, 'execv', second)
    monkeypatch.setattr(os, 'chdir', lambda _: None)
    given = ['run', '--short', '--again', f'--lab-report={tmp_path}']
    if is_tried_again:
        with pytest.raises(SystemExit):
            commands.main(given)
        assert started[1][4:] == [
            *(f'--lab-report={tmp_path}', '--short'),
            *('--continue', f'--junitxml={tmp_path}/junit-again.xml'),
        ]
    else:
        assert commands.main(given) == status
        assert len(started) == 1
    assert started[0][3:] == [
        *('tests/lab', f'--lab-report={tmp_path}', '--short'),
        f'--junitxml={tmp_path}/junit.xml',
    ]


@pytest.mark.usefixtures('cache')
@pytest.mark.parametrize('command', ['shell', 'logs'])
def test_no_machine_runs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([command]) == commands.UNUSABLE
    assert 'no virtual machine runs' in capsys.readouterr().err


def test_clean_leaves_nothing(cache: Cache) -> None:
    cache.get('image', 'k', lambda directory: None)
    assert commands.main(['clean']) == 0
    assert not [path for path in cache.root.iterdir() if path.is_dir()]


def test_the_script_of_init_is_a_script_of_bash() -> None:
    subprocess.run(['bash', '-n', image.HERE / 'init.sh'], check=True)
