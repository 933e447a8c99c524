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

"""What the drivers of one nova-compute share, made of Nova's configuration."""

import json
import pathlib
import subprocess
import sys

import pytest

from volumedrivers.nova import services

SCRIPT = """
import json, sys
from nova import config
config.parse_args(
    ['nova-compute', '--config-file', sys.argv[1]], configure_db=False, init_rpc=False
)
from nova import exception
from nova.virt.libvirt import driver as libvirt_driver
from oslo_utils import importutils
from volumedrivers.nova import registration, services
registration.register()
made = []
for name in ('nfs', 'rbd', 'nfs'):
    try:
        made.append(importutils.import_class(libvirt_driver.VOLUME_DRIVERS[name])(None))
    except exception.VolumeDriverNotSupported as error:
        print(json.dumps({'refused': str(error)}))
        raise SystemExit
found = made[0]._services
context = found.manager.context
shares = context.registry.context.shares
print(json.dumps({
    'one for all': all(each._services is found for each in made),
    'manager': found.manager.manager,
    'journal': context.journal.path,
    'host': context.host,
    'uri': context.hypervisor.uri,
    'loop': context.hypervisor._own_event_loop,
    'takes over': shares._takes_over,
    'base': found.conf.volumedrivers.nfs_mount_point_base,
}))
"""


def run(tmp_path: pathlib.Path, text: str) -> dict[str, object]:
    """Run it in a process of its own, whose settings it changes."""
    file = tmp_path / 'nova.conf'
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', SCRIPT, str(file)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_all_of_it_is_novas(tmp_path: pathlib.Path) -> None:
    found = run(
        tmp_path,
        f'[DEFAULT]\nstate_path = {tmp_path}/nova\nhost = compute-7\n'
        f'[oslo_concurrency]\nlock_path = {tmp_path}/locks\n'
        '[libvirt]\nconnection_uri = qemu+unix:///system?socket=/nowhere\n',
    )
    assert found == {
        'one for all': True,
        'manager': 'nova',
        'journal': f'{tmp_path}/nova/volumedrivers/attachments.sqlite',
        'host': 'compute-7',
        'uri': 'qemu+unix:///system?socket=/nowhere',
        'loop': False,
        'takes over': True,
        'base': f'{tmp_path}/nova/mnt',
    }
    # libvirt was not asked, and nothing was written but the directory of the locks.
    assert sorted(path.name for path in tmp_path.iterdir()) == ['locks', 'nova.conf']


def test_host_that_is_not_fit_has_no_drivers(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'locks').write_text('a file')
    found = run(
        tmp_path,
        f'[DEFAULT]\nstate_path = {tmp_path}\n[oslo_concurrency]\nlock_path = {tmp_path}/locks\n',
    )
    assert 'lock_path' in str(found['refused'])


def test_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(services, 'make', make)
    services.use(None)
    first: object = services.get()
    assert first is services.get()
    assert made == [first]
    services.use(None)
    assert services.get() is not first
    services.use(None)
