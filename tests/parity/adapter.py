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

"""Stands between the comparer and this package; see compare.py for its functions.

It maps Nova's options, disk_info and stored device paths to this package's,
and the faked world to its services.  Where this package deliberately does
something else than Nova, that is a rule of RULES: each is applied here in the
open, and how often it was is printed at the end.
"""

import atexit
import collections
import contextlib
import copy
import dataclasses
import logging
import os
import unittest.mock

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import image_file
from volumedrivers.host import mount_table
from volumedrivers.host import share_users
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.block_device import DevicePaths
from volumedrivers.host.endpoint import Probe
from volumedrivers.host.endpoint import ProbeResult
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.network_source import NetworkSourceDriver
from volumedrivers.libvirt.registry import Registry
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.privsep import device_link
from volumedrivers.privsep import discovery_file

# Deliberate differences: what Nova does, what this package does, and why.
RULES = {
    'refused-input': (
        'Nova hands os-brick a connection_info without the keys that say where the volume is, '
        'with values that cannot be, or with an access_mode that only fails later, on its XML; '
        'it is refused before anything is done here. The adapter gives stand-ins to the parser '
        'and the original to os-brick'
    ),
    'refused-name': (
        'Nova gives a guest whatever name is in connection_info, also one that is relative or '
        'leads out of its share; it is refused here, so the case cannot be compared'
    ),
    'refused-mount': (
        'Nova goes on when mount(8) fails with "busy" or something else is mounted where the '
        'share should be, and gives the guest a file of whatever that is; here connect_volume '
        'raises. The adapter raises too, and makes the XML of the path it would have been'
    ),
    'own-protocol': (
        "Nova's driver for network sources writes any driver_volume_type as protocol; each "
        'protocol has a driver of its own here. The adapter writes it'
    ),
    'enforce-multipath': (
        'Nova passes volume_enforce_multipath to the factory, where os-brick ignores it; here '
        'it is in the properties as well, where os-brick reads it. The adapter takes it out'
    ),
    'own-copy': (
        "Nova hands os-brick its own dictionary and keeps what os-brick's connector writes into "
        'it; os-brick gets a copy each time here. The adapter writes it again'
    ),
    'respelled': (
        'Portals and WWNs are spelled as iscsiadm and udev spell them, so that os-brick finds '
        'the session again when it disconnects. The adapter gives the spelling of Cinder'
    ),
    'alias-without-id': (
        'Nova calls the disk of a volume without any id ua-None, all of them the same; here it '
        'has no alias. The adapter takes ua-None out'
    ),
    'format-stated': (
        'Nova writes no format when Cinder sends None; the format is always stated here, so that '
        'nobody ever guesses it from what a guest has written. The adapter adds raw'
    ),
    'address-without-unit': (
        'Nova writes an address without a unit when it does not know one, which libvirt reads as '
        'unit 0; here libvirt chooses. The adapter takes the address out'
    ),
}

EXCEPTIONS = {
    'nova.exception.VolumeDriverNotFound': 'volumedrivers.exception.VolumeDriverNotFound',
    'nova.exception.VolumeDriverNotSupported': 'volumedrivers.exception.MisconfiguredHost',
    'nova.exception.InvalidVolumeAccessMode': 'volumedrivers.exception.InvalidVolumeAccessMode',
}

# For the rule refused-input: any value that can be parsed.
STAND_INS = {
    'target_portal': '203.0.113.1:3260',
    'target_iqn': 'iqn.2000-01.invalid:stand-in',
    'target_lun': 0,
    'target_wwn': ['0000000000000001'],
    'transport_type': 'tcp',
    'target_port': 4420,
    'nqn': 'nqn.2000-01.invalid:stand-in',
    'lightos_nodes': {
        '203.0.113.1': {
            'target_portal': '203.0.113.1',
            'target_port': 4420,
            'transport_type': 'tcp',
        }
    },
    'subsysnqn': 'nqn.2000-01.invalid:stand-in',
    'uuid': '00000000-0000-4000-8000-000000000000',
    'scaleIO_volname': 'stand-in',
    'volume': 'stand-in',
    'client_id': 1,
    'device_path': '/dev/stand-in/volume',
    'export': 'stand-in',
    'name': 'stand-in/volume',
    'secret_type': None,
    'secret_uuid': None,
    'auth_username': None,
}
NVME_STAND_INS = {**STAND_INS, 'target_portal': '203.0.113.1'}
# Without these Nova cannot connect either.
NEEDED_BY_NOVA = ('export', 'name')

