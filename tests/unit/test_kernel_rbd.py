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

"""RBD mapped by the kernel, on a sysfs and a /dev made of files."""

import dataclasses
import itertools
import os
import shutil
import tempfile
import types

import pytest

from tests import rng
from tests.unit import network_fakes
from volumedrivers import exception
from volumedrivers.attachment import audit_host
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import former_processes
from volumedrivers.host import rbd_conf
from volumedrivers.host import rbd_device
from volumedrivers.libvirt import kernel_rbd
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.drivers.rbd import RbdVolumeDriver
from volumedrivers.privsep import context as privsep_context

FSID = '7fd9ba85-3a9c-4e33-9d09-b7a9cb0d9a0c'
OTHER = '11111111-3a9c-4e33-9d09-b7a9cb0d9a0c'


class Kernel:
    """/sys/bus/rbd/devices and /dev/rbd as the kernel and udev make them."""

    def __init__(self, directory):
        self.sysfs = directory / 'sys'
        self.dev = directory / 'dev'
        self.sysfs.mkdir()
        self.calls = []
        self.next_number = itertools.count()
        self.cluster = FSID  # that os-brick will map from
        self.udev = True
        self.busy = set()
        self.stuck = False

    def map(
        self, pool='volumes', image='volume-1', *, namespace='', fsid=FSID, snap='-', size=2**30
    ):
        number = next(self.next_number)
        directory = self.sysfs / str(number)
        directory.mkdir()
        for name, value in (
            ('pool', pool),
            ('pool_ns', namespace),
            ('name', image),
            ('current_snap', snap),
            ('cluster_fsid', fsid),
            ('size', size),
        ):
            (directory / name).write_text(f'{value}\n')
        if self.udev and snap == '-':
            link = self.dev / 'rbd' / pool / image
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(self.dev / f'rbd{number}')
        return number

    def unmap(self, number, *, force=False):
        self.calls.append(('unmap', number, force))
        if number in self.busy and not force:
            raise exception.Busy(what=f'/dev/rbd{number}', reason='it is open')
        if not self.stuck:
            shutil.rmtree(self.sysfs / str(number), ignore_errors=True)

    def numbers(self):
        return sorted(int(path.name) for path in self.sysfs.iterdir())


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    made = Kernel(tmp_path)

    class Brick:
        """As os-brick does: what has the image's link is taken for the image."""

        def __init__(self, protocol, conf, **options):
            made.calls.append(('factory', protocol, options))

        def connect(self, driver_volume_type, volume_id, properties):
            made.calls.append(('connect', properties['name']))
            made.properties = properties
            pool, image = properties['name'].split('/')
            if not (made.dev / 'rbd' / pool / image).is_symlink():
                made.map(pool, image, fsid=made.cluster)
            return {'type': 'block', 'path': f'/dev/rbd/{pool}/{image}'}

    monkeypatch.setattr(kernel_rbd, 'Brick', Brick)
    monkeypatch.setattr(kernel_rbd.privileged, 'unmap', made.unmap)
    monkeypatch.setattr(kernel_rbd, 'SETTLE_TIME', 0.0)
    monkeypatch.setattr(kernel_rbd, 'BUSY_TIME', 0.0)
    return made


@pytest.fixture
def conf_file(tmp_path):
    path = tmp_path / 'ceph.conf'
    path.write_text(f'[global]\nfsid = {FSID}\nmon_host = 192.0.2.1\n')
    return path


@pytest.fixture
def driver(kernel, conf_file):
    context = network_fakes.make_context(rbd_client='kernel', rbd_ceph_conf=str(conf_file))
    return kernel_rbd.KernelRbd(context, sysfs=kernel.sysfs, dev=kernel.dev)


@pytest.fixture
def info():
    return network_fakes.rbd()


def unmapped(kernel):
    return [call for call in kernel.calls if call[0] == 'unmap']


