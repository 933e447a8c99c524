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

"""The lab's matrix on a host and volumes that a file describes: this machine, by pipe and ssh."""

from collections.abc import Iterator
import json
import os
import pathlib
import stat
import subprocess
import sys
import typing

from lxml import html
import pytest
import yaml

from tests.functional import gluster_host
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.tgt import IscsiTarget

# Up to two runs of pytest, which import all of os-brick over there.
pytestmark = pytest.mark.timeout(450)

server = gluster_host.server
mounts = gluster_host.mounts
libvirtd = gluster_host.libvirtd

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MIB = 2**20
SIZE = 64 * MIB
PASSWORD = 'a-password-14'
SHARED = '11111111-0000-4000-8000-000000000001'
FULL = '11111111-0000-4000-8000-000000000002'

# What tgtadm has to be told, as an operator would script it for an array.
GROW = """\
#!/bin/sh -e
truncate -s "$2" {image}
export TGT_IPC_SOCKET={socket}
update="tgtadm -C 1 --lld iscsi --mode logicalunit --op update --tid 1 --lun 1 --params"
$update online=0
$update path={image}
$update online=1
"""
SEEN = """\
#!/bin/sh
TGT_IPC_SOCKET={socket} tgtadm -C 1 --lld iscsi --mode target --op show | grep 'I_T nexus: ' || :
"""
# An ssh that goes to nowhere else: it gives the command to a shell, as sshd does.
SSH = """\
#!/bin/sh
test "$1" = here || exit 255
exec sh -c "$2"
"""


def script(path: pathlib.Path, text: str) -> str:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def target(tmp_path: pathlib.Path) -> Iterator[IscsiTarget]:
    with IscsiTarget(tmp_path / 'target', size=SIZE, chap=('user', PASSWORD)) as started:
        yield started


@pytest.fixture
def description(
    tmp_path: pathlib.Path,
    mounts: pathlib.Path,
    libvirtd: PrivateLibvirtd,
    target: IscsiTarget,
) -> dict[str, typing.Any]:
    """Everything an operator would write for one iSCSI volume."""
    info = target.connection_info()
    info['data']['auth_password'] = {'from_secrets_file': 'array'}
    secrets = tmp_path / 'secrets.yaml'
    secrets.write_text(yaml.safe_dump({'array': PASSWORD}))
    secrets.chmod(0o600)
    names = {'image': target.image, 'socket': target.directory / 'tgt'}
    return {
        'secrets_file': 'secrets.yaml',
        'allowed': ['crash'],
        'host': {
            'name': 'the machine of this test',
            'python': sys.executable,
            'package': 'installed',
            'libvirt': libvirtd.uri,
            'guest_logs': str(libvirtd.directory / 'log' / 'qemu'),
            'state_path': str(mounts),
            'options': {'iscsi_initiator_name': 'iqn.2020-01.test:host'},
        },
        'rows': [
            {
                'name': 'array-iscsi',
                'options': {'iscsi_client': 'qemu'},
                'missing': {'connector_properties': 'QEMU is the initiator'},
                'grow_command': [script(tmp_path / 'grow', GROW.format(**names)), 'x', '{size}'],
                'seen_by_target_command': [script(tmp_path / 'seen', SEEN.format(**names))],
                'volumes': [
                    {'connection_info': info, 'size': '64 MiB', 'image': str(target.image)}
                ],
            }
        ],
    }


def share_row(server: GlusterServer) -> dict[str, typing.Any]:
    """Two files on a share: one is empty, and one is somebody's."""
    volumes = []
    for volume_id, content in ((FULL, b'somebody'), (SHARED, b'')):
        image = server.brick / f'volume-{volume_id}'
        with image.open('wb') as file:
            file.truncate(SIZE)
            file.seek(5 * MIB)
            file.write(content)
        volumes.append(
            {
                'size': SIZE,
                'connection_info': {
                    'driver_volume_type': 'glusterfs',
                    'data': {'export': server.export, 'name': image.name, 'format': 'raw'},
                    'serial': volume_id,
                },
            }
        )
    return {'name': 'share', 'volumes': volumes}


def run_lab(
    tmp_path: pathlib.Path, description: dict[str, typing.Any], *arguments: str
) -> tuple[subprocess.CompletedProcess[str], dict[tuple[str, str], dict[str, typing.Any]]]:
    """Run tests of the lab; return what they said, and the cells of the matrix."""
    path = tmp_path / 'host.yaml'
    path.write_text(yaml.safe_dump(description))
    report = tmp_path / 'report'
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider'),
            *('--basetemp', str(tmp_path / 'base'), '--lab-report', str(report)),
            *('--junitxml', str(report / 'junit.xml'), *arguments),
        ],
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, 'VOLUMEDRIVERS_LAB_HOST': str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    for file in report.rglob('*'):
        if file.is_file():
            assert PASSWORD not in file.read_text(errors='replace'), file
    assert PASSWORD not in done.stdout
    assert (report / 'matrix.json').exists(), done.stdout
    matrix = json.loads((report / 'matrix.json').read_text())
    return done, {(cell['row'], cell['column']): cell for cell in matrix['cells']}