# Options whose default is another here than in Nova.
NOVA_DEFAULTS = {
    'state_path': '/var/lib/nova',
    'vzstorage_log_path': '/var/log/vstorage/%(cluster_name)s/nova.log.gz',
}

applied = collections.Counter()
_world = None
_patches = contextlib.ExitStack()
_registry = None
_conf = None
_type = None  # driver_volume_type of the driver that was made
_cinder = {}  # data as Cinder sent it, of the step that runs
_added = {}  # keys of it that have a stand-in -> whether it was sent
_refused_mount = False
_written = {}  # volume id -> what connectors wrote into properties


def apply(rule):
    """Count a deliberate difference; one that is not in the table is a KeyError."""
    RULES[rule]
    applied[rule] += 1


# -- the world -----------------------------------------------------------------
class Devices(BlockDevices):
    """Every path that os-brick returns is taken as it is, and is there."""

    def stable_path(self, path, *, wait=5.0):
        return path

    def kernel_path(self, path):
        return path

    def identity(self, path):
        return None

    def size(self, path):
        return 1 << 30

    def paths(self, path):
        return DevicePaths(('sdx',), ())

    def by_path(self, ending):
        return ()

    def leftovers(self, identity):
        return ()


class Endpoints(Probe):
    """Every endpoint answers."""

    def check(self, protocol, endpoints, *, timeout, **options):
        return ProbeResult(tuple(f'{host}:{port}' for host, port in endpoints), ())


class Mounter:
    """The world's mount(8)."""

    def mount(self, fstype, source, mount_point, options=(), credentials=None, *, timeout=60):
        words = [word for option in options for word in ('-o', option)]
        program = ['mount.quobyte'] if fstype == 'quobyte' else ['mount', '-t', fstype, *words]
        try:
            _world.execute([*program, source, mount_point])
        except Exception as error:
            raise exception.MountFailed(
                source=source, mount_point=mount_point, reason=str(error)
            ) from error

    def unmount(self, mount_point, lazy=False, *, timeout=60):
        try:
            _world.execute(['umount', mount_point])
        except Exception as error:
            raise exception.MountFailed(
                source='', mount_point=mount_point, reason=str(error)
            ) from error

    def make_mount_point(self, path):
        os.makedirs(path)

    def remove_mount_point(self, path):
        os.rmdir(path)


class Shares(ShareMounts):
    """This package's mount service on the world's mount table.

    os-brick's own mounts succeed; every volume's file is there.
    """

    def acquire(self, share, attachment, *, mount=None):
        def mount_by_other():
            mount()
            source = share.mounted_sources[0] if share.mounted_sources else share.source
            _world.mounts.append([source, share.mount_point, share.mounted_fstypes[0]])

        return super().acquire(
            share, attachment, mount=mount_by_other if mount is not None else None
        )

    def resolve(self, share, name, *, volume_id=None):
        return os.path.join(share.mount_point, name)

    def source_of(self, path, fstypes, *, volume_id=None):
        return fstypes[0]

    def locate(self, share, path, *, volume_id=None):
        return path

    @contextlib.contextmanager
    def _locked(self, share):
        yield


def mounts(path=None):
    return tuple(
        mount_table.Mount(number, '/', place, fstype, source)
        for number, (source, place, fstype) in enumerate(_world.mounts, 1)
    )


def declared_image(path, declared, *, root, seconds, volume_id=None, encrypted=False):
    return image_file.ImageFile(path, declared or 'raw', 1 << 30, 1)


