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

"""What the lab's block targets work out: names, addresses, descriptions, records."""

import os
import pathlib
import struct
import uuid

import pytest

from tests.lab.storage import backend
from tests.lab.storage import daemons
from tests.lab.storage import fcoe
from tests.lab.storage import fibre_channel
from tests.lab.storage import iscsi
from tests.lab.storage import lio
from tests.lab.storage import lio_volume
from tests.lab.storage import loop
from tests.lab.storage import nvmet
from tests.lab.storage import service_connections
from tests.lab.storage.records import Records
from tests.lab.storage.records import smallest_free
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.device_identity import of_page_83

MIB = 1 << 20
SERIAL = '0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9'


@pytest.fixture
def kept(tmp_path: pathlib.Path) -> Records:
    return Records(tmp_path / 'volumes')


def iscsi_volume(kept: Records, **variant: object) -> iscsi.IscsiVolume:
    volume_id = str(uuid.uuid4())
    record = iscsi.make_record(**variant)  # type: ignore[arg-type]
    lio_volume.new_record(kept, volume_id, MIB, 0, **record)
    return iscsi.IscsiVolume(kept, volume_id)


def nvme_volume(kept: Records, transport: str = 'tcp', **variant: object) -> nvmet.NvmeVolume:
    volume_id = str(uuid.uuid4())
    record = nvmet.make_record(volume_id, **variant)  # type: ignore[arg-type]
    kept.save(volume_id, {'transport': transport, 'service': 4500, **record})
    return nvmet.NvmeVolume(kept, volume_id)


class TestNames:
    def test_naa_has_the_serials_first_25_digits(self) -> None:
        assert lio.naa(SERIAL) == '6001405' + '0a1b2c3d4e5f60718293a4b5c'

    def test_naa_of_a_short_serial_ends_in_zeros(self) -> None:
        assert lio.naa('volume-7') == '6001405' + 'e7' + '0' * 23

    def test_naa_is_what_the_package_reads_from_page_83(self, kept: Records) -> None:
        volume = iscsi_volume(kept)
        name = bytes.fromhex(lio.naa(volume.record['serial']))
        page = b'\x00\x83\x00\x14' + bytes([0x01, 0x03, 0, len(name)]) + name
        assert volume.identity() == f'wwn:{of_page_83(page)}'

    def test_port_names_follow_the_mac_address(self) -> None:
        assert fcoe.wwpn('52:54:00:fc:a0:01') == '2000525400fca001'
        assert fcoe.with_colons('2000525400fca001') == '20:00:52:54:00:fc:a0:01'

    def test_portal_of_ipv6_is_in_brackets(self) -> None:
        assert iscsi.portal('fd00::1', 3260) == '[fd00::1]:3260'
        assert iscsi.portal('10.10.1.1', 3260) == '10.10.1.1:3260'

    def test_a_fault_is_for_both_portals_unless_one_is_named(self) -> None:
        assert iscsi.chosen_portals({}) == [0, 1]
        assert iscsi.chosen_portals({'portal': 1}) == [1]
        assert iscsi.addresses_of([1]) == ['10.10.2.1', 'fd00:10:10:2::1']


class TestRecords:
    def test_what_was_saved_is_loaded(self, kept: Records) -> None:
        kept.save('b', {'lun': 3})
        kept.save('a', {'lun': 4})
        assert kept.names() == ['a', 'b']
        assert kept.all() == {'a': {'lun': 4}, 'b': {'lun': 3}}

    def test_only_root_may_read_one(self, kept: Records) -> None:
        kept.save('a', {'chap': ['user', 'password']})
        assert os.stat(kept.directory / 'a.json').st_mode & 0o777 == 0o600

    def test_what_is_forgotten_is_gone_and_may_be_forgotten_again(self, kept: Records) -> None:
        kept.save('a', {})
        kept.forget('a')
        kept.forget('a')
        with pytest.raises(KeyError):
            kept.load('a')

    def test_numbers_fill_gaps(self) -> None:
        assert smallest_free([1, 2, 4], 1) == 3
        assert smallest_free([], 7) == 7

    def test_each_volume_has_a_unit_of_its_own(self, kept: Records) -> None:
        units = [iscsi_volume(kept).record['unit'] for _ in range(3)]
        assert units == [1, 2, 3]


