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

"""One volume in several guests, attached and detached by several processes.

The journal and the locks are real; the volume's device and the guests' disks
are files, so that all processes see them.
"""

import multiprocessing
import os
import pathlib
import random
import time
import traceback
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.disk import Disk

PROCESSES = 4
ROUNDS = 4


class Place:
    """What all processes see."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.device = directory / 'device'
        self.log = directory / 'log'

    def note(self, line: str) -> None:
        with open(self.log, 'a', encoding='utf-8') as file:
            file.write(line + '\n')

    def lines(self) -> list[str]:
        return self.log.read_text(encoding='utf-8').splitlines() if self.log.exists() else []

    def has(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob('*.has'))


class SharedGuest(fake.FakeGuest):
    """A guest whose one disk is a file."""

    def __init__(self, place: Place, number: int) -> None:
        super().__init__(fake.Calls(), f'web{number}', f'00000000-0000-4000-8000-{number:012d}')
        self.place = place
        self.file = place.directory / f'{self.name}.has'

    def disks(self, *, persistent: bool = False) -> tuple[Disk, ...]:
        self._read()
        return super().disks(persistent=persistent)

    def sources(self) -> typing.Any:
        self._read()
        return super().sources()

    def attach_disk(self, disk: Disk, **options: typing.Any) -> None:
        if not self.place.device.exists():
            self.place.note(f'WRONG: {self.name} gets a disk without a device')
        self.file.touch()

    def detach_disk(self, **options: typing.Any) -> None:
        pause()
        self.file.unlink()

    def _read(self) -> None:
        self.present = [fake.make_disk(fake.VOLUME_ID, 'vda')] if self.file.exists() else []


class SharedDriver(fake.FakeDriver):
    """A driver whose device is a file."""

    def __init__(self, place: Place) -> None:
        super().__init__(fake.Calls())
        self.place = place

    def lock_names(self, info: typing.Any, **options: typing.Any) -> tuple[str, ...]:
        """None: the lock of the volume has to be enough."""
        return ()

    def connect_volume(self, info: typing.Any, attachment: str) -> ConnectedVolume:
        pause()
        self.place.device.touch()
        self.place.note(f'connect {attachment}')
        volume = super().connect_volume(info, attachment)
        pause()
        return volume

    def current_identity(self, info: typing.Any, volume: ConnectedVolume) -> Identity | None:
        return volume.identity if self.place.device.exists() else None

    def disconnect_volume(self, info: typing.Any, attachment: str, **options: typing.Any) -> None:
        pause()
        users = self.place.has()
        if users:
            self.place.note(f'WRONG: pulled away from under {users}')
        self.place.device.unlink(missing_ok=True)
        self.place.note(f'disconnect {attachment}')


def pause() -> None:
    """Let the others do something in between."""
    time.sleep(random.uniform(0, 0.01))


def make_manager(place: Place, who: int = PROCESSES) -> AttachmentManager:
    guests = [SharedGuest(place, number) for number in range(PROCESSES)]

    def observe(operation: str, step: str, moment: str) -> None:
        place.note(f'step {who} {step} {moment}')

    return fake.make_manager(
        fake.make_conf(), place.directory, SharedDriver(place), *guests, observer=observe
    )


def attach(manager: AttachmentManager, number: int) -> None:
    manager.attach(ConnectionInfo.parse(fake.connection_info()), f'web{number}')


def work(place: Place, number: int, rounds: int, start: typing.Any) -> None:
    """Attach and detach some times, in a process of its own."""
    random.seed(number)
    try:
        manager = make_manager(place, number)
        start.wait(30)
        for _ in range(rounds):
            attach(manager, number)
            if not place.device.exists():
                place.note(f'WRONG: web{number} has no device')
            pause()
            manager.detach(f'web{number}', fake.VOLUME_ID)
    except BaseException:
        place.note(f'WRONG: {traceback.format_exc()}')
        raise
    finally:
        # pytest's own end is not the child's.
        os._exit(0)


def leave(place: Place, number: int, start: typing.Any) -> None:
    """Detach what was attached before, in a process of its own."""
    random.seed(number)
    try:
        manager = make_manager(place, number)
        start.wait(30)
        manager.detach(f'web{number}', fake.VOLUME_ID)
    except BaseException:
        place.note(f'WRONG: {traceback.format_exc()}')
        raise
    finally:
        os._exit(0)


def together(function: typing.Callable[..., None], *arguments: typing.Any) -> None:
    """Run it in all processes at once, and wait for their end."""
    context = multiprocessing.get_context('fork')
    start = context.Barrier(PROCESSES)
    place, *others = arguments
    processes = [
        context.Process(target=function, args=(place, number, *others, start))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert not process.is_alive()


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


def wrong(place: Place) -> list[str]:
    return [line for line in place.lines() if line.startswith('WRONG')]


def mixed(place: Place) -> list[str]:
    """Return the steps that somebody did in the midst of another's operation."""
    found = []
    owner = None
    for line in place.lines():
        if not line.startswith('step'):
            continue
        _, who, step, moment = line.split()
        if owner not in (None, who):
            found.append(f'{line}, while {owner} was at it')
        owner = None if (step, moment) == ('record', 'after') else who
    return found


def disconnects(place: Place) -> list[str]:
    return [line for line in place.lines() if line.startswith('disconnect')]


def test_the_last_of_all_disconnects(place: Place) -> None:
    """W5, W6: whoever it is, and once."""
    manager = make_manager(place)
    for number in range(PROCESSES):
        attach(manager, number)
    together(leave, place)
    assert wrong(place) == []
    assert mixed(place) == []
    assert len(disconnects(place)) == 1
    assert not place.device.exists()
    assert Journal(str(place.directory / 'attachments.sqlite')).find() == ()


def test_some_attach_while_others_detach(place: Place) -> None:
    """A device is never pulled away from under a guest, and never stays."""
    together(work, place, ROUNDS)
    assert wrong(place) == []
    assert mixed(place) == []
    assert place.has() == []
    assert not place.device.exists()
    assert disconnects(place)
    assert Journal(str(place.directory / 'attachments.sqlite')).find() == ()
