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

"""The lab's back ends of Cinder, as far as they can be looked at without a kernel that serves."""

import json
import pathlib

import pytest

from tests.lab.cinder import lvm_backends
from tests.lab.cinder import nvmet_library
from tests.lab.cinder.nfs_backend import NfsBackend
from tests.lab.cinder.volume_group import VolumeGroup
from tests.lab.storage import lio

VOLUME = '11111111-2222-3333-4444-555555555555'


class TestNfs:
    @pytest.fixture
    def backend(self, tmp_path: pathlib.Path) -> NfsBackend:
        backend = NfsBackend(tmp_path / 'mnt')
        backend._server.state = tmp_path
        backend.files.mkdir(parents=True)
        return backend

    def test_volume_without_a_snapshot(self, backend: NfsBackend) -> None:
        file = backend.files / f'volume-{VOLUME}'
        file.write_bytes(b'x' * 10 + b'found' + b'y' * 10)
        assert backend.read(VOLUME, 10, 5) == b'found'
        inode = file.stat().st_ino
        export = f'10.10.1.1:{backend.files}'
        assert backend.identity(VOLUME) == f'file:{export}/volume-{VOLUME}#{inode}'

    def test_snapshot_leaves_another_file_in_use(self, backend: NfsBackend) -> None:
        overlay = backend.files / f'volume-{VOLUME}.snap'
        overlay.touch()
        info = backend.files / f'volume-{VOLUME}.info'
        info.write_text(json.dumps({'active': overlay.name, 'snap': overlay.name}))
        assert backend.identity(VOLUME).endswith(f'{overlay.name}#{overlay.stat().st_ino}')
        assert backend._format(VOLUME) == 'qcow2'

    def test_share_is_a_directory_of_the_export(self, backend: NfsBackend) -> None:
        options = backend.prepare(backend.files.parent)
        shares = pathlib.Path(options['nfs_shares_config']).read_text()
        assert shares == f'10.10.1.1:{backend.files}\n'


class TestLio:
    @pytest.fixture
    def backend(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> lvm_backends.LioBackend:
        monkeypatch.setattr(lio, 'ROOT', tmp_path)
        monkeypatch.setattr(lvm_backends, 'FABRIC', tmp_path / 'iscsi')
        return lvm_backends.LioBackend(VolumeGroup(tmp_path))

    def test_identity_is_of_the_serial_number(
        self, backend: lvm_backends.LioBackend, tmp_path: pathlib.Path
    ) -> None:
        store = tmp_path / f'core/iblock_3/{lvm_backends.IQN_PREFIX}volume-{VOLUME}/wwn'
        store.mkdir(parents=True)
        (store / 'vpd_unit_serial').write_text(
            'T10 VPD Unit Serial Number: 0a1b2c3d-0000-4000-8000-aabbccddeeff\n'
        )
        assert backend.identity(VOLUME) == 'wwn:360014050a1b2c3d000040008000aabbc'

    def test_target_is_served_to_who_may_log_in(
        self, backend: lvm_backends.LioBackend, tmp_path: pathlib.Path
    ) -> None:
        assert backend.served(VOLUME) == []
        group = tmp_path / 'iscsi' / f'{lvm_backends.IQN_PREFIX}volume-{VOLUME}' / 'tpgt_1'
        (group / 'acls').mkdir(parents=True)
        assert backend.served(VOLUME) == ['target for nobody']
        (group / 'acls' / 'iqn.2026-01.test:host').mkdir()
        assert backend.served(VOLUME) == ['target for iqn.2026-01.test:host']

    def test_unit_without_a_target_is_served(
        self, backend: lvm_backends.LioBackend, tmp_path: pathlib.Path
    ) -> None:
        name = f'{lvm_backends.IQN_PREFIX}volume-{VOLUME}'
        (tmp_path / 'core/iblock_0' / name).mkdir(parents=True)
        assert backend.served(VOLUME) == [f'unit {name}']


class TestNvmetLibrary:
    NQN = 'nqn.2026-01.test-1'

    @pytest.fixture
    def root(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
        """A directory in the place of configfs, which the kernel has filled already."""
        namespace = tmp_path / 'subsystems' / self.NQN / 'namespaces/10'
        for directory in (
            namespace,
            namespace.parents[1] / 'allowed_hosts',
            tmp_path / 'ports/20/subsystems',
        ):
            directory.mkdir(parents=True)
        for name in ('device_path', 'device_uuid', 'device_nguid', 'enable'):
            (namespace / name).touch()
        (namespace.parents[1] / 'attr_allow_any_host').touch()
        for name in ('addr_traddr', 'addr_trsvcid'):
            (tmp_path / 'ports/20' / name).touch()
        monkeypatch.setattr(nvmet_library, 'ROOT', tmp_path)
        return tmp_path

    def test_subsystem_is_set_up_as_cinder_says(self, root: pathlib.Path) -> None:
        device = {'path': '/dev/a', 'uuid': VOLUME, 'nguid': VOLUME}
        nvmet_library.Subsystem.setup(
            {
                'nqn': self.NQN,
                'attr': {'allow_any_host': '1'},
                'allowed_hosts': [],
                'namespaces': [{'nsid': 10, 'enable': 1, 'device': device}],
            }
        )
        (namespace,) = nvmet_library.Subsystem(self.NQN, 'lookup').namespaces
        assert namespace.nsid == 10
        assert namespace.get_attr('device', 'path') == '/dev/a'
        assert (pathlib.Path(namespace.path) / 'enable').read_text() == '1'

    def test_port_serves_a_subsystem_and_lets_it_go(self, root: pathlib.Path) -> None:
        address = {'traddr': '10.10.1.1', 'trsvcid': 4420}
        nvmet_library.Port.setup({'portid': 20, 'addr': address, 'subsystems': [self.NQN]})
        port = nvmet_library.Port('20', 'lookup')
        assert port.subsystems == [self.NQN]
        port.remove_subsystem(self.NQN)
        assert port.subsystems == []

    def test_what_is_not_there_is_not_found(self, root: pathlib.Path) -> None:
        with pytest.raises(nvmet_library.CFSNotFound):
            nvmet_library.Port(21, mode='lookup')
        with pytest.raises(nvmet_library.CFSNotFound):
            nvmet_library.Subsystem('nqn.2026-01.test-2', mode='lookup')

    def test_caller_is_told_what_the_kernel_refuses(self, root: pathlib.Path) -> None:
        said: list[str] = []
        nvmet_library.Port.setup({'portid': 20, 'addr': {'unknown': 1}}, said.append)
        assert len(said) == 1
