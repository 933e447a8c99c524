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

"""Nova's own volume drivers, as they are installed, in the faked world of the cases.

What it does with a case is what Nova does; see compare.py for the functions.
"""

import contextlib
import types
import unittest.mock

from nova import privsep
import nova.conf
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt.volume import mount
from nova.virt.libvirt.volume import quobyte

CONF = nova.conf.CONF

_world = None
_case = contextlib.ExitStack()


class Host:
    """Nova's connection to libvirt, with the secrets and guests of the world."""

    def find_secret(self, usage_type, usage_id):
        return _world.find_secret(usage_type, usage_id)

    def list_guests(self, only_running=True):
        return [Guest(guest) for guest in _world.guests]


class Guest:
    def __init__(self, guest):
        self.uuid = guest['uuid']
        self.disks = [
            types.SimpleNamespace(source_type=disk['type'], source_path=disk['path'])
            for disk in guest['disks']
        ]

    def get_all_disks(self):
        return self.disks


def setup(world):
    global _world
    _world = world
    quobyte._is_systemd = None
    # As root no helper process is needed, and the commands are the world's.
    client_mode = privsep.sys_admin_pctxt.client_mode
    _case.callback(privsep.sys_admin_pctxt.set_client_mode, client_mode)
    privsep.sys_admin_pctxt.set_client_mode(False)
    _case.enter_context(unittest.mock.patch('oslo_concurrency.lockutils.external_lock'))
    # One of its messages cannot be formatted, which raises where logging is captured.
    _case.enter_context(unittest.mock.patch.object(mount, 'LOG'))
    manager = mount.get_manager()
    manager.host_up(Host())
    _case.callback(manager.host_down)


def teardown(world):
    _case.close()


def make_driver(volume_type, conf):
    if not CONF._namespace:
        CONF([], project='nova', default_config_files=[], default_config_dirs=[])
    _override('state_path', '/var/lib/nova')
    for name, value in conf.items():
        group, _, option = name.partition('.')
        _override(option, value, None if group == 'DEFAULT' else group)
    driver = types.SimpleNamespace(volume_drivers={}, _host=Host())
    return libvirt_driver.LibvirtDriver._get_volume_driver(
        driver, {'driver_volume_type': volume_type}
    )


def _override(name, value, group=None):
    CONF.set_override(name, value, group=group)
    _case.callback(CONF.clear_override, name, group=group)


def connect(driver, connection_info, instance):
    driver.connect_volume(connection_info, instance)


def get_xml(driver, connection_info, disk_info):
    config = driver.get_config(connection_info, disk_info)
    modes = dict(mode.split('=') for mode in CONF.libvirt.disk_cachemodes)
    modes = {
        kind: mode for kind, mode in modes.items() if mode in libvirt_driver.VALID_DISK_CACHEMODES
    }
    libvirt_driver.LibvirtDriver._set_cache_mode(
        types.SimpleNamespace(disk_cachemodes=modes), config
    )
    return config.to_xml()


def disconnect(driver, connection_info, instance, force=False):
    return driver.disconnect_volume(connection_info, instance, force=force)


def extend(driver, connection_info, instance, requested_size):
    return driver.extend_volume(connection_info, instance, requested_size)


def attach_encryptor(driver, connection_info, instance, encryption=None):
    """As the adapter of this package does it; Nova's needs a key manager."""
    import adapter

    adapter._world, adapter._type = _world, connection_info['driver_volume_type']
    return adapter.attach_encryptor(driver, connection_info, instance, encryption)


def detach_encryptor(driver, connection_info, instance, encryption=None, destroy_secrets=True):
    import adapter

    adapter._world, adapter._type = _world, connection_info['driver_volume_type']
    return adapter.detach_encryptor(driver, connection_info, instance, encryption, destroy_secrets)
