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

"""Nova in processes of its own, on a libvirtd of its own, beside real storage."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import importlib.util
import pathlib

import pytest

from tests.functional.cinder.conftest import _no_mount_left  # noqa: F401 - a fixture
from tests.functional.cinder.conftest import hypervisor  # noqa: F401 - a fixture
from tests.functional.cinder.conftest import libvirtd  # noqa: F401 - a fixture
from tests.functional.cinder.conftest import mounts  # noqa: F401 - a fixture
from tests.functional.nova import storages
from tests.functional.nova.process import NovaProcess
from tests.functional.nova.storages import Storage
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.libvirtd import PrivateLibvirtd

#: packages, by the extra that has them
_NEEDED = {
    'nova': 'nova',
    'nova_test': 'ddt fixtures oslotest placement testtools wsgi_intercept',
}


@pytest.fixture(scope='session', autouse=True)
def _extras() -> None:
    """Say which extra is missing, rather than which module."""
    for extra, packages in _NEEDED.items():
        missing = [name for name in packages.split() if importlib.util.find_spec(name) is None]
        if missing:
            pytest.fail(
                f'these tests need the extra "{extra}": pip install volumedrivers[{extra}] '
                f'({", ".join(missing)} cannot be imported)',
                pytrace=False,
            )


@pytest.fixture(scope='session')
def state(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where the drivers of this package keep their journal."""
    made = tmp_path_factory.mktemp('host') / 'state'
    made.mkdir()
    return made


@pytest.fixture(scope='session')
def driver_room(
    libvirtd: PrivateLibvirtd,  # noqa: F811
    state: pathlib.Path,
    mounts: pathlib.Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[NovaProcess]:
    """Nova's LibvirtDriver; with its own volume drivers until it is told otherwise."""
    directory = tmp_path_factory.mktemp('nova')
    settings: dict[str, object] = {
        'directory': str(directory),
        'uri': libvirtd.uri,
        'options': {
            'libvirt': {'nfs_mount_point_base': str(mounts)},
            'volumedrivers': {
                'state_path': str(state),
                'iscsi_client': 'qemu',
                'iscsi_initiator_name': 'iqn.2020-01.test:this-host',
                'endpoint_timeout': 2.0,
            },
        },
        'register': False,
    }
    room = 'tests.functional.nova.driver_room:DriverRoom'
    with NovaProcess(room, settings, directory / 'nova.log') as started:
        yield started


@pytest.fixture
def make_storage(
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
    hypervisor: Hypervisor,  # noqa: F811
) -> Iterator[Callable[[str], Storage]]:
    """Make volumes of a kind, which are there until the test ends."""
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> Storage:
            made: Storage
            if kind == 'rbd':
                cluster: CephCluster = request.getfixturevalue('cluster')
                made = storages.RbdStorage(tmp_path, cluster, hypervisor)
            elif kind == 'iscsi':
                made = storages.IscsiStorage(tmp_path)
            else:
                made = storages.LoopStorage(tmp_path)
            return stack.enter_context(made)

        yield make