def test_map_and_unmap(driver, kernel, info):
    volume = driver.connect_volume(info, 'a')
    assert ('factory', 'RBD', {'do_local_attach': True}) in kernel.calls
    assert volume.source_type == 'block'
    assert volume.path == str(kernel.dev / 'rbd/volumes/volume-1')
    assert str(volume.identity) == f'rbd:{FSID}/volumes/volume-1'
    assert volume.device_info['type'] == 'block'
    assert volume.paths.asked == 2

    disk = driver.get_disk(info, volume, DiskInfo('virtio', 'vdb'))
    rng.validate_disk(disk.to_xml())
    element = disk.build()
    assert element.get('type') == 'block'
    assert element.find('source').get('dev') == volume.path
    assert element.find('driver').get('io') == 'native'

    driver.disconnect_volume(info, 'a', volume=volume)
    assert kernel.numbers() == []
    driver.disconnect_volume(info, 'a', volume=volume)
    assert len(unmapped(kernel)) == 1


@pytest.mark.parametrize(
    ('data', 'hosts', 'ports'),
    [
        ({}, ['192.0.2.1', '192.0.2.2'], ['6789', '6789']),
        ({'hosts': ['::1'], 'ports': [7000]}, ['::1'], ['7000']),
        ({'hosts': ['mon1'], 'ports': [None]}, ['mon1'], ['6789']),
        ({'hosts': [], 'ports': []}, ['192.0.2.1'], ['6789']),
    ],
)
def test_monitors_that_os_brick_is_told(driver, kernel, data, hosts, ports):
    driver.connect_volume(network_fakes.rbd(**data), 'a')
    assert (kernel.properties['hosts'], kernel.properties['ports']) == (hosts, ports)
    assert kernel.properties['auth_username'] == 'cinder'


def test_user_of_this_host(driver, kernel):
    driver.context.conf.set_override('rbd_user', 'host-user', 'volumedrivers')
    driver.connect_volume(network_fakes.rbd(auth_enabled=False, auth_username=None), 'a')
    assert kernel.properties['auth_username'] == 'host-user'


def test_connected_twice_is_mapped_once(driver, kernel, info):
    first = driver.connect_volume(info, 'a')
    second = driver.connect_volume(info, 'a')
    assert first.identity == second.identity
    assert kernel.numbers() == [0]


def test_os_brick_makes_no_link_that_nobody_would_remove(driver, kernel):
    driver.connect_volume(network_fakes.rbd(encrypted=True), 'a')
    assert not kernel.properties.get('encrypted')


def test_silent_monitors_map_nothing(driver, kernel, info):
    driver.context.endpoints.dead = {'192.0.2.1:6789': 'x', '192.0.2.2:6789': 'x'}
    with pytest.raises(exception.EndpointUnreachable):
        driver.connect_volume(info, 'a')
    assert kernel.calls == []


def test_namespace_is_refused(driver, kernel):
    with pytest.raises(exception.VolumeDriverNotSupported, match='rbd_client = librbd'):
        driver.connect_volume(network_fakes.rbd(name='volumes/ns/volume-1'), 'a')
    assert kernel.calls == []


def test_same_name_of_another_cluster_is_not_taken_for_it(driver, kernel, info):
    """os-brick would find the link and use what it leads to."""
    stranger = kernel.map(fsid=OTHER)
    with pytest.raises(exception.IdentityMismatch, match=OTHER):
        driver.connect_volume(info, 'a')
    assert kernel.numbers() == [stranger]
    assert kernel.calls == []


def test_what_is_mapped_cannot_be_told_without_the_fsid(driver, kernel, info, conf_file):
    conf_file.unlink()
    kernel.map()
    with pytest.raises(exception.IdentityMismatch):
        driver.connect_volume(info, 'a')
    assert kernel.numbers() == [0]


def test_cluster_that_was_mapped_is_the_wrong_one(driver, kernel, info):
    kernel.cluster = OTHER
    with pytest.raises(exception.IdentityMismatch, match=OTHER):
        driver.connect_volume(info, 'a')
    assert kernel.numbers() == []


