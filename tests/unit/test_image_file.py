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

"""Image files as qemu-img makes them, and as somebody evil would."""

import errno
import os
import pathlib
import struct
import subprocess

import pytest

from volumedrivers import exception
from volumedrivers.host import image_file


@pytest.fixture
def root(tmp_path):
    share = tmp_path / 'share'
    share.mkdir()
    (tmp_path / 'outside').write_bytes(b'\0' * 512)
    return share


def make(path, kind, *options, size='1M'):
    subprocess.run(
        ['qemu-img', 'create', '-q', '-u', '-f', kind, *options, str(path), size], check=True
    )
    return str(path)


def look(path, declared, root):
    return image_file.inspect(str(path), declared, root=str(root), seconds=10, volume_id='v1')


def refused(path, declared, root, match):
    with pytest.raises(exception.UnsafeImage, match=match) as caught:
        look(path, declared, root)
    return caught.value


def patch(path, offset, data):
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize('kind', ['raw', 'qcow2', 'vmdk', 'vhdx', 'vpc', 'vdi', 'parallels'])
def test_as_declared(root, kind):
    path = make(root / 'volume', kind)
    found = look(path, kind, root)
    assert found.format == kind
    assert found.size == os.path.getsize(path)
    assert found.inode == os.stat(path).st_ino
    assert found.backing == ()


@pytest.mark.parametrize('kind', ['qcow2', 'vmdk', 'vhdx', 'vpc', 'vdi', 'parallels', 'qed'])
class TestLies:
    def test_declared_and_not(self, root, kind):
        path = make(root / 'volume', 'raw')
        refused(path, kind, root, 'and is not')

    def test_declared_and_empty(self, root, kind):
        (root / 'volume').write_bytes(b'')
        refused(root / 'volume', kind, root, 'and is not')

    def test_nothing_declared(self, root, kind):
        path = make(root / 'volume', kind)
        refused(path, None, root, 'no format is declared')

    def test_raw_is_raw_whatever_the_guest_wrote(self, root, kind):
        path = make(root / 'volume', kind)
        assert look(path, 'raw', root).format == 'raw'


def test_nothing_declared_and_plain(root):
    (root / 'volume').write_bytes(b'\xeb\x63\x90' + b'\0' * 507 + b'\x55\xaa')
    assert look(root / 'volume', None, root).format == 'raw'


@pytest.mark.parametrize('declared', ['luks', 'iso', 'QCOW2', 'qcow', 'nbd', '', 'host_device'])
def test_formats_that_cannot_be_checked(root, declared):
    path = make(root / 'volume', 'qcow2')
    refused(path, declared, root, 'cannot be checked')


def test_formats_that_are_never_safe(root):
    refused(make(root / 'volume', 'qed'), 'qed', root, 'not allowed')
    flat = make(root / 'flat', 'vmdk', '-o', 'subformat=monolithicFlat')
    refused(flat, 'vmdk', root, 'subformat')


class TestBackingFiles:
    def overlay(self, root, backing, kind='qcow2', name='overlay', *options):
        backing_format = ['-F', kind] if kind else []
        return make(root / name, 'qcow2', *options, '-b', backing, *backing_format)

    def test_a_chain_of_snapshots(self, root):
        make(root / 'volume-1', 'raw')
        self.overlay(root, 'volume-1', 'raw', 'volume-1.snap1')
        top = self.overlay(root, 'volume-1.snap1', 'qcow2', 'volume-1.snap2')
        assert look(top, 'qcow2', root).backing == (
            str(root / 'volume-1.snap1'),
            str(root / 'volume-1'),
        )

    def test_version_2(self, root):
        make(root / 'base', 'raw')
        top = self.overlay(root, 'base', 'raw', 'overlay', '-o', 'compat=0.10')
        assert look(top, 'qcow2', root).backing == (str(root / 'base'),)

    def test_in_another_directory_of_the_share(self, root):
        (root / 'a').mkdir()
        make(root / 'base', 'qcow2')
        top = self.overlay(root, '../base', 'qcow2', 'a/overlay')
        assert look(top, 'qcow2', root).backing == (f'{root}/a/../base',)

    @pytest.mark.parametrize(
        'name',
        [
            '/etc/passwd',
            '/dev/vda',
            'nbd://192.0.2.1/x',
            'rbd:pool/image',
            'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}',
            'fat:rw:/etc',
            'gluster://192.0.2.1/v/x',
        ],
    )
    def test_what_is_not_on_the_share(self, root, name):
        # qemu-img would look at some of them, so the name is written by hand.
        path = self.overlay(root, 'x' * len(name), 'raw')
        with open(path, 'rb') as file:
            offset = struct.unpack('>Q', file.read(16)[8:])[0]
        patch(path, offset, name.encode())
        refused(path, 'qcow2', root, 'only one on the share')

    def test_out_by_dots(self, root):
        refused(self.overlay(root, '../outside', 'raw'), 'qcow2', root, 'leads out of the share')

    def test_out_by_a_link(self, root, tmp_path):
        os.symlink(tmp_path / 'outside', root / 'link')
        refused(self.overlay(root, 'link', 'raw'), 'qcow2', root, 'leads out of the share')

    def test_out_further_down(self, root):
        self.overlay(root, '../outside', 'raw', 'middle')
        refused(self.overlay(root, 'middle'), 'qcow2', root, 'leads out of the share')

    def test_missing(self, root):
        with pytest.raises(exception.VolumeDeviceNotFound, match='nothing'):
            look(self.overlay(root, 'nothing', 'raw'), 'qcow2', root)

    def test_a_base_that_lies(self, root):
        make(root / 'base', 'raw')
        refused(self.overlay(root, 'base', 'qcow2'), 'qcow2', root, 'base.*and is not')

    def test_a_base_without_format(self, root):
        make(root / 'base', 'raw')
        # Renamed: unknown extensions are skipped, so no format is left.
        path = self.overlay(root, 'base', 'raw')
        with open(path, 'rb') as file:
            head = file.read(512)
        patch(path, head.index(struct.pack('>I', 0xE2792ACA)), b'none')
        assert look(path, 'qcow2', root).backing == (str(root / 'base'),)
        make(root / 'base', 'qcow2')
        refused(path, 'qcow2', root, 'no format is declared')

    def test_a_circle(self, root):
        self.overlay(root, 'b', 'qcow2', 'a')
        self.overlay(root, 'a', 'qcow2', 'b')
        refused(root / 'a', 'qcow2', root, 'more than 64')

    def test_a_device_below(self, root):
        os.mknod(root / 'node', 0o600 | 0o020000, os.makedev(1, 5))
        refused(self.overlay(root, 'node', 'raw'), 'qcow2', root, 'no regular file')