def test_life_of_a_named_volume(
    tmp_path: pathlib.Path, description: dict[str, typing.Any]
) -> None:
    done, cells = run_lab(
        tmp_path, description, 'tests/lab/test_life.py', 'tests/lab/test_crash.py'
    )
    print(done.stdout)
    outcomes = {column: cell['outcome'] for (_, column), cell in cells.items()}
    assert outcomes.pop('connector_properties') == 'does not apply'
    assert outcomes.pop('identity') == 'does not apply'
    assert cells['array-iscsi', 'connector_properties']['reason'] == 'QEMU is the initiator'
    assert 'does not say the identity' in cells['array-iscsi', 'identity']['reason']
    assert set(outcomes.values()) == {'passed'}
    assert {'attach', 'guest_writes', 'extend', 'detach', 'crash_after_attach'} <= set(outcomes)
    assert done.returncode == 0
    # The last line is pytest's own.
    assert ' passed' in done.stdout.splitlines()[-1]
    page = html.parse(str(tmp_path / 'report' / 'matrix.html'))
    assert 'the machine of this test' in page.getroot().text_content()


def test_by_ssh_and_what_may_not_be_done(
    tmp_path: pathlib.Path, description: dict[str, typing.Any], server: GlusterServer
) -> None:
    """Another machine, a volume that is somebody's, and an operator who allows nothing."""
    description['allowed'] = []
    description['host']['ssh'] = 'here'
    description['host']['ssh_command'] = [script(tmp_path / 'ssh', SSH)]
    description['rows'] = [share_row(server)]
    before = (server.brick / f'volume-{FULL}').read_bytes()
    chosen = ('tests/lab', '-k', 'detach or crash_after_attach or two_guests')

    done, cells = run_lab(tmp_path, description, *chosen)
    print(done.stdout)
    assert cells['share', 'detach']['outcome'] == 'error'
    reason = cells['share', 'detach']['reason'].splitlines()[0]
    assert f'volume {FULL} holds data in the {8 * MIB} bytes from 0' in reason
    assert (server.brick / f'volume-{FULL}').read_bytes() == before
    assert done.returncode == 1

    description['rows'][0]['volumes'][0]['may_be_overwritten'] = True
    done, cells = run_lab(tmp_path, description, *chosen)
    print(done.stdout)
    crash = cells['share', 'crash_after_attach']
    assert crash['outcome'] == 'does not apply'
    assert crash['reason'] == 'host.yaml does not allow: crash'
    for column in ('detach', 'two_guests'):
        assert cells['share', column]['outcome'] == 'passed in part', cells['share', column]
        assert 'no command for: seen by target' in cells['share', column]['reason']
    assert cells['share', 'detach_again']['outcome'] == 'passed'
    assert done.returncode == 0


def test_in_a_process_of_xdist(
    tmp_path: pathlib.Path, description: dict[str, typing.Any], server: GlusterServer
) -> None:
    """What xdist's workers report becomes the matrix; what is said wrongly is no run at all."""
    share = share_row(server)
    share['volumes'][0]['may_be_overwritten'] = True
    description['rows'].append(share)
    done, cells = run_lab(
        tmp_path,
        description,
        'tests/lab',
        '-k',
        'test_attach or read_only',
        '-n',
        '1',
        '--dist',
        'loadgroup',
    )
    print(done.stdout)
    assert {row for row, _ in cells} == {'array-iscsi', 'share'}
    assert cells['share', 'attach']['outcome'] == 'passed'
    assert cells['array-iscsi', 'read_only']['outcome'] == 'passed'
    assert cells['share', 'read_only']['outcome'] == 'does not apply'
    assert 'share  attach  passed' in done.stdout
    assert done.returncode == 0

    refused = usage_error('--host', str(tmp_path / 'host.yaml'), '--machines', '2')
    assert '--machines is for virtual machines, and not with --host' in refused
    del description['rows'][0]['name']
    (tmp_path / 'host.yaml').write_text(yaml.safe_dump(description))
    assert 'host.yaml: rows[0].name: is missing' in usage_error(
        '--host', str(tmp_path / 'host.yaml')
    )


def usage_error(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', 'tests/lab', '-p', 'no:cacheprovider', *arguments],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    return done.stderr
