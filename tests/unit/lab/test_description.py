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

"""The file that describes somebody's host: what it says, and what is wrong with it."""

import copy
import json
import pathlib
import shutil
import typing

import pytest
import yaml

from tests.lab.hosts import named_storage
from tests.lab.hosts.checked import DescriptionError
from tests.lab.hosts.described import DescribedHost
from tests.lab.hosts.description import Description
from tests.lab.hosts.description import read_description
from tests.lab.hosts.host import HostError
from tests.lab.hosts.named_storage import NamedStorage
from tests.lab.hosts.named_storage import VolumeHoldsData
from tests.lab.hosts.reach import Local
from tests.lab.hosts.reach import Ssh
from tests.lab.rpc.client import Session
from tests.lab.storage.backend import Unreachable

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / 'doc' / 'source' / 'examples'
MIB = 1 << 20
SECRET = 'hunter2hunter2'
VOLUME = '11111111-0000-4000-8000-000000000001'


def iscsi(volume_id: str = VOLUME) -> dict[str, typing.Any]:
    return {
        'driver_volume_type': 'iscsi',
        'data': {
            'target_portal': '192.0.2.1:3260',
            'target_iqn': 'iqn.2020-01.test:t',
            'target_lun': 1,
            'volume_id': volume_id,
            'auth_method': 'CHAP',
            'auth_username': 'user',
            'auth_password': {'from_secrets_file': 'array'},
        },
    }


