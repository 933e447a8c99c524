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

"""The targets that the tests use, where another program is in the way."""

import pathlib
import socket

import pytest

from volumedrivers.testing import server
from volumedrivers.testing.tgt import IscsiTarget


def test_port_that_another_program_takes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for a free one and its use; tgtd would go on without listening."""
    free_port = server.free_port
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = [taken]
        monkeypatch.setattr(server, 'free_port', lambda: ports.pop() if ports else free_port())
        with IscsiTarget(tmp_path) as target:
            assert target.port != taken
            assert target.sessions() == 0
            assert server.listens(target.port)
