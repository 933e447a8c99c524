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

"""The lab's volumes on shares: real files and images, and what servers say of their clients."""

import os
import stat
import typing

import pytest

from tests.lab import rows
from tests.lab.keys import PASSPHRASE
from tests.lab.storage import gluster
from tests.lab.storage import image_file
from tests.lab.storage import nfsd
from tests.lab.storage import samba
from tests.lab.storage import server_process
from tests.lab.storage.backend import Unreachable
from tests.lab.storage.nfs import NfsBackend
from tests.lab.storage.samba import SmbBackend
from tests.lab.storage.share import ShareBackend
from volumedrivers.connection_info import ConnectionInfo

MIB = 1 << 20
FIRST = '11111111-2222-4333-8444-555555555551'
SECOND = '11111111-2222-4333-8444-555555555552'


class LocalShare(ShareBackend):
    """A directory that nobody serves.

    :ivar users: who has which volume, for ``seen``
    """

    name = 'local'
    protocol = 'nfs'
    export = '192.0.2.1:/volumes'
    ports = ()

    def __init__(self, state):
        super().__init__(state)
        self.users: dict[str, list[str]] = {}
        self.files.mkdir(parents=True)

    def up(self):
        """Nothing is needed."""

    def is_up(self):
        return True

    def seen(self, volume):
        return self.users.get(volume.volume_id, [])

    def kill_daemon(self):
        raise AssertionError('there is none')


@pytest.fixture
def share(tmp_path):
    return LocalShare(tmp_path)


class TestVolumes:
    @pytest.mark.parametrize('image_format', ['raw', 'qcow2'])
    def test_what_is_written_is_read_again_wherever_it_lies(self, share, image_format):
        volume = share.make_volume(FIRST, 8 * MIB, format=image_format)
        volume.write(MIB + 5, b'the data')
        again = share.find_volume(FIRST)
        assert again.read(MIB + 5, 8) == b'the data'
        assert again.read(MIB, 5) == bytes(5)
        assert again.read(8 * MIB - 3, 3) == bytes(3)
        assert again.size == 8 * MIB

    @pytest.mark.parametrize('image_format', ['raw', 'qcow2'])
    def test_grow(self, share, image_format):
        volume = share.make_volume(FIRST, 4 * MIB, format=image_format)
        volume.grow(8 * MIB)
        volume.write(6 * MIB, b'here')
        assert share.find_volume(FIRST).size == 8 * MIB
        assert volume.read(6 * MIB, 4) == b'here'

    def test_one_in_use_is_left_to_its_qemu(self, share):
        volume = share.make_volume(FIRST, 4 * MIB)
        share.users[FIRST] = ['open by somebody']
        volume.grow(8 * MIB)
        assert volume.path.stat().st_size == 4 * MIB
        assert volume.size == 8 * MIB

    def test_connection_info_is_one_and_new_each_time(self, share):
        volume = share.make_volume(FIRST, MIB, format='qcow2', options='vers=3')
        info = ConnectionInfo.parse(volume.connection_info())
        assert (info.data.export, info.data.name) == (share.export, f'volume-{FIRST}')
        assert (info.data.format, info.data.options) == ('qcow2', ('vers=3',))
        assert (info.volume_id, info.serial, info.access_mode) == (FIRST, FIRST, 'rw')
        volume.connection_info()['data']['name'] = 'spoilt'
        assert volume.connection_info()['data']['name'] == f'volume-{FIRST}'

    def test_place(self, share):
        volume = share.make_volume(FIRST, MIB)
        other = share.make_volume(SECOND, MIB)
        volume.write(0, b'first')
        other.write(0, b'other')
        place, identity = volume.path, volume.identity()
        volume.give_place_to(other)
        assert place.read_bytes()[:5] == b'other'
        assert other.identity().startswith(identity.rpartition('#')[0])
        assert other.identity() != identity
        assert (volume.read(0, 5), other.read(0, 5)) == (b'first', b'other')
        volume.give_back()
        assert volume.identity() == identity
        assert share.find_volume(SECOND).read(0, 5) == b'other'
        # Whoever holds the one that was set aside has not heard of it.
        other.delete()
        volume.delete()
        assert list(share.files.iterdir()) == []

    def test_cannot_be_taken_away_alone(self, share):
        volume = share.make_volume(FIRST, MIB)
        with pytest.raises(Unreachable):
            volume.withdraw()
        with pytest.raises(Unreachable):
            volume.give_back()

    def test_delete_again(self, share):
        volume = share.make_volume(FIRST, MIB)
        volume.delete()
        volume.delete()
        with pytest.raises(KeyError):
            share.find_volume(FIRST)

    def test_unknown_variant(self, share):
        with pytest.raises(Unreachable, match='portals'):
            share.make_volume(FIRST, MIB, portals=2)
        with pytest.raises(KeyError):
            share.find_volume(FIRST)


@pytest.mark.parametrize(('passphrase', 'opens'), [(PASSPHRASE, True), ('another', False)])
def test_luks_header_is_for_the_passphrase_that_cinder_has(tmp_path, passphrase, opens):
    header = image_file.luks_header(PASSPHRASE)
    assert header.startswith(b'LUKS\xba\xbe\x00\x01')
    path, key = tmp_path / 'image', tmp_path / 'key'
    path.write_bytes(header + bytes(MIB))
    key.write_text(passphrase)
    assert opens == server_process.succeeds(
        'qemu-io',
        '--object',
        f'secret,id=key,file={key}',
        '--image-opts',
        f'driver=luks,key-secret=key,file.filename={path}',
        '-c',
        'read 0 512',
    )


