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

"""A real Cinder in this process, and this package's managers beside it."""

from collections.abc import Iterator
import pathlib
import subprocess
import typing

from oslo_config import cfg
import pytest

from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.shared_cinder import contents
from tests.functional.cinder.shared_cinder import exported_below
from tests.functional.cinder.shared_cinder import files
from tests.functional.cinder.shared_cinder import sweep
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder import bound_share
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.cinder.nova_events import FakeNova
from volumedrivers.testing.libvirtd import PrivateLibvirtd


@pytest.fixture(scope='session')
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Where this host mounts shares: a place that libvirtd's mount namespace sees."""
    directory = tmp_path_factory.mktemp('mounts')
    subprocess.run(['mount', '--bind', str(directory), str(directory)], check=True)
    subprocess.run(['mount', '--make-shared', str(directory)], check=True)
    yield directory
    subprocess.run(['umount', '--lazy', str(directory)], check=True)


@pytest.fixture(autouse=True)
def _no_mount_left(mounts: pathlib.Path) -> Iterator[None]:
    """See that a test leaves no share mounted, on which those after it would trip."""
    before = _mounted_below(mounts)
    yield
    left = _mounted_below(mounts) - before
    for place in left:
        subprocess.run(['umount', '--lazy', place], check=True)
    assert left == set()


def _mounted_below(directory: pathlib.Path) -> set[str]:
    with open('/proc/self/mountinfo', encoding='utf-8') as table:
        places = (line.split()[4] for line in table)
        return {place for place in places if place.startswith(f'{directory}/')}


@pytest.fixture(scope='session')
def libvirtd(
    mounts: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateLibvirtd]:
    """One that was started after the place for mounts was made."""
    with PrivateLibvirtd(tmp_path_factory.mktemp('libvirtd')) as daemon:
        yield daemon


@pytest.fixture(scope='session')
def hypervisor(libvirtd: PrivateLibvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(libvirtd.uri) as opened:
        yield opened


@pytest.fixture(scope='session')
def nfs() -> NfsBackend:
    return NfsBackend()


@pytest.fixture(scope='session')
def iscsi() -> IscsiBackend:
    return IscsiBackend()


@pytest.fixture(scope='session')
def all_faults() -> Faults:
    return Faults()


@pytest.fixture
def faults(all_faults: Faults) -> Iterator[Faults]:
    """What stands in front of Cinder, without a rule."""
    all_faults.clear()
    yield all_faults
    all_faults.clear()


@pytest.fixture(scope='package')
def fake_nova() -> Iterator[FakeNova]:
    """What Cinder tells of volumes that guests have."""
    started = FakeNova()
    yield started
    started.stop()


@pytest.fixture
def nova(fake_nova: FakeNova) -> Iterator[FakeNova]:
    """The same, which has heard nothing yet."""
    fake_nova.reset()
    yield fake_nova
    fake_nova.reset()


@pytest.fixture(scope='package')
def shared_cinder(
    nfs: NfsBackend,
    iscsi: IscsiBackend,
    all_faults: Faults,
    fake_nova: FakeNova,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmbeddedCinder]:
    """One for all tests here; where a test starts its own, it gives way."""
    directory = tmp_path_factory.mktemp('shared')
    shared = EmbeddedCinder(
        directory,
        [nfs, iscsi],
        serve=True,
        wrap=all_faults.wrap,
        options=fake_nova.options,
        gives_way=True,
    )
    try:
        yield shared
        if shared.log.exists():
            if not shared.is_running:
                shared.start()
            assert contents(shared) == []
            assert files(shared) == []
    finally:
        shared.stop()
    assert exported_below(directory) == []


@pytest.fixture
def cinder(shared_cinder: EmbeddedCinder, all_faults: Faults) -> Iterator[EmbeddedCinder]:
    """It runs, and nothing is in it; what is in it afterwards is removed."""
    if not shared_cinder.is_running:
        shared_cinder.start()
    yield shared_cinder
    shared_cinder.is_service = True
    all_faults.clear()
    if not shared_cinder.is_running:
        shared_cinder.start()
    sweep(shared_cinder)


@pytest.fixture
def admin(cinder: EmbeddedCinder) -> typing.Any:
    """The SDK's proxy for Cinder as it is, of an administrator."""
    return cinder.connection.block_storage


@pytest.fixture
def conf(mounts: pathlib.Path, tmp_path: pathlib.Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([])
    bootstrap.opts.register_opts(conf)
    for name, value in (
        ('state_path', str(tmp_path / 'host')),
        ('host', 'this-host'),
        ('iscsi_client', 'qemu'),
        ('iscsi_initiator_name', 'iqn.2020-01.test:this-host'),
        ('nfs_mount_point_base', str(mounts)),
    ):
        conf.set_override(name, value, group='volumedrivers')
    bootstrap.setup(conf)
    return conf


@pytest.fixture
def manager(
    conf: cfg.ConfigOpts, hypervisor: Hypervisor, cinder: EmbeddedCinder, nfs: NfsBackend
) -> AttachmentManager:
    """Guest and host; what Cinder has on NFS is bound."""
    return bound_share.make_manager(conf, hypervisor, {nfs.export: nfs.files})


@pytest.fixture
def storage(cinder: EmbeddedCinder) -> BlockStorage:
    return BlockStorage(cinder.connection, retries=3, pause=0.05)


@pytest.fixture
def volume_manager(
    conf: cfg.ConfigOpts, storage: BlockStorage, manager: AttachmentManager
) -> VolumeManager:
    return make_volume_manager(conf, storage, manager)


@pytest.fixture
def make_volume(storage: BlockStorage) -> VolumeMaker:
    """Makes volumes of a back end, which are available when it returns."""
    return VolumeMaker(storage.proxy)


@pytest.fixture(params=['nfs', 'iscsi'])
def backend(request: pytest.FixtureRequest, nfs: NfsBackend, iscsi: IscsiBackend) -> typing.Any:
    """Each back end, one after the other."""
    return nfs if request.param == 'nfs' else iscsi
