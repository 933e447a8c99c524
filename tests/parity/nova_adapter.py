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

"""As adapter.py, but through the class that nova-compute is given.

Between the comparer and the drivers are then also Nova's object of a disk, the
manager with its journal, locks and identities, and what is stored in a
connection_info.  The deliberate differences are those of adapter.py, and the
few of RULES here.
"""

import atexit
import contextlib
import dataclasses
import logging
import shutil
import tempfile
import types

import adapter as base
from nova.virt.libvirt import driver as libvirt_driver
from oslo_utils import importutils

from volumedrivers import exception
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.host_manager import HostManager
from volumedrivers.attachment.journal import Journal
from volumedrivers.host import bootstrap
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.nova import drivers
from volumedrivers.nova import errors
from volumedrivers.nova import services

# Deliberate differences besides those of adapter.py.
RULES = {
    'without-id': (
        'Nova connects a volume that has no id at all; the journal knows a volume by its id, '
        'so it is refused here. The adapter gives it a stand-in, but not to the XML'
    ),
    'grown-less': (
        'Nova resizes the disk to whatever size os-brick has found; where that is less than '
        'Cinder has extended the volume to, it is an error here. The adapter raises it, too'
    ),
    'other-device': (
        'Nova takes whatever device os-brick finds when a volume that is connected is connected '
        'once more; one that is not the recorded one is refused here, so the case cannot be '
        'compared'
    ),
    'unfinished-first': (
        'Nova extends a volume after it could not be disconnected; what was not finished is '
        'finished first here, so the case cannot be compared'
    ),
}

EXCEPTIONS = {
    f'nova.exception.{name}': f'nova.exception.{name}'
    for name in ('VolumeDriverNotFound', 'VolumeDriverNotSupported', 'InvalidVolumeAccessMode')
}
STAND_IN_ID = '00000000-0000-4000-8000-0000000000ff'

normalise_xml = base.normalise_xml
attach_encryptor = base.attach_encryptor
detach_encryptor = base.detach_encryptor

applied = base.applied
_temporary = tempfile.mkdtemp(prefix='parity-')
atexit.register(shutil.rmtree, _temporary, ignore_errors=True)
# One for all cases; each leaves it empty.
_journal = Journal(f'{_temporary}/attachments.sqlite')
_case = contextlib.ExitStack()


def apply(rule):
    """Count a deliberate difference; one that is not in the table is a KeyError."""
    RULES[rule]
    applied[rule] += 1


class Hypervisor:
    """A libvirt without guests."""

    def guests(self):
        return ()

    def guest(self, name):
        raise exception.GuestNotFound(guest=name, uri='fake:///')


class Secrets:
    """The world's."""

    def find(self, usage_type, usage_id):
        secret = base._world.find_secret(usage_type, usage_id)
        return None if secret is None else secret.UUIDString()


class Registry:
    """The one driver of the case."""

    def __init__(self, driver):
        self.driver = driver
        self.context = driver.context

    def get(self, driver_volume_type):
        return self.driver

    def why_not(self, driver_volume_type):
        return None


class Encryptor:
    """Nova decrypts itself."""

    def remains(self, volume_id, opened):
        return ()


def SKIP(case):
    reason = base.SKIP(case)
    if reason is None and finds_another(case):
        apply('other-device')
        reason = RULES['other-device']
    if reason is None and goes_on_after_failed_disconnect(case):
        apply('unfinished-first')
        reason = RULES['unfinished-first']
    return reason


def finds_another(case):
    script = list((case['world'].get('os_brick') or {}).get('connect_volume') or [{}])
    recorded = {}
    for step in case['steps']:
        on = step.get('on', '')
        if step['op'] == 'disconnect':
            recorded.pop(on, None)
        elif step['op'] == 'connect':
            answer = script.pop(0) if len(script) > 1 else script[0]
            path = (answer.get('return') or {}).get('path')
            if path is not None and recorded.setdefault(on, path) != path:
                return True
    return False


