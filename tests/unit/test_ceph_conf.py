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

"""What is read of a ceph.conf, and of QEMU's module directory."""

import pytest

from volumedrivers.host import ceph_conf
from volumedrivers.host import qemu_modules


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', ()),
        ('192.0.2.1', (('192.0.2.1', None),)),
        ('192.0.2.1:6789,192.0.2.2', (('192.0.2.1', 6789), ('192.0.2.2', None))),
        ('192.0.2.1 192.0.2.2:7000', (('192.0.2.1', None), ('192.0.2.2', 7000))),
        ('mon1.example, mon-2:3300', (('mon1.example', None), ('mon-2', 3300))),
        ('[2001:DB8::1]:6789,[::1]', (('2001:db8::1', 6789), ('::1', None))),
        ('2001:db8::1', (('2001:db8::1', None),)),
        (
            '[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0],[v2:192.0.2.2:3300/0]',
            (('192.0.2.1', 3300), ('192.0.2.1', 6789), ('192.0.2.2', 3300)),
        ),
        (
            '[v2:[2001:db8::1]:3300/0,v1:[2001:db8::1]:6789/0]',
            (('2001:db8::1', 3300), ('2001:db8::1', 6789)),
        ),
        ('v2:mon1:3300', (('mon1', 3300),)),
        ('192.0.2.1,192.0.2.1', (('192.0.2.1', None),)),
        ('192.0.2.1:0', (('192.0.2.1', None),)),
    ],
)
def test_monitors(text, expected):
    assert ceph_conf.parse_monitors(text) == expected


@pytest.mark.parametrize(
    'text',
    [
        'fsid = abc\nmon_host = 192.0.2.1\n',
        '[global]\nfsid=abc\nmon host = 192.0.2.1\n',
        '[global]\n\tfsid = abc   # ours\n\tmon-host = "192.0.2.1" ; one\n',
        '[osd]\nfsid = other\nmon_host = 198.51.100.1\n[global]\nfsid = abc\nmon_host = 192.0.2.1',
        '[global]\nfsid = abc\nmon_host = \\\n 192.0.2.1\n[client]\nfsid = other\n',
        '# fsid = other\n[global]\nfsid = other\nfsid = abc\nmon_host = 192.0.2.1\nbroken\n',
    ],
)
def test_spellings(tmp_path, text):
    path = tmp_path / 'ceph.conf'
    path.write_text(text)
    assert ceph_conf.read(str(path)) == ceph_conf.CephConf('abc', (('192.0.2.1', None),))


def test_no_file(tmp_path):
    assert ceph_conf.read(str(tmp_path / 'ceph.conf')) == ceph_conf.CephConf()


def test_file_that_cannot_be_read_is_not_absent(tmp_path):
    with pytest.raises(OSError, match='directory'):
        ceph_conf.read(str(tmp_path))


class TestQemuModules:
    def test_module_is_there(self, tmp_path):
        (tmp_path / 'block-rbd.so').touch()
        assert qemu_modules.why_no_block_driver('rbd', (str(tmp_path),)) is None

    def test_module_is_missing(self, tmp_path):
        (tmp_path / 'accel-tcg-x86_64.so').touch()
        reason = qemu_modules.why_no_block_driver('rbd', (str(tmp_path),))
        assert 'block-rbd.so' in reason
        assert 'install the package qemu-block-extra' in reason

    def test_qemu_without_modules_cannot_be_judged(self, tmp_path):
        assert qemu_modules.why_no_block_driver('rbd', (str(tmp_path),)) is None