def test_no_link_by_udev(driver, kernel, info):
    kernel.udev = False
    with pytest.raises(exception.UnstableDevicePath):
        driver.connect_volume(info, 'a')
    assert kernel.numbers() == []


def test_first_error_is_told_when_undoing_fails_too(driver, kernel, info, caplog):
    kernel.udev = False
    kernel.stuck = True
    with pytest.raises(exception.UnstableDevicePath):
        driver.connect_volume(info, 'a')
    assert 'stays mapped' in caplog.text
    assert '/dev/rbd0' in caplog.text


def test_fsid_is_learnt_from_the_kernel(driver, kernel, info, conf_file):
    conf_file.unlink()
    volume = driver.connect_volume(info, 'a')
    assert str(volume.identity) == f'rbd:{FSID}/volumes/volume-1'
    driver.disconnect_volume(info, 'a', volume=volume)
    assert kernel.numbers() == []


class TestOnlyTheRightOneIsUnmapped:
    def neighbours(self, kernel):
        return {
            kernel.map(pool='backups'),
            kernel.map(namespace='ns'),
            kernel.map(fsid=OTHER),
            kernel.map(snap='before'),
            kernel.map(image='volume-10'),
        }

    def test_with_the_recorded_identity(self, driver, kernel, info):
        volume = driver.connect_volume(info, 'a')
        others = self.neighbours(kernel)
        driver.disconnect_volume(info, 'a', volume=volume)
        assert set(kernel.numbers()) == others
        assert unmapped(kernel) == [('unmap', 0, False)]

    def test_with_the_fsid_of_ceph_conf(self, driver, kernel, info):
        driver.connect_volume(info, 'a')
        others = self.neighbours(kernel)
        driver.disconnect_volume(info, 'a')
        assert set(kernel.numbers()) == others

    def test_nothing_says_which(self, driver, kernel, info, conf_file):
        conf_file.unlink()
        both = [kernel.map(), kernel.map(fsid=OTHER)]
        with pytest.raises(exception.IdentityMismatch, match='/dev/rbd0 and /dev/rbd1'):
            driver.disconnect_volume(info, 'a')
        assert kernel.numbers() == both

    def test_there_is_only_one(self, driver, kernel, info, conf_file):
        conf_file.unlink()
        kernel.map()
        kernel.map(pool='backups')
        driver.disconnect_volume(info, 'a')
        assert kernel.numbers() == [1]


def test_busy_device_stays_unless_forced(driver, kernel, info):
    volume = driver.connect_volume(info, 'a')
    kernel.busy = {0}
    with pytest.raises(exception.Busy):
        driver.disconnect_volume(info, 'a', volume=volume)
    assert kernel.numbers() == [0]
    driver.disconnect_volume(info, 'a', volume=volume, force=True)
    assert kernel.numbers() == []
    assert unmapped(kernel)[-1] == ('unmap', 0, True)


def test_device_that_udev_looks_at_is_unmapped_when_it_is_done(driver, kernel, info, monkeypatch):
    volume = driver.connect_volume(info, 'a')
    kernel.busy = {0}
    monkeypatch.setattr(kernel_rbd, 'BUSY_TIME', 60.0)
    monkeypatch.setattr(kernel_rbd.time, 'sleep', lambda seconds: kernel.busy.clear())

    driver.disconnect_volume(info, 'a', volume=volume)

    assert kernel.numbers() == []
    assert unmapped(kernel) == [('unmap', 0, False)] * 2


def test_device_that_does_not_go(driver, kernel, info):
    volume = driver.connect_volume(info, 'a')
    kernel.stuck = True
    with pytest.raises(exception.LeftoversFound, match='/dev/rbd0'):
        driver.disconnect_volume(info, 'a', volume=volume)


