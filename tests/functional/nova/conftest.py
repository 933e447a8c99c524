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
import dataclasses
import importlib.util
import pathlib
import typing

import pytest

from tests.functional import test_cli
from tests.functional.cinder.conftest import _no_mount_left  # noqa: F401 - a fixture
from tests.functional.cinder.conftest import hypervisor  # noqa: F401 - a fixture
from tests.functional.cinder.conftest import libvirtd  # noqa: F401 - a fixture
from tests.functional.cinder.conftest import mounts  # noqa: F401 - a fixture
from tests.functional.cinder.shared_cinder import contents
from tests.functional.nova import storages
from tests.functional.nova.process import NovaProcess
from tests.functional.nova.storages import Storage
from volumedrivers.attachment import manager
from volumedrivers.attachment.journal import Journal
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import server
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.cinder import settings as cinder_settings
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.loop_backend import LoopBackend
from volumedrivers.testing.libvirtd import PrivateLibvirtd

#: packages, by the extra that has them
_NEEDED = {
    'nova': 'nova',
    'novatest': 'ddt fixtures oslotest placement testtools wsgi_intercept',
}


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Nova and Cinder.

    :ivar directory: the files of both
    """

    nova: NovaProcess
    cinder: EmbeddedCinder
    backends: dict[str, Backend]
    directory: pathlib.Path


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
def reach(libvirtd: PrivateLibvirtd, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:  # noqa: F811
    """Where hosts find each other: the sockets of libvirtds, by address."""
    made = tmp_path_factory.mktemp('reach')
    (made / libvirtd.address).symlink_to(libvirtd.socket)
    return made


def settings(
    directory: pathlib.Path,
    libvirtd: PrivateLibvirtd,  # noqa: F811
    state: pathlib.Path,
    mounts: pathlib.Path,  # noqa: F811
) -> dict[str, typing.Any]:
    """Return those of a room, with Nova's own volume drivers until it is told otherwise."""
    return {
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
        'exports': {},
    }


@pytest.fixture(scope='session')
def driver_room(
    libvirtd: PrivateLibvirtd,  # noqa: F811
    state: pathlib.Path,
    mounts: pathlib.Path,  # noqa: F811
    reach: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[NovaProcess]:
    """Nova's LibvirtDriver; with its own volume drivers until it is told otherwise."""
    directory = tmp_path_factory.mktemp('nova')
    with driver_process(settings(directory, libvirtd, state, mounts), libvirtd, reach) as started:
        yield started


def driver_process(
    given: dict[str, typing.Any],
    libvirtd: PrivateLibvirtd,  # noqa: F811
    reach: pathlib.Path,
) -> NovaProcess:
    """Return a process with one LibvirtDriver, which can migrate guests."""
    # The number in the usual name is the instance's in a database that all hosts have.
    names = {'host': libvirtd.name, 'instance_name_template': 'instance-%(uuid)s'}
    given['options'] |= {'DEFAULT': names}
    given['options']['libvirt'] |= {
        'live_migration_uri': f'qemu+unix:///system?socket={reach}/%s',
        'live_migration_inbound_addr': libvirtd.address,
    }
    # One thing is done at a time; where something is locked nevertheless, that is meant.
    given['options']['volumedrivers']['lock_timeout'] = 1.0
    room = 'tests.functional.nova.migration_room:MigrationRoom'
    return NovaProcess(room, given, pathlib.Path(given['directory']) / 'nova.log')


@pytest.fixture(scope='session')
def backends() -> dict[str, Backend]:
    """What Cinder has; the type of a volume is called as its back end."""
    return {made.name: made for made in (NfsBackend(), IscsiBackend(), LoopBackend())}


@pytest.fixture(scope='package')
def cloud(
    backends: dict[str, Backend],
    libvirtd: PrivateLibvirtd,  # noqa: F811
    state: pathlib.Path,
    mounts: pathlib.Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    """A real Cinder in this process, and a whole Nova in another one, that know each other."""
    directory = tmp_path_factory.mktemp('cloud')
    port = server.free_port()
    compute = {
        'auth_type': 'none',
        'endpoint': f'http://127.0.0.1:{port}/v2.1',
        'token_auth_url': f'http://127.0.0.1:{port}/identity/v3',
    }
    with EmbeddedCinder(
        directory / 'cinder',
        list(backends.values()),
        serve=True,
        options={'nova': compute},
        gives_way=True,
    ) as cinder:
        nfs = backends['nfs']
        assert isinstance(nfs, NfsBackend)
        given = settings(directory, libvirtd, state, mounts)
        given['options'] |= {
            'key_manager': {'backend': cinder_settings.KEY_MANAGER},
            cinder_settings.KEYS_GROUP: {'directory': str(directory / 'cinder' / 'keys')},
        }
        given |= {
            'exports': {nfs.export: str(nfs.files)},
            'cinder': cinder.url,
            'port': port,
        }
        room = 'tests.functional.nova.whole_nova:WholeNova'
        with NovaProcess(room, given, directory / 'nova.log') as nova:
            yield Cloud(nova, cinder, backends, directory)
        assert contents(cinder) == []


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


@pytest.fixture
def command(libvirtd: PrivateLibvirtd, state: pathlib.Path) -> test_cli.Command:  # noqa: F811
    """The command line of this host."""
    return test_cli.Command(libvirtd.uri, state.parent)


@pytest.fixture
def journal(state: pathlib.Path) -> Iterator[Journal]:
    """Of the drivers of this package."""
    opened = Journal(str(state / manager.JOURNAL))
    yield opened
    opened.close()