class FakeVolumeDriver(VolumeDriver):
    """Nova's driver for its own tests; also shows how little a driver needs."""

    API_VERSION = (1, 0)
    CAPABILITIES = frozenset((Capability.UNPRIVILEGED,))

    def connect_volume(self, connection_info, attachment):
        return ConnectedVolume(
            driver_volume_type='fake',
            volume_id=connection_info.volume_id,
            source_type='network',
            source=NetworkSource('fake', 'fake'),
        )

    def disconnect_volume(self, connection_info, attachment, *, volume=None, force=False):
        pass

    def extend_volume(self, connection_info, attachment, requested_size, *, volume=None):
        raise exception.ExtendVolumeNotSupported(driver_volume_type='fake')


class Connector:
    """A connector of the world that is given what Nova would give it."""

    def __init__(self, real):
        self._real = real

    def connect_volume(self, properties):
        properties = as_nova(properties)
        before = dict(properties)
        try:
            return self._real.connect_volume(properties)
        finally:
            _written.setdefault(properties.get('volume_id'), {}).update(
                (key, value)
                for key, value in properties.items()
                if key not in before or before[key] != value
            )

    def disconnect_volume(self, properties, device_info, force=False):
        if isinstance(device_info, dict):
            device_info = as_nova(device_info)
        return self._real.disconnect_volume(as_nova(properties), device_info, force=force)

    def extend_volume(self, properties):
        properties = as_nova(properties)
        if 'scaleIO_volname' in _added:
            # Only of a volume that has a name is the id read off the device.
            properties.pop('scaleIO_volume_id', None)
        return self._real.extend_volume(properties)


def as_nova(properties):
    """Undo in os-brick's arguments what the rules say."""
    for key, sent in _added.items():
        if sent:
            properties[key] = copy.deepcopy(_cinder[key])
        else:
            properties.pop(key, None)
    if (
        _conf.volume_enforce_multipath
        and 'enforce_multipath' not in _cinder
        and (properties.pop('enforce_multipath', False))
    ):
        apply('enforce-multipath')
    for key, value in list(properties.items()):
        sent = _cinder.get(key)
        if key.startswith('target_') and sent != value and plain(sent) == plain(value):
            apply('respelled')
            properties[key] = sent
    written = _written.get(properties.get('volume_id'))
    if written:
        apply('own-copy')
        properties.update(copy.deepcopy(written))
    return properties


