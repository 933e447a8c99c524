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

"""Build what a run of the lab starts from: an image, and a machine frozen with all in it."""

from collections.abc import Callable
import dataclasses
import pathlib
import sys
import threading
import time
import typing

from tests.lab.hosts.bundle import bundle
from tests.lab.nova.place import PLACE
from tests.lab.vm import accelerator
from tests.lab.vm import agent_client
from tests.lab.vm import image
from tests.lab.vm import kernel
from tests.lab.vm import nova_tree
from tests.lab.vm import python_tree
from tests.lab.vm import qemu
from tests.lab.vm.cache import IN_USE
from tests.lab.vm.cache import Cache
from tests.lab.vm.cache import content_of
from tests.lab.vm.cache import key_of
from tests.lab.vm.imports import closure
from tests.lab.vm.machine import MachineError
from tests.lab.vm.machine import VirtualMachine
from tests.lab.vm.wheel import PROJECT
from volumedrivers.testing import guests

MEMORY = 3072  # MiB
PROCESSORS = 2

SITE = '/opt/lab/site'
PYTHON = f'/{python_tree.PLACE}/bin/python'

# What brings the machine up before it is frozen, by the name of its phase.
STEPS = {'storage': 'tests.lab.storage.up', 'guests': 'tests.lab.bench.up'}

# Seconds that such a step may take.
_STEP_TIMEOUT = 900.0

_HERE = pathlib.Path(__file__).parent

# Their contents decide what an image is like.
_IMAGE_SOURCES = (
    _HERE / 'image.py',
    _HERE / 'initrd.py',
    _HERE / 'init.sh',
    _HERE / 'kernel.py',
    _HERE / 'modules.py',
    _HERE / 'packages.txt',
    _HERE / 'python_tree.py',
    *(PROJECT / name for name in image.AGENT),
)


class Progress:
    """Prints one line for each phase, with its seconds; phases may run side by side."""

    def __init__(self, file: typing.TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._lock = threading.Lock()

    def __call__(self, name: str, work: Callable[[], str | None]) -> None:
        """Run a phase.

        :param work: returns what is worth saying beside the seconds
        """
        started = time.monotonic()
        remark = work()
        self.say(f'{name:<10}{time.monotonic() - started:6.1f} s  {remark or ""}'.rstrip())

    def say(self, line: str) -> None:
        """Print a line."""
        with self._lock:
            print(line, file=self._file, flush=True)


@dataclasses.dataclass(frozen=True)
class Lab:
    """What machines are made of.

    :ivar image: directory
    :ivar frozen: directory; None: not frozen yet
    :ivar accelerator: 'kvm' or 'tcg'
    """

    image: pathlib.Path
    frozen: pathlib.Path | None
    accelerator: str

    def machine(
        self, directory: pathlib.Path, *, freezable: bool = False, lasting: bool = False
    ) -> VirtualMachine:
        """Return a machine that is not started yet.

        :param directory: its own
        :param freezable: it is going to be frozen
        :param lasting: it goes on when this process ends
        """
        return VirtualMachine(
            directory,
            self.image,
            self.frozen,
            accelerator=self.accelerator,
            size=MEMORY,
            processors=PROCESSORS,
            freezable=freezable,
            lasting=lasting,
            in_use=[entry / IN_USE for entry in (self.image, self.frozen) if entry],
        )


def build(progress: Progress | None = None, cache: Cache | None = None) -> Lab:
    """Return a lab ready to be restored; builds what is missing.

    :raises LabError: says what is missing or went wrong
    """
    progress = progress or Progress()
    waiting = 'waiting for another process, which builds the lab'
    cache = cache or Cache(waiting=lambda: progress.say(waiting))
    image_key = _image_key()
    made = cache.get('image', image_key, lambda directory: image.make(directory, progress))
    chosen = accelerator.choose(cache, made / image.KERNEL)
    lab = Lab(made, None, chosen)
    with cache.reading(made):
        key = _frozen_key((made / image.IDENTITY).read_text(), chosen)
        frozen = cache.get('frozen', key, lambda directory: _freeze(lab, directory, progress))
    return Lab(made, frozen, chosen)


def _image_key() -> str:
    guest_kernel, _ = guests.boot_files()
    return key_of(
        [
            *content_of(_IMAGE_SOURCES, PROJECT),
            *python_tree.versions(),
            *kernel.candidate(),
            guest_kernel.name,
            # The guest's initramfs; made twice it differs in its dates.
            guests.INIT,
            *guests.MODULES,
        ]
    )


def _frozen_key(identity: str, chosen: str) -> str:
    files = closure(list(STEPS.values()))
    # Back ends are loaded by name.
    files.update((_HERE.parent / 'storage').rglob('*.py'))
    files.add(pathlib.Path(qemu.__file__))
    # The guest inside runs before the state is frozen.
    files.add(pathlib.Path(guests.__file__))
    # What was frozen on one image goes wrong on another, however alike they are.
    facts = [identity, chosen, str(MEMORY), str(PROCESSORS), qemu.version(), qemu.processor()]
    return key_of([*facts, *content_of(files, PROJECT)])


def _freeze(lab: Lab, directory: pathlib.Path, progress: Progress) -> None:
    machine = lab.machine(directory / 'machine', freezable=True)
    with machine:
        try:
            progress('boot', lambda: _boot(machine))
            progress('package', lambda: push(machine))
            for name, module in STEPS.items():
                progress(name, lambda module=module: _step(machine, module, progress))
            progress('freeze', lambda: _keep(machine, directory))
        except agent_client.AgentError as error:
            raise MachineError(f'{error}\n{machine.said()}') from error
    for path in machine.directory.iterdir():
        path.unlink()
    machine.directory.rmdir()


def _boot(machine: VirtualMachine) -> str:
    machine.boot()
    return machine.accelerator.upper()


def _keep(machine: VirtualMachine, directory: pathlib.Path) -> str:
    machine.run(['sync'], check=True)
    machine.freeze(directory)
    blocks = sum(path.stat().st_blocks for path in directory.iterdir())
    return f'{blocks * 512 >> 20} MiB'


def push(machine: VirtualMachine) -> None:
    """Put the package and the lab's code of the working tree into a machine."""
    _unpack(machine, bundle(), SITE)


def push_nova(machine: VirtualMachine) -> None:
    """Put Nova into a machine."""
    _unpack(machine, nova_tree.archive(), PLACE)


def _unpack(machine: VirtualMachine, archive: pathlib.Path, place: str) -> None:
    script = f'rm -rf {place} && mkdir -p {place} && exec tar -C {place} -x'
    machine.run(['sh', '-c', script], input=archive.read_bytes(), check=True)


def _step(machine: VirtualMachine, module: str, progress: Progress) -> None:
    """Run a module in the machine and show what it says, line by line."""
    process = machine.popen([PYTHON, '-m', module], env={'PYTHONPATH': SITE})
    with process:
        errors: list[bytes] = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
        reader.start()
        timer = threading.Timer(_STEP_TIMEOUT, process.kill)
        timer.start()
        try:
            said = []
            for line in process.stdout:
                said.append(line.decode(errors='replace').rstrip())
                progress.say(f'  {said[-1]}')
            status = process.wait()
        finally:
            timer.cancel()
        reader.join()
    if status != 0:
        text = b''.join(errors).decode(errors='replace').strip()
        lines = '\n'.join([*said[-5:], *text.splitlines()[-20:]])
        raise MachineError(f'{module} ended with {status} in the machine:\n{lines}')
