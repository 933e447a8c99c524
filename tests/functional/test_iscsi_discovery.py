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

"""A real iSCSI target tells of its targets and portals."""

import pathlib
import socket
import threading

import pytest

from volumedrivers import exception
from volumedrivers.host import iscsi_discovery
from volumedrivers.protocol_data import Portal
from volumedrivers.testing.tgt import IscsiTarget

ME = 'iqn.2020-01.org.volumedrivers:test'


@pytest.mark.parametrize('chap', [None, ('user', 'long-password')])
def test_target_tells_of_itself(tmp_path: pathlib.Path, chap: tuple[str, str] | None) -> None:
    with IscsiTarget(tmp_path, chap=chap) as target:
        portal = Portal('127.0.0.1', target.port)

        found = iscsi_discovery.discover(portal, initiator_name=ME, seconds=10)

        assert found == (iscsi_discovery.Found(portal, target.iqn),)
        assert target.sessions() == 0


def test_many_targets_are_all_told_of(tmp_path: pathlib.Path) -> None:
    with IscsiTarget(tmp_path) as target:
        iqns = [target.iqn]
        for number in range(2, 202):
            iqns.append(f'{target.iqn}-with-a-rather-long-name-{number}')
            target._adm(
                'target', 'new', '--tid', str(number), '--targetname', iqns[-1], target=False
            )
            target._adm('target', 'bind', '--tid', str(number), '-I', 'ALL', target=False)

        found = iscsi_discovery.discover(
            Portal('127.0.0.1', target.port), initiator_name=ME, seconds=10
        )

        assert sorted(way.iqn for way in found) == sorted(iqns)


def test_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        portal = Portal('127.0.0.1', free.getsockname()[1])
        with pytest.raises(exception.EndpointUnreachable, match='refused'):
            iscsi_discovery.discover(portal, initiator_name=ME, seconds=5)


@pytest.mark.parametrize(
    ('says', 'reason'),
    [(None, 'no answer within 0.3 s'), (b'', 'closed'), (b'x' * 48, 'not as an iSCSI target')],
)
def test_something_else_is_there(says: bytes | None, reason: str) -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        portal = Portal('127.0.0.1', server.getsockname()[1])
        if says is not None:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(says)

            threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(exception.EndpointUnreachable, match=reason):
            iscsi_discovery.discover(portal, initiator_name=ME, seconds=0.3)