class TestQcow2Headers:
    def test_a_data_file(self, root):
        path = make(root / 'volume', 'qcow2', '-o', f'data_file={root}/data')
        refused(path, 'qcow2', root, 'data_file')

    def test_unknown_features(self, root):
        path = make(root / 'volume', 'qcow2')
        patch(path, 72, struct.pack('>Q', 1 << 40))
        refused(path, 'qcow2', root, 'feature')

    @pytest.mark.parametrize(
        ('offset', 'data'),
        [
            (4, struct.pack('>I', 7)),  # version
            (20, struct.pack('>I', 60)),  # cluster bits
            (8, struct.pack('>QI', 1 << 62, 8)),  # backing file far outside
            (8, struct.pack('>QI', 65000, 1000)),  # over the cluster's end
            (8, struct.pack('>QI', 600, 5000)),  # longer than any name
            (8, struct.pack('>QI', 600, 0)),  # without a name
        ],
    )
    def test_damage(self, root, offset, data):
        path = make(root / 'volume', 'qcow2')
        patch(path, offset, data)
        refused(path, 'qcow2', root, 'qcow2|feature')

    def test_cut_off(self, root):
        path = make(root / 'volume', 'qcow2')
        os.truncate(path, 80)
        refused(path, 'qcow2', root, 'qcow2')


class TestWhatIsNoFile:
    def test_a_fifo(self, root):
        os.mkfifo(root / 'volume')
        refused(root / 'volume', 'raw', root, 'no regular file')

    def test_a_device(self, root):
        os.mknod(root / 'volume', 0o600 | 0o060000, os.makedev(7, 0))
        refused(root / 'volume', 'raw', root, 'no regular file')

    def test_a_directory(self, root):
        (root / 'volume').mkdir()
        refused(root / 'volume', 'qcow2', root, 'no regular file')

    def test_nothing(self, root):
        with pytest.raises(exception.VolumeDeviceNotFound) as caught:
            look(root / 'volume', 'raw', root)
        assert caught.value.volume_id == 'v1'

    def test_what_cannot_be_read(self, root, monkeypatch):
        path = make(root / 'volume', 'qcow2')

        def broken(*args, **kwargs):
            raise OSError(errno.EIO, 'Input/output error')

        monkeypatch.setattr(os, 'stat', broken)
        with pytest.raises(exception.MountFailed, match='Input/output error'):
            look(path, 'qcow2', root)

    def test_what_we_may_not_read(self, root, monkeypatch):
        path = make(root / 'volume', 'qcow2')

        def forbidden(*args, **kwargs):
            raise PermissionError(errno.EACCES, 'Permission denied')

        monkeypatch.setattr('volumedrivers.host.image_file._check_format', forbidden)
        refused(path, 'qcow2', root, 'cannot be inspected: Permission denied')


def test_a_qcow2_that_is_encrypted_is_called_raw_by_cinder(tmp_path: pathlib.Path) -> None:
    """Its drivers for shares do so; of an encrypted volume the guest writes ciphertext only."""

    def look(name: str, *, encrypted: bool = True) -> str:
        found = image_file.inspect(
            str(tmp_path / name), 'raw', root=str(tmp_path), seconds=10, encrypted=encrypted
        )
        return found.format

    plain = qcow2_header(crypt_method=0)
    luks = qcow2_header(crypt_method=2)
    (tmp_path / 'plain').write_bytes(plain)
    (tmp_path / 'luks').write_bytes(luks)
    (tmp_path / 'header').write_bytes(b'LUKS\xba\xbe' + bytes(1024))
    (tmp_path / 'short').write_bytes(luks[:35])
    assert look('luks') == 'qcow2'
    assert look('luks', encrypted=False) == 'raw'
    # Not what Cinder makes; the guest gets it as it is declared.
    assert look('plain') == look('header') == look('short') == 'raw'
    below = tmp_path / 'below'
    below.write_bytes(bytes(1024))
    (tmp_path / 'backed').write_bytes(qcow2_header(crypt_method=2, backing=b'below'))
    with pytest.raises(exception.UnsafeImage, match='declared raw and has a backing file'):
        look('backed')


def qcow2_header(*, crypt_method: int, backing: bytes = b'') -> bytes:
    """Return what a version 3 image of 1 MiB begins with."""
    offset = 512 if backing else 0
    head = struct.pack(
        '>4sIQIIQIIQQIIQQQQII',
        *(b'QFI\xfb', 3, offset, len(backing), 16, 2**20, crypt_method),
        *(1, 0x30000, 0x10000, 1, 0, 0, 0, 0, 0, 4, 104),
    )
    return (head.ljust(512, b'\0') + backing).ljust(2**18, b'\0')