class TestExtend:
    def test_kernel_sees_it(self, driver, kernel, info):
        volume = driver.connect_volume(info, 'a')
        (kernel.sysfs / '0/size').write_text(f'{2**31}\n')
        assert driver.extend_volume(info, 'a', 2**31, volume=volume) == 2**31

    def test_kernel_does_not_see_it(self, driver, info):
        volume = driver.connect_volume(info, 'a')
        with pytest.raises(exception.ExtendVolumeFailed, match='/dev/rbd0 still has 1073741824'):
            driver.extend_volume(info, 'a', 2**31, volume=volume)

    def test_silent_monitors(self, driver, info):
        volume = driver.connect_volume(info, 'a')
        probe = driver.context.endpoints
        asked = probe.asked[-1][1]
        probe.dead = dict.fromkeys(asked, 'no answer')
        with pytest.raises(exception.EndpointUnreachable):
            driver.extend_volume(info, 'a', 2**31, volume=volume)

    def test_not_mapped(self, driver, info):
        with pytest.raises(exception.ExtendVolumeFailed, match='not mapped'):
            driver.extend_volume(info, 'a', 2**31)


@pytest.fixture
def keyed(kernel, conf_file, tmp_path, monkeypatch):
    """A connection whose info holds the keyring, and os-brick's way with it."""
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
    # In this process, without a helper.
    monkeypatch.setattr(privsep_context.sys_admin, 'client_mode', False)
    monkeypatch.setattr(rbd_conf, 'STARTS', 0.0)
    monkeypatch.setattr('os_brick.privileged.rbd.delete_if_exists', os.unlink)
    context = network_fakes.make_context(
        rbd_client='kernel', rbd_ceph_conf=str(conf_file), state_path=str(tmp_path / 'state')
    )
    made = types.SimpleNamespace(
        driver=kernel_rbd.KernelRbd(context, sysfs=kernel.sysfs, dev=kernel.dev),
        info=network_fakes.rbd(keyring=KEYRING),
        temporary=temporary,
        fails=None,
    )
    connect = kernel_rbd.Brick.connect

    def with_key(self, driver_volume_type, volume_id, properties):
        conf = key_file(made)
        if made.fails is not None:
            raise made.fails
        return connect(self, driver_volume_type, volume_id, properties) | {'conf': str(conf)}

    monkeypatch.setattr(kernel_rbd.Brick, 'connect', with_key)
    return made


KEYRING = '[client.cinder]\n  key = AQTopSecret==\n'
MONITORS = '192.0.2.1:6789,192.0.2.2:6789'


def key_file(keyed, text=None, *, mode=0o600, age=0.0):
    """As os-brick writes it."""
    number = len(list(keyed.temporary.iterdir()))
    path = keyed.temporary / f'brickrbd_{number}'
    path.write_text(text or f'[global]\nmon_host = {MONITORS}\n{KEYRING}\n')
    path.chmod(mode)
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))
    return path


def remainders(keyed):
    # The journal has no keyring, and knows that there was one.
    info = ConnectionInfo.parse(keyed.info.to_dict())
    return [str(left) for left in keyed.driver.remains(info, 'a')], info


def killed_in_connect(keyed):
    """Before anybody has written down what the file is called."""
    keyed.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        keyed.driver.connect_volume(keyed.info, 'a')
    return keyed.temporary / 'brickrbd_0'


def test_key_file_of_os_brick_goes_as_soon_as_the_image_is_mapped(keyed, kernel):
    volume = keyed.driver.connect_volume(keyed.info, 'a')
    assert list(keyed.temporary.iterdir()) == []
    assert 'conf' not in volume.device_info
    assert kernel.numbers() == [0]
    keyed.driver.disconnect_volume(keyed.info, 'a', volume=volume)
    assert kernel.numbers() == []


def test_key_file_of_a_former_version_goes_with_its_volume(keyed):
    volume = keyed.driver.connect_volume(keyed.info, 'a')
    path = key_file(keyed)
    volume = dataclasses.replace(volume, device_info={'conf': str(path)})
    keyed.driver.disconnect_volume(keyed.info, 'a', volume=volume)
    assert not path.exists()


