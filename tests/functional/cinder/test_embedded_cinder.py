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

"""The embedded Cinder: from its API down to the disk of a guest."""

from collections.abc import Callable
from concurrent import futures
import pathlib
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request

from oslo_config import cfg
import pytest

from tests.functional.cinder.shared_cinder import exported_below
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import connector_properties
from volumedrivers.host import mount_table
from volumedrivers.host import share
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.qemu_io import GuestIO

GIB = 2**30
MIB = 2**20
CONNECTOR = {
    'host': 'elsewhere',
    'initiator': 'iqn.2020-01.test:elsewhere',
    'ip': '127.0.0.1',
    'platform': 'x86_64',
    'os_type': 'linux',
}


class Volume:
    """A volume of Cinder, found by its name, in the guest and out of it."""

    def __init__(self, cinder: EmbeddedCinder, backend: Backend, size: int = 1) -> None:
        self.storage: typing.Any = cinder.connection.block_storage
        self.backend = backend
        self.name = f'data of {backend.name}'
        self.storage.create_volume(name=self.name, size=size, volume_type=backend.name)
        self.id: str = self.storage.find_volume(self.name, ignore_missing=False).id
        self.wait('available')
        self.attachment: typing.Any = None

    @property
    def alias(self) -> str:
        return f'ua-{self.id}'

    @property
    def image(self) -> pathlib.Path:
        return self.backend.image(self.id)

    def get(self) -> typing.Any:
        return self.storage.get_volume(self.id)

    def wait(self, status: str) -> typing.Any:
        return wait_for(self.get, status)

    def reserve(self, connector: dict[str, object], instance: str) -> ConnectionInfo:
        """Reserve it and let it be exported."""
        self.attachment = self.storage.create_attachment(self.id, instance=instance)
        self.attachment = self.storage.update_attachment(self.attachment.id, connector=connector)
        data = dict(self.attachment.connection_info)
        data.pop('attachment_id')
        return ConnectionInfo.parse(
            {
                'driver_volume_type': data.pop('driver_volume_type'),
                'data': data,
                'serial': self.id,
            }
        )

    def complete(self) -> None:
        self.storage.complete_attachment(self.attachment)
        assert self.get().status == 'in-use'
        assert [one.id for one in self.storage.attachments()] == [self.attachment.id]

    def release(self) -> None:
        self.storage.delete_attachment(self.attachment)
        self.wait('available')
        assert list(self.storage.attachments()) == []

    def snapshot(self) -> typing.Any:
        made = self.storage.create_snapshot(volume_id=self.id, name='then', is_forced=True)
        return wait_for(lambda: self.storage.get_snapshot(made.id), 'available')

    def delete(self) -> None:
        found = self.get()
        self.storage.delete_volume(self.id)
        self.storage.wait_for_delete(found, interval=0.05, wait=60)

    def delete_snapshot(self, snapshot: typing.Any) -> None:
        self.storage.delete_snapshot(snapshot.id)
        self.storage.wait_for_delete(snapshot, interval=0.05, wait=60)

    def holds(self, pattern: int, offset: int, path: pathlib.Path | None = None) -> bool:
        with (path or self.image).open('rb') as opened:
            opened.seek(offset)
            return opened.read(65536) == bytes([pattern]) * 65536


def wait_for(get: Callable[[], typing.Any], status: str) -> typing.Any:
    end = time.monotonic() + 60
    while (found := get()).status != status:
        assert time.monotonic() < end, f'{found.status}, not {status}'
        assert found.status != 'error'
        time.sleep(0.05)
    return found


def attach(volume: Volume, manager: AttachmentManager, conf: cfg.ConfigOpts, guest: Guest) -> None:
    connector = connector_properties.get_connector_properties(conf)
    info = volume.reserve(connector, guest.uuid)
    manager.attach(info, guest.name, DiskRequest(bus='scsi'), attachment_id=volume.attachment.id)
    volume.complete()


def detach(volume: Volume, manager: AttachmentManager, guest: Guest) -> None:
    volume.storage.begin_volume_detaching(volume.id)
    manager.detach(guest.name, volume.id)
    volume.release()