def plain(value):
    """A portal or WWN, or a list of them, without what may be spelled differently."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if not isinstance(value, str):
        return value
    return ''.join(letter for letter in value.split(',')[0].lower() if letter not in '[]:')


def setup(world):
    global _world, _refused_mount
    _world = world
    _refused_mount = False
    _written.clear()

    def factory(*args, **kwargs):
        return Connector(world.factory(*args, **kwargs))

    from os_brick.initiator import connector

    for target, name, value in (
        (connector.InitiatorConnector, 'factory', staticmethod(factory)),
        (mount_table, 'read', mounts),
        (image_file, 'inspect', declared_image),
        (device_link, 'make_folder', lambda: None),
        (discovery_file, 'remove_unless_named', lambda uuid, nqn: None),
    ):
        _patches.enter_context(unittest.mock.patch.object(target, name, value))


def teardown(world):
    _patches.close()


def SKIP(case):
    reason = {
        'cephfs': 'mounts a Manila share; there is no volume',
        '(remotefs)': 'copies files between hosts; there is no volume',
    }.get(case['driver'])
    if reason is None and has_refused_name(case):
        apply('refused-name')
        reason = RULES['refused-name']
    return reason


def has_refused_name(case):
    data = (case.get('connection_info') or {}).get('data')
    if not isinstance(data, dict) or case['driver'] == 'rbd':
        return False
    name, path = data.get('name'), data.get('device_path')
    if case['driver'] in ('local', 'gpfs'):
        return isinstance(path, str) and not path.startswith('/')
    return (
        'export' in data
        and isinstance(name, str)
        and (name.startswith('/') or '..' in name.split('/'))
    )


# -- the driver ----------------------------------------------------------------
def make_conf(options):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    for option, value in NOVA_DEFAULTS.items():
        conf.set_override(option, value, group='volumedrivers')
    for name, value in options.items():
        group, _, option = name.partition('.')
        if group == 'libvirt' and option in conf.volumedrivers:
            conf.set_override(option, value, group='volumedrivers')
    return conf


def make_driver(volume_type, conf):
    global _registry, _conf, _type
    conf = make_conf(conf)
    _conf, _type = conf.volumedrivers, volume_type
    context = DriverContext(
        conf=conf,
        devices=Devices(),
        endpoints=Endpoints(),
        shares=Shares(conf, users=share_users.MemoryUsers(), mounter=Mounter()),
    )
    if volume_type == 'fake':
        return FakeVolumeDriver(context)
    if _registry is None:
        _registry = Registry(context)
    # The registry makes one a process; each case has options of its own.
    return type(_registry.get(volume_type))(context)


class Stored(dict):
    """A connection_info as Nova stores it, with what connect_volume returned."""

    volume = None


def parse(connection_info, step):
    """Read a connection_info, with stand-ins for what is refused."""
    global _cinder, _added
    given = copy.deepcopy(dict(connection_info))
    _cinder = connection_info.get('data') or {}
    _added = {}
    if _type == 'rbd':
        given['driver_volume_type'] = 'rbd'
    while True:
        try:
            info = ConnectionInfo.parse(given)
        except exception.InvalidConnectionInfo as error:
            if not stand_in(given, error, step):
                raise
            apply('refused-input')
        else:
            return info


def stand_in(given, error, step):
    """Replace what was refused; False: Nova refuses it as well."""
    key = error.key.removeprefix('data.').partition('[')[0]
    missing = error.found == 'missing'
    if error.key == 'data' and missing:
        given['data'] = {}
    elif key == 'driver_volume_type' and missing:
        given[key] = _type
    elif key == 'multiattach':
        given[key] = bool(given[key])
    elif key == 'access_mode' and step != 'xml':
        del given['data'][key]
        _added[key] = True
    elif key in STAND_INS and key not in _added:
        if step == 'connect' and key in NEEDED_BY_NOVA and _type != 'rbd':
            return False
        values = NVME_STAND_INS if _type == 'nvmeof' else STAND_INS
        given['data'][key] = copy.deepcopy(values[key])
        _added[key] = not missing
    elif key in (given.get('data') or ()) and key not in (*NEEDED_BY_NOVA, 'access_mode'):
        del given['data'][key]
        _added[key] = True
    else:
        return False
    return True


def attachment_of(instance):
    return str(instance.uuid)


def connect(driver, connection_info, instance):
    global _refused_mount
    try:
        volume = driver.connect_volume(parse(connection_info, 'connect'), attachment_of(instance))
    except (exception.MountFailed, exception.WrongMount):
        apply('refused-mount')
        _refused_mount = True
        raise
    if volume.source is not None and driver_type(connection_info) != volume.source.protocol:
        volume = with_protocol(volume, driver_type(connection_info))
    stored = Stored(copy.deepcopy(dict(connection_info)))
    stored.volume = volume
    if volume.path is not None and 'data' in stored and _type != 'quobyte':
        stored['data']['device_path'] = volume.path
    if connection_info.get('driver_volume_type') == 'fibre_channel' and volume.multipath_id:
        stored['data']['multipath_id'] = volume.multipath_id
    return stored


def get_xml(driver, connection_info, disk_info):
    info = parse(connection_info, 'xml')
    volume = getattr(connection_info, 'volume', None)
    if volume is None:
        volume = without_connect(driver, connection_info, info)
    secret = _world.find_secret('volume', info.volume_id)
    unit = disk_info.get('unit')
    disk = driver.get_disk(
        info,
        volume,
        DiskInfo(
            bus=disk_info['bus'],
            dev=disk_info['dev'],
            type=disk_info['type'],
            unit=None if unit is None else int(unit),
            encryption=DiskEncryption(secret.UUIDString()) if secret is not None else None,
        ),
    )
    if volume.source is not None and 'name' in _added:
        disk.source.name = _cinder.get('name')
    return disk.to_xml()


def driver_type(connection_info):
    return connection_info.get('driver_volume_type') or _type


def with_protocol(volume, protocol):
    apply('own-protocol')
    return dataclasses.replace(
        volume,
        source=dataclasses.replace(
            volume.source,
            protocol=protocol,
            auth_username=None,
            secret_type=None,
            secret_uuid=None,
        ),
    )


def without_connect(driver, connection_info, info):
    """What Nova's get_config works from when nothing was connected before."""
    client = driver.client() if isinstance(driver, ClientChoiceDriver) else driver
    if isinstance(client, (NetworkSourceDriver, FakeVolumeDriver)):
        return driver.connect_volume(info, 'no attachment')
    data = connection_info['data']
    if isinstance(driver, ShareFileDriver):
        if info.driver_volume_type == 'quobyte' or _refused_mount:
            path = os.path.join(driver.make_share(info, info.data).mount_point, data['name'])
        else:
            path = data['device_path']
        return ConnectedVolume(
            driver_volume_type=info.driver_volume_type,
            volume_id=info.volume_id,
            source_type='file',
            path=path,
            format=data.get('format') or 'raw',
        )
    return ConnectedVolume(
        driver_volume_type=info.driver_volume_type,
        volume_id=info.volume_id,
        source_type='file' if info.driver_volume_type == 'gpfs' else 'block',
        path=data['device_path'],
    )