def test_key_file_of_a_killed_connect_is_found_and_removed(keyed):
    path = killed_in_connect(keyed)
    left, info = remainders(keyed)
    assert left == [f'file {path} (the key of a Ceph user)']
    keyed.driver.disconnect_volume(info, 'a')
    assert not path.exists()
    assert remainders(keyed)[0] == []


def test_key_file_goes_where_os_brick_fails(keyed):
    keyed.fails = exception.ConnectFailed(
        volume_id='1', driver_volume_type='rbd', reason='no such image'
    )
    with pytest.raises(exception.ConnectFailed):
        keyed.driver.connect_volume(keyed.info, 'a')
    assert list(keyed.temporary.iterdir()) == []


def test_next_connect_removes_what_the_last_one_left(keyed):
    path = killed_in_connect(keyed)
    keyed.fails = None
    keyed.driver.connect_volume(keyed.info, 'a')
    assert not path.exists()


def test_key_file_that_may_be_another_ones_stays(keyed):
    mine = killed_in_connect(keyed)
    others = [
        key_file(keyed, age=60.0),
        key_file(keyed, age=-120.0),
        key_file(keyed, mode=0o644),
        key_file(keyed, f'[global]\nmon_host = 192.0.2.9:6789\n{KEYRING}\n'),
        key_file(keyed, f'[global]\nmon_host = {MONITORS}\n[client.glance]\nkey = x\n'),
        # Of the same user, and made later: the one of a connect is the first.
        key_file(keyed, age=-1.0),
    ]
    link = keyed.temporary / 'brickrbd_link'
    link.symlink_to(mine)
    keyed.driver.disconnect_volume(keyed.info, 'a')
    assert not mine.exists()
    assert sorted(keyed.temporary.iterdir()) == sorted([*others, link])
    keyed.driver.disconnect_volume(keyed.info, 'a')
    assert sorted(keyed.temporary.iterdir()) == sorted([*others, link])


def test_key_file_that_rbd_reads_stays(keyed, monkeypatch):
    path = killed_in_connect(keyed)
    asked = []

    def running(words):
        asked.append(words)
        return (former_processes.Process(17, 'rbd', 0),)

    monkeypatch.setattr(former_processes, 'running', running)
    assert remainders(keyed)[0] == []
    keyed.driver.disconnect_volume(keyed.info, 'a')
    assert path.exists()
    assert asked == [(str(path),)] * 2


def test_key_file_that_rbd_may_be_about_to_read_is_waited_for(keyed, monkeypatch):
    monkeypatch.setattr(rbd_conf, 'STARTS', 0.2)
    path = killed_in_connect(keyed)
    assert remainders(keyed)[0] == []
    keyed.driver.disconnect_volume(keyed.info, 'a')
    assert not path.exists()


def test_audit_names_what_nobody_reads(keyed, monkeypatch):
    old = key_file(keyed, age=120.0)
    key_file(keyed)
    key_file(keyed, mode=0o644, age=120.0)
    (found,) = audit_host._keys()
    assert (found.severity, found.kind, found.what) == ('note', 'stray-file', str(old))
    assert 'AQTopSecret' not in str(found)
    monkeypatch.setattr(former_processes, 'running', lambda words: ['rbd'])
    assert list(audit_host._keys()) == []


def test_only_such_a_file_is_removed_as_root(keyed):
    path = key_file(keyed, 'something else\n')
    with pytest.raises(exception.PrivilegedCallRefused, match='no file with the key'):
        kernel_rbd.privileged.remove_conf(str(path), MONITORS, 'cinder')
    with pytest.raises(exception.PrivilegedCallRefused):
        kernel_rbd.privileged.remove_conf('/etc/passwd', MONITORS, 'cinder')
    kernel_rbd.privileged.remove_conf(f'{path}.gone', MONITORS, 'cinder')
    assert path.exists()


