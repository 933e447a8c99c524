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

"""The disk image of the virtual machine, its kernel and initrd.

Made of Debian's packages (packages.txt), Debian's stock kernel and the Python
packages of this environment.  Three parts are made at once, as each waits for
other things.
"""

from collections.abc import Callable
import concurrent.futures
import os
import pathlib
import shutil
import uuid

from tests.lab.vm import initrd
from tests.lab.vm import kernel
from tests.lab.vm import modules
from tests.lab.vm import programs
from tests.lab.vm import python_tree
from tests.lab.vm.errors import LabError
from volumedrivers.testing import guests

HERE = pathlib.Path(__file__).parent
PACKAGES = HERE / 'packages.txt'

SUITE = 'bookworm'

DISK = 'disk.raw'
KERNEL = 'vmlinuz'
INITRD = 'initrd'

# Another one with each build, whatever went into it.
IDENTITY = 'identity'

DISK_SIZE = 8 << 30

# Files that nobody reads there.
LEFT_OUT = (
    '/usr/share/doc/*',
    '/usr/share/info/*',
    '/usr/share/locale/*',
    '/usr/share/man/*',
)

# What the agent consists of in the machine.
AGENT = (
    'tests/__init__.py',
    'tests/lab/__init__.py',
    'tests/lab/vm/__init__.py',
    'tests/lab/vm/agent.py',
    'tests/lab/vm/frames.py',
)

# Of the package, which comes with each run.
COMMANDS = ('volumedrivers', 'volumedrivers-rootwrap')
_COMMAND = """\
#!/bin/sh
PYTHONPATH=/opt/lab/site exec {python} /opt/lab/site/bin/{name} "$@"
"""

_MACHINE_ID = '6c6162006c6162006c6162006c616200'


class NotRoot(LabError):
    """Building needs root."""


def package_names() -> list[str]:
    """Return the Debian packages of the list."""
    lines = (line.split('#')[0].strip() for line in PACKAGES.read_text().splitlines())
    return [line for line in lines if line]


def make(directory: pathlib.Path, phase: Callable[[str, Callable[[], str | None]], None]) -> None:
    """Make disk, kernel and initrd in a directory.

    :param phase: runs a function and tells how long it took
    :raises NotRoot
    :raises programs.ProgramFailed
    :raises programs.ProgramMissing
    :raises kernel.NoKernel
    :raises python_tree.WrongPython
    """
    if os.geteuid() != 0:
        raise NotRoot('the image can be built by root only, who owns the files in it')
    parts = directory / 'parts'
    parts.mkdir()
    root = parts / 'root'
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(phase, 'rootfs', lambda: _root(root)),
            pool.submit(phase, 'kernel', lambda: kernel.fetch(parts / 'kernel')),
            pool.submit(phase, 'python', lambda: python_tree.copy(parts / 'python')),
        ]
        # The first to fail is told of; the others end by themselves.
        for job in concurrent.futures.as_completed(jobs):
            job.result()
    phase('image', lambda: _assemble(directory, parts))
    shutil.rmtree(parts)
    (directory / IDENTITY).write_text(f'{uuid.uuid4()}\n')


def _root(root: pathlib.Path) -> str:
    options = [
        '--quiet',
        '--mode=root',
        '--variant=minbase',
        f'--include={",".join(package_names())}',
        '--aptopt=APT::Install-Recommends "false"',
        '--dpkgopt=force-unsafe-io',
        *(f'--dpkgopt=path-exclude={pattern}' for pattern in LEFT_OUT),
        *(f'--aptopt={setting}' for setting in _proxies()),
    ]
    programs.run(
        [programs.find('mmdebstrap', 'mmdebstrap'), *options, SUITE, root, *_sources()],
        env={'DEBIAN_FRONTEND': 'noninteractive', 'TMPDIR': str(root.parent)},
    )
    # Nothing says where the packages came from.
    etc = root / 'etc/apt'
    for path in (*etc.glob('sources.list*'), *etc.glob('apt.conf.d/99mmdebstrap')):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (*root.glob('var/log/*.log'), root / 'var/log/apt', root / 'var/lib/apt/lists'):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    (root / 'var/lib/apt/lists').mkdir()
    return f'{len(list((root / "var/lib/dpkg/info").glob("*.list")))} packages'