class TestIscsi:
    def test_one_portal(self, kept: Records) -> None:
        volume = iscsi_volume(kept)
        info = ConnectionInfo.parse(volume.connection_info())
        (way,) = info.data.targets
        assert str(way.portal) == '10.10.1.1:3260'
        assert (way.iqn, way.lun) == (volume.iqn, 0)
        assert (info.volume_id, info.data.auth, dict(info.unknown)) == (
            volume.volume_id,
            None,
            {},
        )

    def test_two_portals_with_chap(self, kept: Records) -> None:
        volume = iscsi_volume(kept, portals=2, chap=True)
        data = ConnectionInfo.parse(volume.connection_info()).data
        assert [way.portal.host for way in data.targets] == list(backend.NETWORKS)
        assert [data.auth.password.reveal()] == volume.secrets()

    def test_a_portal_that_is_not_named_has_to_be_discovered(self, kept: Records) -> None:
        volume = iscsi_volume(kept, portals=2, named=1, discovery_chap=True)
        told = volume.connection_info()['data']
        assert 'target_portals' not in told
        data = ConnectionInfo.parse(volume.connection_info()).data
        assert len(data.targets) == 1
        assert [data.discovery_auth.password.reveal()] == volume.secrets()

    def test_upper_case_is_the_same_portal(self, kept: Records) -> None:
        told = iscsi_volume(kept, ipv6=True, upper=True).connection_info()
        assert told['data']['target_portal'] == '[FD00:10:10:1::1]:3260'
        (way,) = ConnectionInfo.parse(told).data.targets
        assert way.portal.host == backend.NETWORKS6[0]

    def test_volumes_of_a_target_share_its_name(self, kept: Records) -> None:
        one, other = (iscsi_volume(kept, target='shared') for _ in range(2))
        assert one.iqn == other.iqn
        assert one.iqn != iscsi_volume(kept).iqn

    def test_qemu_knows_target_and_lun_only(self, kept: Records) -> None:
        volume = iscsi_volume(kept, client='qemu')
        assert volume.identity() == f'path:iscsi:{volume.iqn}/0'

    def test_session_in_few_words(self) -> None:
        info = (
            'InitiatorName: iqn.a\nLIO Session ID: 4\nSessionType: Normal\n'
            'Session State: TARG_SESS_STATE_LOGGED_IN\n'
            'CID: 0  Connection State: TARG_CONN_STATE_LOGGED_IN\n'
            '   Address 10.10.1.2 TCP  StatSN: 0x1\n'
        )
        assert '10.10.1.2' in iscsi.summary(info)
        assert 'TARG_SESS_STATE_LOGGED_IN' in iscsi.summary(info)


class TestFibreChannel:
    def test_one_lun_on_both_fabrics(self, kept: Records) -> None:
        volume_id = str(uuid.uuid4())
        record = fibre_channel.make_record(portals=2)
        lio_volume.new_record(kept, volume_id, MIB, None, **record)
        volume = fibre_channel.FibreChannelVolume(kept, volume_id)
        data = ConnectionInfo.parse(volume.connection_info()).data
        assert data.wwpns == ('2000525400fca001', '2000525400fcb001')
        assert data.luns == (1, 1)
        assert dict(data.initiator_target_map) == {
            '2000525400fca000': ('2000525400fca001',),
            '2000525400fcb000': ('2000525400fcb001',),
        }
        assert len(volume.groups()) == 2


class TestNvme:
    def test_new_form(self, kept: Records) -> None:
        volume = nvme_volume(kept, 'rdma', portals=2)
        (target,) = ConnectionInfo.parse(volume.connection_info()).data.targets
        assert [(way.portal.host, way.transport) for way in target.portals] == [
            ('10.10.1.1', 'rdma'),
            ('10.10.2.1', 'rdma'),
        ]
        assert target.vol_uuid == volume.volume_id
        assert volume.identity() == f'uuid:{volume.volume_id}'

    def test_old_form(self, kept: Records) -> None:
        told = nvme_volume(kept, form='old').connection_info()
        assert 'vol_uuid' not in told['data']
        (target,) = ConnectionInfo.parse(told).data.targets
        assert (target.ns_id, len(target.portals)) == (10, 1)

    def test_namespace_without_uuid(self, kept: Records) -> None:
        volume = nvme_volume(kept, known_by='nguid')
        (target,) = ConnectionInfo.parse(volume.connection_info()).data.targets
        assert target.vol_uuid is None
        assert volume.identity() == f'nguid:{target.nguid.replace("-", "")}'

    def test_connections_of_rdma_are_told_by_the_targets_port(self) -> None:
        said = (
            '[{"state":"LISTEN","src-addr":"10.10.1.1:4900","dst-addr":"0.0.0.0:0"},'
            '{"state":"CONNECT","src-addr":"10.10.1.1:4900","dst-addr":"10.10.1.2:33"},'
            '{"state":"CONNECT","src-addr":"10.10.1.2:33","dst-addr":"10.10.1.1:4900"}]'
        )
        assert service_connections.established(said, 4900) == [
            'RDMA connection from 10.10.1.2:33 to port 4900'
        ]
        assert service_connections.established('', 4900) == []

    def test_ends_of_sockets_are_written_as_people_do(self) -> None:
        assert service_connections.address('0201000A:1F90') == '10.0.1.2:8080'
        six = '100000FD010010000000000002000000:01BB'
        assert service_connections.address(six) == '[fd00:10:10:1::2]:443'


class TestHost:
    def test_a_commented_option_is_set_in_its_place(self) -> None:
        text = '# iscsid.startup = /bin/a\nother = 1\n'
        done = daemons.set_option(text, 'iscsid.startup', '/sbin/iscsid')
        assert done == 'iscsid.startup = /sbin/iscsid\nother = 1\n'

    def test_an_option_that_is_set_is_set_anew_beside_its_comment(self) -> None:
        text = 'a.b = 1\n# a.b = 2\n'
        assert daemons.set_option(text, 'a.b', '3') == 'a.b = 3\n# a.b = 2\n'

    def test_an_option_that_is_nowhere_is_added(self) -> None:
        assert daemons.set_option('x = 1', 'a.b', '3') == 'x = 1\na.b = 3\n'

    def test_loop_configuration_is_as_long_as_the_kernels(self) -> None:
        made = loop.configuration(5, pathlib.Path('/srv/lab/a.img'))
        assert len(made) == 304
        assert struct.unpack_from('=II', made) == (5, 512)
        assert made[64:].startswith(b'/srv/lab/a.img\0')