def test_volume_stays_with_the_client_that_connected_it(
    kernel, conf_file, info, monkeypatch, driver
):
    volume = driver.connect_volume(info, 'a')
    monkeypatch.setattr(
        kernel_rbd.KernelRbd.__init__, '__kwdefaults__', {'sysfs': kernel.sysfs, 'dev': kernel.dev}
    )
    later = RbdVolumeDriver(network_fakes.make_context(rbd_ceph_conf=str(conf_file)))
    later.disconnect_volume(info, 'a', volume=volume)
    assert kernel.numbers() == []


class TestSysfs:
    def test_no_module(self, tmp_path):
        assert rbd_device.devices(tmp_path / 'absent') == ()
        assert rbd_device.size(0, tmp_path / 'absent') is None

    def test_old_kernel(self, kernel):
        kernel.map()
        (kernel.sysfs / '0/pool_ns').unlink()
        (kernel.sysfs / '0/cluster_fsid').unlink()
        assert rbd_device.devices(kernel.sysfs) == (
            rbd_device.RbdDevice(0, 'volumes', '', 'volume-1', '-', ''),
        )

    def test_what_cannot_be_read_is_not_absent(self, kernel):
        kernel.map()
        (kernel.sysfs / '0/name').unlink()
        with pytest.raises(FileNotFoundError):
            rbd_device.devices(kernel.sysfs)


class TestWhatIsThereNow:
    def test_identity_of_the_path(self, driver, kernel, info):
        volume = driver.connect_volume(info, 'a')
        assert driver.current_identity(info, volume) == volume.identity
        # The name leads to the image of another cluster by now.
        kernel.map(fsid=OTHER)
        assert driver.current_identity(info, volume).value == f'{OTHER}/volumes/volume-1'
        (kernel.dev / 'rbd/volumes/volume-1').unlink()
        assert driver.current_identity(info, volume) is None

    def test_mapping_that_was_interrupted(self, driver, kernel, info):
        kernel.map(fsid=OTHER)
        kernel.map(image='volume-2')
        kernel.map()
        redacted = ConnectionInfo.parse(info.to_dict())

        found = driver.remains(redacted, 'a')

        assert found == (Remainder('mapping', '/dev/rbd2', f'rbd:{FSID}/volumes/volume-1'),)
        driver.disconnect_volume(redacted, 'a')
        assert kernel.numbers() == [0, 1]
        assert driver.remains(redacted, 'a') == ()

    def test_volume_that_was_disconnected(self, driver, kernel, info):
        volume = driver.connect_volume(info, 'a')
        assert [found.name for found in driver.remains(info, 'a', volume=volume)] == ['/dev/rbd0']
        driver.disconnect_volume(info, 'a', volume=volume)
        assert driver.remains(info, 'a', volume=volume) == ()

    def test_what_cannot_be_read_is_an_error(self, driver, info, tmp_path):
        driver.sysfs = tmp_path / 'ceph.conf'
        for ask in (driver.remains, driver.disconnect_volume):
            with pytest.raises(exception.HostUnreadable):
                ask(info, 'a')


def test_plan(driver, kernel, info):
    link = kernel.dev / 'rbd/volumes/volume-1'
    assert driver.plan_connect(info, 'a') == (
        'connect to 192.0.2.1:6789',
        'connect to 192.0.2.2:6789',
        'os-brick RBD connector: do_local_attach=True',
        'rbd map volumes/volume-1',
        f'device: {link}',
    )
    assert driver.plan_disconnect(info, 'a') == ('nothing: volumes/volume-1 is not mapped',)
    assert kernel.calls == []
    volume = driver.connect_volume(info, 'a')
    assert driver.plan_connect(info, 'a')[2:] == (
        'volumes/volume-1 is mapped as /dev/rbd0',
        f'device: {link}',
    )
    assert driver.plan_disconnect(info, 'a', volume=volume) == (
        f'rbd unmap /dev/rbd0 ({FSID}/volumes/volume-1)',
    )