def _sources() -> list[pathlib.Path]:
    """Return this machine's sources of packages if it has the same Debian, else none.

    With none mmdebstrap takes Debian's own.
    """
    release = pathlib.Path('/etc/os-release')
    if f'VERSION_CODENAME={SUITE}' not in release.read_text().splitlines():
        return []
    directory = pathlib.Path('/etc/apt')
    found = [
        *directory.glob('sources.list'),
        *directory.glob('sources.list.d/*.list'),
        *directory.glob('sources.list.d/*.sources'),
    ]
    return sorted(path for path in found if SUITE in path.read_text() and _of_debian(path))


def _proxies() -> list[str]:
    """Return this machine's settings of apt for a proxy."""
    tool = programs.find('apt-config', 'apt')
    names = ('Acquire::http::Proxy', 'Acquire::https::Proxy')
    return programs.run([tool, 'dump', *names]).splitlines()


def _of_debian(path: pathlib.Path) -> bool:
    # Others' packages are not in the list; their keys may be missing in there.
    return any(
        'debian' in line.lower() and SUITE in path.read_text()
        for line in path.read_text().splitlines()
        if line.startswith(('deb ', 'URIs:', 'deb['))
    )


def _assemble(directory: pathlib.Path, parts: pathlib.Path) -> str:
    root = parts / 'root'
    tree = next((parts / 'kernel/lib/modules').iterdir())
    initrd.make(directory / INITRD, tree)
    shutil.move(parts / 'kernel/vmlinuz', directory / KERNEL)
    (root / 'usr/lib/modules').mkdir(exist_ok=True)
    shutil.move(tree, root / 'usr/lib/modules' / tree.name)
    (root / python_tree.PLACE).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(parts / 'python' / python_tree.PLACE, root / python_tree.PLACE)
    python_tree.link_debian(root)
    _guest_kernel(root)
    _agent(root)
    (root / 'etc/hostname').write_text('lab\n')
    (root / 'etc/hosts').write_text('127.0.0.1 localhost\n127.0.0.1 lab\n::1 localhost\n')
    (root / 'etc/machine-id').write_text(f'{_MACHINE_ID}\n')
    (root / 'etc/resolv.conf').unlink(missing_ok=True)
    disk = directory / DISK
    with disk.open('wb') as file:
        file.truncate(DISK_SIZE)
    # With a journal: what was synchronised before a power cut is there after it.
    options = ['-q', '-F', '-L', 'lab', '-J', 'size=64', '-N', '262144', '-m', '0']
    programs.run([programs.find('mkfs.ext4', 'e2fsprogs'), *options, '-d', root, disk])
    disk.chmod(0o444)
    return f'{disk.stat().st_blocks * 512 >> 20} MiB'


def _guest_kernel(root: pathlib.Path) -> None:
    """Put the kernel of the guest inside where volumedrivers.testing looks for it."""
    kernel_file, initramfs = guests.boot_files()
    version = kernel_file.name.removeprefix('vmlinuz-')
    shutil.copy2(kernel_file, root / 'boot')
    source = pathlib.Path('/lib/modules') / version
    target = root / 'usr/lib/modules' / version
    target.mkdir(parents=True)
    files = modules.needed(source, guests.MODULES)
    for file in (source / 'modules.dep', source / 'modules.builtin', *files):
        path = target / file.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, path)
    cache = root / 'root/.cache/volumedrivers/testing'
    cache.mkdir(parents=True)
    shutil.copy(initramfs, cache)


def _agent(root: pathlib.Path) -> None:
    project = HERE.parents[2]
    for name in AGENT:
        path = root / 'opt/lab/agent' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / name, path)
    shutil.copy(HERE / 'init.sh', root / 'usr/sbin/lab-init')
    (root / 'usr/sbin/lab-init').chmod(0o755)
    for name in COMMANDS:
        path = root / 'usr/local/bin' / name
        path.write_text(_COMMAND.format(name=name, python=f'/{python_tree.PLACE}/bin/python'))
        path.chmod(0o755)