def assert_nothing_left(
    volume: Volume, manager: AttachmentManager, guest: Guest, guest_io: GuestIO
) -> None:
    assert guest.disks() == guest.disks(persistent=True) == ()
    assert guest_io.node_names() == set()
    assert manager.list() == ()
    assert manager.audit() == ()
    assert list(volume.storage.volumes()) == []
    assert [path.name for path in volume.backend.files.iterdir()] == []
    assert exported_below(volume.backend.files) == []


def test_iscsi_from_the_api_to_the_guest(
    cinder: EmbeddedCinder,
    iscsi: IscsiBackend,
    manager: AttachmentManager,
    conf: cfg.ConfigOpts,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    volume = Volume(cinder, iscsi)
    attach(volume, manager, conf, guest)
    guest_io.write(volume.alias, 0x5A, MIB, 65536)
    assert volume.holds(0x5A, MIB)
    assert len(exported_below(iscsi.files)) == 1

    volume.storage.extend_volume(volume.id, 2)
    assert volume.wait('in-use').size == 2
    assert manager.extend(guest.name, volume.id, 2 * GIB).resized_in_guest
    guest_io.write(volume.alias, 0x77, 2 * GIB - MIB, 65536)
    assert volume.holds(0x77, 2 * GIB - MIB)

    snapshot = volume.snapshot()
    guest_io.write(volume.alias, 0x11, MIB, 65536)
    copy = iscsi.files / f'snapshot-{snapshot.id}' / 'lun.img'
    assert volume.holds(0x5A, MIB, copy)
    assert volume.holds(0x11, MIB)

    detach(volume, manager, guest)
    assert exported_below(iscsi.files) == []
    volume.delete_snapshot(snapshot)
    volume.delete()
    assert_nothing_left(volume, manager, guest, guest_io)


def test_nfs_from_the_api_to_the_guest(
    cinder: EmbeddedCinder,
    nfs: NfsBackend,
    mounts: pathlib.Path,
    manager: AttachmentManager,
    conf: cfg.ConfigOpts,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    volume = Volume(cinder, nfs)
    attach(volume, manager, conf, guest)
    guest_io.write(volume.alias, 0x5A, MIB, 65536)
    assert volume.holds(0x5A, MIB)

    # Cinder's NfsDriver extends no volume that is attached (bug 1870367).
    volume.storage.extend_volume(volume.id, 2)
    assert volume.wait('error_extending').size == 1
    volume.storage.reset_volume_status(volume.id, status='in-use', attach_status='attached')

    detach(volume, manager, guest)
    volume.storage.extend_volume(volume.id, 2)
    assert volume.wait('available').size == 2
    snapshot = volume.snapshot()

    # What is written now goes to a file of its own above the first.
    attach(volume, manager, conf, guest)
    (disk,) = guest.disks()
    place = share.mount_point(str(mounts), nfs.export)
    assert disk.source.file == f'{place}/{volume.image.name}.{snapshot.id}'
    guest_io.read(volume.alias, 0x5A, MIB, 65536)
    guest_io.write(volume.alias, 0x11, MIB, 65536)
    assert volume.holds(0x5A, MIB)

    detach(volume, manager, guest)
    volume.delete_snapshot(snapshot)
    volume.delete()
    assert_nothing_left(volume, manager, guest, guest_io)


def test_three_times_in_one_process(tmp_path: pathlib.Path) -> None:
    for number in range(3):
        backends = [NfsBackend(), IscsiBackend()]
        with EmbeddedCinder(tmp_path / str(number), backends) as cinder:
            assert cinder.volume_types == ('nfs', 'iscsi')
            assert cinder.url is None
            storage: typing.Any = cinder.connection.block_storage
            assert list(storage.volumes()) == []
            assert mount_table.find(backends[0].mount_point) is not None
            with pytest.raises(exception.Busy, match='one runs in this process'):
                EmbeddedCinder(tmp_path / 'another').start()
            storage.create_volume(name='one', size=1)
        assert mount_table.find(backends[0].mount_point) is None


class Unready(NfsBackend):
    """Its driver finds no list of shares, and says so in the log alone."""

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        return {**super().prepare(directory), 'nfs_shares_config': str(directory / 'none')}


def test_back_end_that_is_not_ready(tmp_path: pathlib.Path) -> None:
    backend = Unready()
    cinder = EmbeddedCinder(
        tmp_path / 'first',
        [IscsiBackend(), backend],
        options={'DEFAULT': {'testing_ready_timeout': '0.5'}},
    )
    # The other one may not be ready so soon either.
    with pytest.raises(exception.DeadlineExceeded, match=r'to be ready on .*\bembedded@nfs\b'):
        cinder.start()
    assert not cinder.is_running
    assert mount_table.find(backend.mount_point) is None
    with EmbeddedCinder(tmp_path / 'second', [IscsiBackend()]) as another:
        assert Volume(another, another.backends[0]).get().status == 'available'


def test_gives_way(tmp_path: pathlib.Path) -> None:
    shared = EmbeddedCinder(tmp_path / 'shared', [IscsiBackend()], gives_way=True)
    with shared:
        Volume(shared, shared.backends[0])
        with EmbeddedCinder(tmp_path / 'own', [IscsiBackend()]) as own:
            assert own.is_running
            assert not shared.is_running
            with pytest.raises(exception.Busy):
                shared.start()
        shared.start()
        assert shared.is_running
        storage: typing.Any = shared.connection.block_storage
        assert [one.status for one in storage.volumes()] == ['available']


def test_directory_is_gone_on_with(tmp_path: pathlib.Path) -> None:
    backend = IscsiBackend()
    with EmbeddedCinder(tmp_path, [backend]) as cinder:
        volume = Volume(cinder, backend)
        volume.reserve(CONNECTOR, '11111111-2222-4333-8444-555555555555')
        volume.complete()
        (process,) = exported_below(backend.files)
    assert exported_below(backend.files) == []
    with EmbeddedCinder(tmp_path, [backend]) as cinder:
        storage: typing.Any = cinder.connection.block_storage
        assert [(one.name, one.status) for one in storage.volumes()] == [
            ('data of iscsi', 'in-use')
        ]
        # It is exported again, by another tgtd.
        assert process not in exported_below(backend.files)
        assert len(exported_below(backend.files)) == 1
    assert exported_below(backend.files) == []


def test_another_process_reaches_the_port(tmp_path: pathlib.Path) -> None:
    script = """
import sys
import openstack
cloud = openstack.connection.Connection(
    auth_type='none', block_storage_endpoint_override=sys.argv[1],
    block_storage_api_version='3', block_storage_default_microversion='3.71')
made = cloud.block_storage.create_volume(name='from afar', size=1)
cloud.block_storage.wait_for_status(made, 'available', interval=0.1, wait=10)
print(made.id)
"""
    with EmbeddedCinder(tmp_path, [IscsiBackend()], serve=True) as cinder:
        said = subprocess.run(
            [sys.executable, '-c', script, str(cinder.url)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        storage: typing.Any = cinder.connection.block_storage
        found = storage.find_volume('from afar', ignore_missing=False)
        assert found.id == said.strip()
        assert found.volume_type == 'iscsi'


def test_many_at_once(cinder: EmbeddedCinder, iscsi: IscsiBackend, nfs: NfsBackend) -> None:
    storage: typing.Any = cinder.connection.block_storage

    def live(number: int) -> str:
        kind = cinder.volume_types[number % 2]
        made = storage.create_volume(name=f'volume {number}', size=1, volume_type=kind)
        wait_for(lambda: storage.get_volume(made.id), 'available')
        attachment = storage.create_attachment(made.id, connector=CONNECTOR)
        storage.complete_attachment(attachment)
        assert storage.get_volume(made.id).status == 'in-use'
        storage.delete_attachment(attachment)
        wait_for(lambda: storage.get_volume(made.id), 'available')
        storage.delete_volume(made.id)
        storage.wait_for_delete(made, interval=0.05, wait=60)
        return kind

    with futures.ThreadPoolExecutor(4) as pool:
        kinds = list(pool.map(live, range(8)))
    assert sorted(kinds) == ['iscsi'] * 4 + ['nfs'] * 4
    assert list(storage.volumes()) == list(storage.attachments()) == []
    assert list(iscsi.files.iterdir()) == list(nfs.files.iterdir()) == []


def test_connector_without_initiator(cinder: EmbeddedCinder, iscsi: IscsiBackend) -> None:
    volume = Volume(cinder, iscsi)
    connector = {name: value for name, value in CONNECTOR.items() if name != 'initiator'}
    with pytest.raises(Exception, match=r'initiator|connector') as caught:
        volume.reserve(connector, '11111111-2222-4333-8444-555555555555')
    assert type(caught.value).__module__.startswith('openstack')
    assert exported_below(iscsi.files) == []


def test_what_stands_in_front_of_cinder(tmp_path: pathlib.Path) -> None:
    broken = False

    def wrap(application: typing.Any) -> typing.Any:
        def call(environment: dict[str, str], start_response: typing.Any) -> typing.Any:
            if broken:
                start_response('503 Service Unavailable', [('Content-Length', '0')])
                return []
            return application(environment, start_response)

        return call

    with EmbeddedCinder(tmp_path, [IscsiBackend()], serve=True, wrap=wrap) as cinder:
        storage: typing.Any = cinder.connection.block_storage
        assert list(storage.volumes()) == []
        assert urllib.request.urlopen(f'{cinder.url}/volumes').status == 200
        broken = True
        with pytest.raises(Exception, match='503'):
            list(storage.volumes())
        with pytest.raises(urllib.error.HTTPError, match='503'):
            urllib.request.urlopen(f'{cinder.url}/volumes')


def test_the_process_stays_as_it_was(tmp_path: pathlib.Path) -> None:
    script = """
import logging, os, pathlib, signal, sys, threading, time
from volumedrivers.testing.cinder.embedded import EmbeddedCinder

def state():
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM)]
    return (handlers, logging.getLogger().handlers, logging.getLogger().level, time.sleep,
            threading.Thread, dict(os.environ))

before = state()
with EmbeddedCinder(pathlib.Path(sys.argv[1])) as cinder:
    during = state()
    assert cinder.log.stat().st_size
assert before == during == state(), (before, during, state())
assert not [one for one in threading.enumerate()[1:] if not one.daemon]
"""
    said = subprocess.run(
        [sys.executable, '-W', 'error::ResourceWarning', '-c', script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert (said.returncode, said.stdout) == (0, '')


def test_modules_stay_as_they_were(tmp_path: pathlib.Path) -> None:
    """eventlet left a server of its own in the package http; ours hung then."""
    script = """
import http.server, importlib, pathlib, socket, sys, threading, types, urllib.request
from volumedrivers.testing.cinder.embedded import EmbeddedCinder

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass

def state():
    return {(name, key): value for name, module in sys.modules.items()
            for key, value in getattr(module, '__dict__', {}).items()
            if isinstance(value, types.ModuleType) and value.__name__ == f'{name}.{key}'}

before = state()
with EmbeddedCinder(pathlib.Path(sys.argv[1])) as cinder:
    assert 'eventlet' in sys.modules, 'nothing is shown then'
    after = state()
    assert all(after[place] is module for place, module in before.items())
    assert all(module is sys.modules.get(module.__name__, module) for module in after.values())
    for number in range(20):
        with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            url = f'http://127.0.0.1:{server.server_port}'
            assert all(urllib.request.urlopen(url, timeout=5).status == 204 for _ in range(5))
            server.shutdown()
            thread.join()
"""
    said = subprocess.run(
        [sys.executable, '-c', script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert (said.returncode, said.stdout) == (0, '')


def test_cinder_is_not_installed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(exception.ToolMissing) as caught:
        EmbeddedCinder(tmp_path / 'cinder').start()
    assert caught.value.package == 'volumedrivers[cinder]'
    assert not (tmp_path / 'cinder').exists()


def test_importing_it_loads_no_cinder() -> None:
    script = (
        'import sys; import volumedrivers.testing.cinder.embedded; '
        "print([n for n in ('cinder', 'eventlet', 'openstack', 'requests', 'os_brick', "
        "'sqlalchemy', 'libvirt') if n in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, '-c', script], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert said.strip() == '[]'
