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

"""Processes that are killed with SIGKILL while they have to do with Cinder, and recover.

A child carries an operation out and dies, by itself or while Cinder answers it;
then recover runs in this process, twice.  After it Cinder's attachments are the
guest's disks, both tables of the journal agree, nothing else is left, and the
volume can be attached again.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import pathlib

import pytest

from tests import long
from tests.functional.cinder import storage_crash_points
from tests.functional.cinder.crash_bench import CrashBench
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.storage_crash_points import Point
from volumedrivers import exception
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults


@pytest.fixture(scope='module')
def bench(
    mounts: pathlib.Path,
    hypervisor: Hypervisor,
    shared_cinder: EmbeddedCinder,
    all_faults: Faults,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CrashBench]:
    if not shared_cinder.is_running:
        shared_cinder.start()
    directory = tmp_path_factory.mktemp('crash')
    made = CrashBench(directory, mounts, shared_cinder, all_faults, hypervisor)
    yield made
    made.close()


KINDS = ('nfs', 'iscsi')


@pytest.fixture(params=long.PARTS)
def part(request: pytest.FixtureRequest) -> str:
    """Whether it is the points that are tried each time, or all others."""
    return str(request.param)


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest, bench: CrashBench) -> MadeVolume:
    return bench.volumes[request.param]


def of_interest(points: Iterable[Point], kind: str) -> list[Point]:
    """Leave out where rows are written, but for one back end: it is the same for all."""
    return [one for one in points if kind == 'nfs' or 'hook' not in one.kill]


@pytest.mark.timeout(300)
def test_attach(bench: CrashBench, volume: MadeVolume, part: str) -> None:
    points = (*storage_crash_points.attach_points(), *storage_crash_points.undo_points())
    for point in long.part_of(
        part, lambda kind: of_interest(points, kind), volume.backend.name, KINDS
    ):
        bench.kill(point, 'attach', volume.id)
        bench.recover(volume, point)
        if bench.manager.context.reservations.find():
            bench.require_attached(volume, point)
            with pytest.raises(exception.AlreadyAttached):
                bench.perform('attach', volume.id)
            bench.perform('detach', volume.id)
        bench.require_nothing(volume, point)
    bench.perform('attach', volume.id)
    bench.require_attached(volume, 'at the end')
    bench.perform('detach', volume.id)
    bench.require_nothing(volume, 'at the end')


@pytest.mark.timeout(300)
def test_detach(bench: CrashBench, volume: MadeVolume, part: str) -> None:
    points = storage_crash_points.detach_points()
    for point in long.part_of(
        part, lambda kind: of_interest(points, kind), volume.backend.name, KINDS
    ):
        if not bench.manager.context.reservations.find():
            bench.perform('attach', volume.id)
        bench.kill(point, 'detach', volume.id)
        bench.recover(volume, point)
        if bench.manager.context.reservations.find():
            bench.require_attached(volume, point)
        else:
            bench.require_nothing(volume, point)
            with pytest.raises(exception.NotRecorded):
                bench.perform('detach', volume.id)
    if bench.manager.context.reservations.find():
        bench.perform('detach', volume.id)
    bench.require_nothing(volume, 'at the end')


@pytest.mark.timeout(300)
def test_refresh(bench: CrashBench, volume: MadeVolume, part: str) -> None:
    """The attachment is the same one all the time; refreshed again, all is as it was."""

    def points(kind: str) -> tuple[Point, ...]:
        return storage_crash_points.refresh_points(by_qemu=kind == 'iscsi')

    bench.perform('attach', volume.id)
    (attachment,) = volume.attachments()
    for point in long.part_of(part, points, volume.backend.name, KINDS):
        bench.kill(point, 'refresh', volume.id)
        assert volume.status in ('in-use', 'attaching'), str(point)
        assert [one.id for one in volume.attachments()] == [attachment.id], str(point)
        bench.recover(volume, point)
        assert volume.status == 'in-use', str(point)
        done = bench.perform('refresh', volume.id)
        assert done['attachment_id'] == attachment.id
        bench.require_attached(volume, point)
    bench.perform('detach', volume.id)
    bench.require_nothing(volume, 'at the end')


@pytest.mark.timeout(300)
def test_recover_is_killed(bench: CrashBench, volume: MadeVolume, part: str) -> None:
    def points(kind: str) -> list[tuple[Point, Point]]:
        every = storage_crash_points.recover_points()
        return [one for one in every if of_interest(one[1:], kind)]

    for begun, point in long.part_of(part, points, volume.backend.name, KINDS):
        operation = begun.operation.rpartition(' ')[2]
        there = bool(bench.manager.context.reservations.find())
        if there and operation == 'attach':
            bench.perform('detach', volume.id)
        elif not there and operation == 'detach':
            bench.perform('attach', volume.id)
        bench.kill(begun, operation, volume.id)
        bench.kill(point, 'recover')
        bench.recover(volume, point)
        if bench.manager.context.reservations.find():
            bench.require_attached(volume, point)
        else:
            bench.require_nothing(volume, point)
    if bench.manager.context.reservations.find():
        bench.perform('detach', volume.id)
    bench.require_nothing(volume, 'at the end')