def goes_on_after_failed_disconnect(case):
    failed = [
        result['op'] == 'disconnect' and result['exception'] is not None
        for result in case['results']
    ]
    return any(
        failure and step['op'] == 'extend'
        for failure, step in zip(failed, case['steps'][1:], strict=False)
    )


def setup(world):
    base.setup(world)
    # Every volume's file is there, and stays the same.
    _case.enter_context(
        base.unittest.mock.patch.object(base.Shares, 'inode', lambda self, path: 1)
    )


def teardown(world):
    services.use(None)
    for row in _journal.find():
        _journal.remove(row.key)
    _case.close()
    base.teardown(world)


def make_driver(volume_type, conf):
    with errors.translated():
        driver = base.make_driver(volume_type, conf)
    if volume_type == 'fake':
        driver.make_source = lambda info: base.NetworkSource('fake', 'fake')
    registry = Registry(driver)
    context = AttachmentContext(
        options=driver.conf,
        registry=registry,
        hypervisor=Hypervisor(),
        journal=_journal,
        locks=FairLocks(f'{_temporary}/locks'),
        encryptor=Encryptor(),
    )
    services.use(
        services.Services(
            driver.context.conf, registry, HostManager(context, services.MANAGER), Secrets()
        )
    )
    return tolerant(importutils.import_class(drivers.path_of(volume_type)))(None)


def tolerant(kind):
    """Return the class with the parser of adapter.py, which has stand-ins for what is refused."""

    class Tolerant(kind):
        step = ''

        def _parse(self, connection_info):
            info = base.parse(connection_info, self.step)
            if info.volume_id is None and self.step != 'xml':
                apply('without-id')
                info = dataclasses.replace(info, volume_id=STAND_IN_ID)
            return info

    return Tolerant


def connect(driver, connection_info, instance):
    driver.step = 'connect'
    connection_info.setdefault('data', {})
    try:
        driver.connect_volume(connection_info, instance)
    except Exception as error:
        if isinstance(error.__cause__, (exception.MountFailed, exception.WrongMount)):
            base.apply('refused-mount')
            base._refused_mount = True
        raise


def get_xml(driver, connection_info, disk_info):
    driver.step = 'xml'
    config = driver.get_config(connection_info, disk_info)
    if config.source_protocol and 'name' in base._added:
        config.source_name = base._cinder.get('name')
    protocol = base.driver_type(connection_info)
    if config.source_protocol not in (None, protocol):
        base.apply('own-protocol')
        config.source_protocol = protocol
        config.auth_username = config.auth_secret_type = config.auth_secret_uuid = None
    modes = dict(mode.split('=') for mode in driver._services.conf.volumedrivers.disk_cachemodes)
    modes = {
        kind: mode for kind, mode in modes.items() if mode in libvirt_driver.VALID_DISK_CACHEMODES
    }
    # Nova's own function, on Nova's object.
    libvirt_driver.LibvirtDriver._set_cache_mode(
        types.SimpleNamespace(disk_cachemodes=modes), config
    )
    return config.to_xml()


def disconnect(driver, connection_info, instance, force=False):
    driver.step = 'disconnect'
    return driver.disconnect_volume(connection_info, instance, force=force)


def extend(driver, connection_info, instance, requested_size):
    driver.step = 'extend'
    try:
        return driver.extend_volume(connection_info, instance, requested_size)
    except Exception as error:
        if isinstance(error.__cause__, exception.ExtendVolumeFailed) and 'sees' in str(error):
            apply('grown-less')
        raise


def summary():
    for rule, reason in {**base.RULES, **RULES}.items():
        print('rule %-20s applied %4d times: %s' % (rule, applied[rule], reason))


if __name__ == 'volume_adapter':  # the name that compare.py gives it
    bootstrap.load_os_brick()
    logging.getLogger('volumedrivers').setLevel(logging.ERROR)
    atexit.register(summary)