def normalise_xml(disk):
    for alias in disk.findall('alias'):
        if alias.get('name') == 'ua-None':
            apply('alias-without-id')
            disk.remove(alias)
    for driver in disk.findall('driver'):
        if driver.get('type') is None:
            apply('format-stated')
            driver.set('type', 'raw')
    for address in disk.findall('address'):
        if address.get('type') == 'drive' and address.get('unit') is None:
            apply('address-without-unit')
            disk.remove(address)
    return disk


def disconnect(driver, connection_info, instance, force=False):
    driver.disconnect_volume(
        parse(connection_info, 'disconnect'),
        attachment_of(instance),
        volume=getattr(connection_info, 'volume', None),
        force=force,
    )


def extend(driver, connection_info, instance, requested_size):
    return driver.extend_volume(
        parse(connection_info, 'extend'),
        attachment_of(instance),
        requested_size,
        volume=getattr(connection_info, 'volume', None),
    )


def attach_encryptor(driver, connection_info, instance, encryption=None):
    """Nova's encryptor, as far as the XML shows it.

    LUKS of the first version is QEMU's to open, with a libvirt secret of the
    volume; with the others dm-crypt lies under an unchanged path.
    """
    encryption = encryption or _world.spec.get('encryption_metadata') or {}
    volume_id = parse(connection_info, 'encryptor').volume_id
    known = _world.find_secret('volume', volume_id) is not None
    if not known and str(encryption.get('provider')).rpartition('.')[2] in (
        'luks',
        'LuksEncryptor',
    ):
        _world.create_secret('volume', volume_id, None)


def detach_encryptor(driver, connection_info, instance, encryption=None, destroy_secrets=True):
    volume_id = parse(connection_info, 'encryptor').volume_id
    if destroy_secrets and _world.find_secret('volume', volume_id) is not None:
        _world.delete_secret('volume', volume_id)


def summary():
    for rule in RULES:
        print('rule %-20s applied %4d times: %s' % (rule, applied[rule], RULES[rule]))


if __name__ == 'volume_adapter':  # the name that compare.py gives it
    # The table is what is read: no eventlet, and no warnings about the cases.
    bootstrap.load_os_brick()
    logging.getLogger('volumedrivers').setLevel(logging.ERROR)
    atexit.register(summary)
