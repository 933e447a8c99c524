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

"""What the documentation says of Cinder's volumes, typed."""

from collections.abc import Iterator
import json
import pathlib
import subprocess
import sys

import pytest

from tests.functional import test_documentation
from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.libvirtd import PrivateLibvirtd


@pytest.fixture
def web(hypervisor: Hypervisor, tmp_path: pathlib.Path) -> Iterator[CooperatingGuest]:
    """One that lets go of virtio-blk disks, which are the default."""
    with CooperatingGuest(hypervisor, tmp_path, 'web') as started:
        yield started


def test_samples_of_the_library(
    libvirtd: PrivateLibvirtd,
    web: CooperatingGuest,
    cinder: EmbeddedCinder,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / 'volumedrivers.conf'
    config.write_text(
        f'[volumedrivers]\nstate_path = {tmp_path / "state"}\nvirt_type = qemu\n'
        'iscsi_client = qemu\niscsi_initiator_name = iqn.2020-01.test:host\n'
    )
    clouds = tmp_path / 'clouds.json'
    cloud = {
        'auth_type': 'none',
        'block_storage_endpoint_override': cinder.url,
        'block_storage_api_version': '3',
    }
    clouds.write_text(json.dumps({'clouds': {'mycloud': cloud}}))
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(clouds))
    volume = make_volume(iscsi, name='data')
    event = {
        'name': 'volume-extended',
        'server_uuid': web.guest.uuid,
        'tag': volume.id,
    }
    whole, take = test_documentation.samples(cinder=True)
    code = f'{take}{whole}'
    for told, here in (
        ("'qemu:///system'", repr(libvirtd.uri)),
        ("'web1'", repr(web.name)),
        ("conf([], project='volumedrivers')", f"conf(['--config-file', {str(config)!r}])"),
        (
            "    volumes.detach('",
            f"    print(take(volumes, {event!r}).size, attached.target)\n    volumes.detach('",
        ),
    ):
        assert told in code
        code = code.replace(told, here)
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f'{20 * 2**30} vda\n', done.stdout + done.stderr
    assert web.guest.disks() == ()
    assert (volume.get().size, volume.status) == (20, 'available')