class File:
    """A description to change and to read."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.content: dict[str, typing.Any] = {
            'secrets_file': 'secrets.yaml',
            'host': {'python': '/opt/python'},
            'rows': [
                {'name': 'array', 'volumes': [{'connection_info': iscsi(), 'size': '1 GiB'}]}
            ],
        }
        self.secrets({'array': SECRET})

    def secrets(self, content: object, mode: int = 0o600) -> None:
        path = self.directory / 'secrets.yaml'
        path.write_text(yaml.safe_dump(content))
        path.chmod(mode)

    @property
    def row(self) -> dict[str, typing.Any]:
        return typing.cast(dict[str, typing.Any], self.content['rows'][0])

    @property
    def volume(self) -> dict[str, typing.Any]:
        return typing.cast(dict[str, typing.Any], self.row['volumes'][0])

    def read(self) -> Description:
        path = self.directory / 'host.yaml'
        path.write_text(yaml.safe_dump(self.content))
        return read_description(path)

    def wrong(self) -> tuple[str, str]:
        """Return key and problem; there must be one, without a secret in it."""
        with pytest.raises(DescriptionError) as caught:
            self.read()
        assert SECRET not in str(caught.value)
        return caught.value.key, caught.value.problem


@pytest.fixture
def file(tmp_path: pathlib.Path) -> File:
    return File(tmp_path)


def test_what_need_not_be_said(file: File) -> None:
    found = file.read()
    assert found.machine.name == 'this machine'
    assert (found.machine.ssh, found.machine.destination) == ((), None)
    assert found.machine.uri == 'qemu:///system'
    assert found.machine.package == 'working tree'
    assert found.allowed == frozenset()
    (row,) = found.rows
    assert (row.name, row.protocol, row.backend) == ('array', 'iscsi', 'array')
    assert (row.paths, row.bus, row.encryption, row.stand_in) == (1, 'scsi', None, None)
    assert row.options['lock_path'] == '/var/lib/volumedrivers-lab/lock'
    (volume,) = found.storages['array'].volumes
    assert (volume.volume_id, volume.size) == (VOLUME, 1 << 30)
    assert not volume.may_be_overwritten
    assert volume.connection_info['data']['auth_password'] == SECRET
    assert found.secrets == (SECRET,)


def test_example(tmp_path: pathlib.Path) -> None:
    for name in ('lab-host.yaml', 'lab-secrets.yaml'):
        pathlib.Path(shutil.copy(EXAMPLES / name, tmp_path)).chmod(0o600)
    found = read_description(tmp_path / 'lab-host.yaml')
    assert len(found.rows) == 3
    assert found.storages[found.rows[-1].name].cinder is not None


def test_ssh(file: File) -> None:
    file.content['host'] |= {'ssh': 'root@array-test-3', 'become': ['sudo', '-n']}
    machine = file.read().machine
    assert machine.name == 'root@array-test-3'
    reach = Ssh(machine.ssh, 'root@array-test-3', machine.become)
    assert reach.command(['echo', 'a b', '$x']) == [
        'ssh',
        '-o',
        'BatchMode=yes',
        'root@array-test-3',
        "sudo -n echo 'a b' '$x'",
    ]


def test_secret_of_the_environment(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    file.volume['connection_info']['data']['auth_password'] = {'from_environment': 'ARRAY'}
    assert file.wrong() == (
        'rows[0].volumes[0].connection_info.data.auth_password',
        'ARRAY is not in the environment',
    )
    monkeypatch.setenv('ARRAY', SECRET)
    assert file.read().secrets == (SECRET,)


def test_connection_info_of_a_file(file: File) -> None:
    info = iscsi()
    info['data']['auth_password'] = SECRET
    (file.directory / 'info.json').write_text(json.dumps({'connection_info': info}))
    del file.volume['connection_info']
    file.volume['connection_info_file'] = 'info.json'
    found = file.read()
    assert found.secrets == (SECRET,)
    assert found.storages['array'].volumes[0].volume_id == VOLUME


def change(path: str, value: object) -> typing.Callable[[File], None]:
    """Return what puts a value into a description; None takes the key away."""

    def changed(file: File) -> None:
        *parts, last = path.split('.')
        place: typing.Any = file.content
        for part in parts:
            place = place[int(part) if part.isdigit() else part]
        if value is None:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)

    return changed


INFO = 'rows.0.volumes.0.connection_info'
AT_INFO = 'rows[0].volumes[0].connection_info'


@pytest.mark.parametrize(
    ('wrong', 'key', 'problem'),
    [
        (change('host', None), 'host', 'is missing'),
        (change('host', []), 'host', 'is a list, not a mapping'),
        (change('host.python', None), 'host.python', 'is missing; it has to be a text'),
        (change('host.python', 3), 'host.python', 'is 3, not a text'),
        (change('host.sshh', 'x'), 'host.sshh', 'is not known here'),
        (change('host.ssh', '-oProxyCommand=x'), 'host.ssh', 'is no destination'),
        (change('host.ssh_command', ['ssh']), 'host.ssh_command', 'of no use without ssh'),
        (
            change('host.package', 'new'),
            'host.package',
            "'new' is none of: working tree, installed",
        ),
        (change('host.guests', 'Windows'), 'host.guests', 'is none of'),
        (change('host.become', 'sudo'), 'host.become', 'has to be a list of texts'),
        (change('allowed', ['fire']), 'allowed', "'fire' is none of crash"),
        (change('allowed', ['power cut']), 'power_cut_command', "is needed if 'power cut'"),
        (change('power_cut_command', ['x']), 'power_cut_command', 'and only then'),
        (change('rows', None), 'rows', 'is nothing, not a list of mappings'),
        (change('rows', []), 'rows', 'not a list of mappings'),
        (change('rows.0.name', None), 'rows[0].name', 'is missing'),
        (change('rows.0.paths', True), 'rows[0].paths', 'is True, not a whole number'),
        (change('rows.0.protocol', 'nfs'), 'rows[0].protocol', 'of different ones'),
        (change('rows.0.bus', 'virtio'), 'rows[0].bus', 'lets go of scsi disks only'),
        (change('rows.0.missing', {'extend': 3}), 'rows[0].missing', 'reason of extend is no'),
        (change('rows.0.volumes', None), 'rows[0].volumes', 'or cinder, and not both'),
        (change('rows.0.cinder', {'cloud': 'x'}), 'rows[0].volumes', 'and not both'),
        (change('rows.0.volumes.0.size', None), 'rows[0].volumes[0].size', 'is nothing, not'),
        (change('rows.0.volumes.0.size', '1 GB'), 'rows[0].volumes[0].size', 'is a text, not'),
        (change('rows.0.volumes.0.size', 0), 'rows[0].volumes[0].size', 'is 0, not'),
        (
            change('rows.0.volumes.0.may_be_overwritten', 'yes'),
            'rows[0].volumes[0].may_be_overwritten',
            'not true or false',
        ),
        (change(INFO, None), AT_INFO, 'is needed, or connection_info_file'),
        (change('rows.0.volumes.0.connection_info_file', 'x'), AT_INFO, 'not both'),
        (change(f'{INFO}.driver_volume_type', None), AT_INFO, 'is none: '),
        (change(f'{INFO}.data.volume_id', None), AT_INFO, 'has no volume_id'),
        (
            change(f'{INFO}.data.auth_password', SECRET),
            f'{AT_INFO}.data.auth_password',
            'is a secret, which is not written here',
        ),
        (
            change(f'{INFO}.data.x', f'nfs://user:{SECRET}@host/'),
            f'{AT_INFO}.data.x',
            'is a secret',
        ),
        (
            change(f'{INFO}.data.auth_password', {'from_secrets_file': 'other'}),
            f'{AT_INFO}.data.auth_password',
            'other is not in ',
        ),
        (
            change('secrets_file', None),
            f'{AT_INFO}.data.auth_password',
            'there is no secrets_file',
        ),
        (
            change('rows.0.faults', [{'name': 'fire', 'break': ['x'], 'mend': ['x']}]),
            'rows[0].faults[0].name',
            'is none of',
        ),
        (
            change('rows.0.faults', [{'name': 'portal drops', 'break': ['x'], 'mend': ['x']}]),
            'rows[0].faults[0].name',
            'not in the list of what is allowed',
        ),
    ],
)
def test_wrong(file: File, wrong: typing.Callable[[File], None], key: str, problem: str) -> None:
    wrong(file)
    found_key, found_problem = file.wrong()
    assert found_key == key
    assert problem in found_problem


def test_fault_that_cannot_be_mended(file: File) -> None:
    file.content['allowed'] = ['portal drops']
    file.row['faults'] = [{'name': 'portal drops', 'break': ['x']}]
    assert file.wrong() == ('rows[0].faults[0].mend', 'is missing; it has to be a list of texts')


def test_two_rows_of_one_name(file: File) -> None:
    file.content['rows'].append(copy.deepcopy(file.row))
    assert file.wrong() == ('rows[1].name', "'array' is the name of two rows")


def test_file_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DescriptionError, match='cannot be read'):
        read_description(tmp_path / 'none.yaml')


@pytest.mark.parametrize('text', [f'a: [{SECRET}', f'password: "{SECRET}\n', '\0', '- a', ''])
def test_no_yaml(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / 'host.yaml'
    path.write_text(text)
    with pytest.raises(DescriptionError) as caught:
        read_description(path)
    assert SECRET not in str(caught.value)


def test_secrets_that_others_can_read(file: File) -> None:
    file.secrets({'array': SECRET}, 0o644)
    with pytest.raises(DescriptionError, match='others than its owner can read it'):
        file.read()


class Looked:
    """A bench that sees zeros, or not."""

    def __init__(self, empty: bool) -> None:
        self.empty = empty
        self.calls: list[str] = []

    def call(self, name: str, **arguments: object) -> object:
        self.calls.append(name)
        return {'reads': self.empty}.get(name)

    def end(self) -> None:
        self.calls.append('end')


def storage(file: File, bench: Looked) -> NamedStorage:
    return NamedStorage(file.read(), lambda row: typing.cast(Session, bench))


def make(named: NamedStorage, size: int = MIB) -> dict[str, typing.Any]:
    return named.call('make_volume', backend='array', size=size, variant={})  # type: ignore[no-any-return]


def test_volume_that_holds_data_is_refused(file: File) -> None:
    bench = Looked(empty=False)
    named = storage(file, bench)
    for _ in range(2):
        with pytest.raises(VolumeHoldsData, match='may_be_overwritten: true'):
            make(named)
    # It is let go of, and not looked at once more.
    assert bench.calls == ['attach', 'reads', 'detach', 'end']


def test_volume_that_may_be_overwritten_is_not_looked_at(file: File) -> None:
    file.volume['may_be_overwritten'] = True
    bench = Looked(empty=False)
    assert make(storage(file, bench))['volume_id'] == VOLUME
    assert bench.calls == []


def test_volumes_are_used_again_and_run_out(file: File) -> None:
    named = storage(file, Looked(empty=True))
    made = make(named)
    assert (made['size'], made['secrets']) == (1 << 30, [SECRET])
    with pytest.raises(Unreachable, match='one volume more of 1 MiB; the description names 1'):
        make(named)
    named.delete(made['volume_id'])
    with pytest.raises(Unreachable):
        make(named, 2 << 30)
    assert make(named)['volume_id'] == VOLUME


def test_what_nobody_can_tell(file: File) -> None:
    named = storage(file, Looked(empty=True))
    made = make(named)
    with pytest.raises(Unreachable, match='identity'):
        made['identity']
    for call, more in (
        ('read', {'offset': 0, 'length': 1}),
        ('write', {'offset': 0, 'data': b''}),
        ('grow', {'size': 2 << 30}),
        ('seen_by_target', {}),
        ('withdraw', {}),
        ('give_place_to', {'other': 'x'}),
    ):
        with pytest.raises(Unreachable):
            named.call(call, volume_id=VOLUME, **more)
    with pytest.raises(AttributeError):
        named.call('_volume', volume_id=VOLUME)


def test_commands_of_the_operator(file: File) -> None:
    log = file.directory / 'log'
    say = ['sh', '-c', f'echo "$@" >>{log}', 'say']
    file.content['allowed'] = ['portal drops']
    file.row.update(
        {
            'grow_command': [*say, 'grow', '{volume_id}', '{size}'],
            'seen_by_target_command': ['echo', 'login of {volume_id}'],
            'faults': [
                {'name': 'portal drops', 'break': [*say, 'drop {portal}'], 'mend': [*say, 'mend']}
            ],
        }
    )
    file.volume.update({'identity': 'wwn-0x1', 'image': str(file.directory / 'image')})
    (file.directory / 'image').write_bytes(b'0123456789')
    named = storage(file, Looked(empty=True))
    made = make(named)
    assert made['identity'] == 'wwn-0x1'
    named.grow(VOLUME, 2 << 30)
    assert named.seen_by_target(VOLUME) == [f'login of {VOLUME}']
    named.write(VOLUME, 2, b'xy')
    assert named.read(VOLUME, 1, 4) == b'1xy4'
    assert named.faults('array') == ['portal drops']
    named.break_('array', 'portal drops', {'portal': 1})
    named.close()
    named.close()
    assert log.read_text().splitlines() == [f'grow {VOLUME} {2 << 30}', 'drop 1', 'mend']
    assert named.find_volume('array', VOLUME)['size'] == 2 << 30


def test_command_that_fails(file: File) -> None:
    file.row['grow_command'] = ['sh', '-c', 'echo no space >&2; exit 3']
    named = storage(file, Looked(empty=True))
    make(named)
    with pytest.raises(named_storage.CommandFailed, match='ended with 3: no space'):
        named.grow(VOLUME, 2 << 30)


@pytest.mark.parametrize('size', [1, MIB, 256 * MIB, 256 * MIB + 512, 1 << 40])
def test_places(size: int) -> None:
    found = named_storage.places(size)
    assert found[0][0] == 0
    assert sum(found[-1]) == size
    assert all(length > 0 and offset + length <= size for offset, length in found)
    assert len(found) <= named_storage.PLACES + 2
    if size <= named_storage.SMALL:
        assert sum(length for _, length in found) == size


def test_what_is_allowed(file: File) -> None:
    file.content['allowed'] = ['crash']
    host = DescribedHost(file.read())
    assert host.can('crash') is None
    assert host.can('restore') == 'host.yaml does not allow: restore'
    with pytest.raises(HostError, match='does not allow: power cut'):
        host.power_cut()
    assert [row.name for row in host.rows()] == ['array']


def test_commands_here() -> None:
    local = Local()
    assert local.run(['cat'], b'data') == b'data'
    with pytest.raises(
        HostError, match=r"this machine: sh -c 'echo no >&2; exit 4' ended with 4: no"
    ):
        local.run(['sh', '-c', 'echo no >&2; exit 4'])
    with pytest.raises(HostError, match='/nonexistent'):
        local.start(['/nonexistent'])
    with pytest.raises(HostError, match='/nonexistent'):
        local.run(['/nonexistent'])
