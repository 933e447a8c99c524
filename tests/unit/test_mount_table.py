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

from volumedrivers.host import mount_table

TABLE = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:39 / /mnt/with\040blank\011and\134slash rw - nfs4 server:/a\040b rw,vers=4.2
32 31 0:40 /sub /mnt/with\040blank\011and\134slash rw shared:7 master:8 - fuse.glusterfs h:/v rw
33 22 0:41 / /mnt/\303\244 rw - tmpfs none rw
34 22 0:42 / /mnt/bytes\377 rw - tmpfs - rw
"""


def test_read(tmp_path):
    (tmp_path / 'mountinfo').write_bytes(TABLE)
    root, nfs, gluster, umlaut, raw = mount_table.read(str(tmp_path / 'mountinfo'))
    assert root == mount_table.Mount(22, '/', '/', 'ext4', '/dev/vda', '254:0')
    assert nfs == mount_table.Mount(
        31, '/', '/mnt/with blank\tand\\slash', 'nfs4', 'server:/a b', '0:39'
    )
    assert (gluster.root, gluster.fstype, gluster.source) == ('/sub', 'fuse.glusterfs', 'h:/v')
    assert umlaut.mount_point == '/mnt/ä'
    assert raw.mount_point == '/mnt/bytes\udcff'
    assert raw.source == '-'


def test_find_takes_the_topmost(tmp_path, monkeypatch):
    (tmp_path / 'mountinfo').write_bytes(TABLE)
    table = mount_table.read(str(tmp_path / 'mountinfo'))
    monkeypatch.setattr(mount_table, 'read', lambda: table)
    assert mount_table.find('/mnt/with blank\tand\\slash').mount_id == 32
    assert mount_table.find('/mnt/ä/').mount_id == 33
    assert mount_table.find('/mnt') is None


def test_holding(tmp_path, monkeypatch):
    (tmp_path / 'mountinfo').write_bytes(TABLE)
    table = mount_table.read(str(tmp_path / 'mountinfo'))
    monkeypatch.setattr(mount_table, 'read', lambda: table)
    assert mount_table.holding('/mnt/ä/file').mount_id == 33
    assert mount_table.holding('/mnt/äh').mount_id == 22
    assert mount_table.holding('/mnt/with blank\tand\\slash').mount_id == 32


def test_the_kernels_own():
    assert mount_table.find('/proc').fstype == 'proc'
    assert mount_table.holding('/proc/self/mountinfo').mount_point == '/proc'