class TestSamba:
    STATUS: typing.ClassVar = {
        'sessions': {'7': {'remote_machine': '10.10.1.2'}},
        'tcons': {'8': {'service': 'volumes'}, '9': {'service': 'IPC$'}},
        'open_files': {
            '/srv/files/volume-1': {
                'filename': 'volume-1',
                'opens': {'1/2': {'server_id': {'pid': '42'}}},
            },
            '/srv/files/.': {'filename': '.', 'opens': {'1/3': {'server_id': {'pid': '42'}}}},
        },
    }

    @pytest.fixture
    def server(self, tmp_path):
        backend = SmbBackend(tmp_path)
        backend.files.mkdir(parents=True)
        return backend

    def test_password_is_of_this_installation_and_nobody_else_reads_it(self, server, tmp_path):
        password = server.password
        file = server.state / 'user.json'
        assert len(password) == 32
        assert password in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert SmbBackend(tmp_path).password == password
        assert SmbBackend(tmp_path / 'another').password != password

    def test_connection_info_has_it_as_a_secret(self, server):
        volume = server.make_volume(FIRST, MIB, options='vers=3.1.1')
        info = ConnectionInfo.parse(volume.connection_info())
        assert volume.secrets() == [server.password]
        assert server.password in info.secrets()
        assert server.password not in repr(info.to_dict())
        assert 'vers=3.1.1' in info.data.options

    def test_open_files_and_sessions(self):
        assert dict(samba.open_files(self.STATUS)) == {'/srv/files/volume-1': ['open by smbd 42']}
        assert samba.sessions(self.STATUS) == [
            'session of 10.10.1.2',
            'connected to volumes',
            'connected to IPC$',
        ]
        assert dict(samba.open_files({})) == {}
        assert samba.sessions({}) == []


class TestNfsd:
    def test_what_clients_have_open(self, tmp_path, monkeypatch):
        client = tmp_path / 'clients' / '3'
        client.mkdir(parents=True)
        (client / 'info').write_text(
            'clientid: 0x1\naddress: "10.10.1.2:705"\nstatus: confirmed\n'
        )
        (client / 'states').write_text(
            '- 0x01: { type: open, access: rw, deny: --, superblock: "07:00:13", '
            'filename: "volume-1", owner: "open id:\\x00" }\n'
            '- 0x02: { type: lock, superblock: "07:00:13", filename: "volume-1", owner: "x" }\n'
            '- 0x03: { type: deleg, access: r, superblock: "07:00:14", filename: "volume-2" }\n'
        )
        monkeypatch.setattr(nfsd, 'PROC', tmp_path)
        assert nfsd.opened() == {
            13: ['open by 10.10.1.2:705', 'lock by 10.10.1.2:705'],
            14: ['deleg by 10.10.1.2:705'],
        }

    def test_no_server_has_nothing_open(self, tmp_path, monkeypatch):
        monkeypatch.setattr(nfsd, 'PROC', tmp_path / 'not mounted')
        assert nfsd.opened() == {}
        assert nfsd.threads() == 0
        assert not nfsd.was_started()

    def test_locks_of_the_server_are_told_from_those_of_the_client(self):
        locks = (
            '1: POSIX  ADVISORY  READ 0 07:00:13 100 100\n'
            '2: OFDLCK ADVISORY  READ -1 00:2f:13 100 100\n'
            '3: POSIX  ADVISORY  WRITE 812 fe:00:13 0 EOF\n'
            '4: POSIX  ADVISORY  WRITE 0 07:00:14 0 EOF\n'
        )
        assert nfsd.locked(locks, os.makedev(7, 0)) == {13: ['lock read'], 14: ['lock write']}

    def test_programs(self):
        said = (
            '   program version(s) netid(s)                         service     owner\n'
            '    100000  2,3,4     local,udp,tcp,udp6,tcp6          portmapper  superuser\n'
            '    100005  3,2,1     tcp6,udp6,tcp,udp                mountd      superuser\n'
        )
        assert list(nfsd.programs(said)) == ['portmapper', 'mountd']


def test_inode_that_a_client_of_glusterfs_shows():
    gfid = bytes.fromhex('0f1e2d3c4b5a69788796a5b4c3d2e1f0')
    assert gluster.inode(gfid) == 0x8796A5B4C3D2E1F0


def test_files_that_a_process_has_open(tmp_path):
    path = tmp_path / 'file'
    with path.open('w'), path.open():
        opened = gluster.open_on(os.getpid(), tmp_path.stat().st_dev)
        assert opened.count(path.stat().st_ino) == 2
    assert path.stat().st_ino not in gluster.open_on(os.getpid(), tmp_path.stat().st_dev)


@pytest.mark.parametrize('row', [row for row in rows.ROWS if row.backend == 'nfs'])
def test_rows_ask_for_what_there_is(row, tmp_path):
    backend = NfsBackend(tmp_path)
    backend.files.mkdir(parents=True)
    info = ConnectionInfo.parse(backend.make_volume(FIRST, MIB, **row.variant).connection_info())
    assert info.driver_volume_type == row.protocol
    assert info.encrypted == (row.encryption is not None)
