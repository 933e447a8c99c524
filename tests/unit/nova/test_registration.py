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

"""Whose drivers are in Nova's table, and which Nova is refused."""

import importlib.metadata
import logging
import typing

import nova.monkey_patch
from nova.virt.libvirt import config
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt.volume import volume
from oslo_utils import importutils
import pytest

from volumedrivers import exception
from volumedrivers.libvirt import registry
from volumedrivers.libvirt.registry import DriverEntry
from volumedrivers.nova import drivers
from volumedrivers.nova import interface
from volumedrivers.nova import registration
from volumedrivers.nova.adapter import NovaVolumeDriver

NOVAS = dict(libvirt_driver.VOLUME_DRIVERS)


def whose(table: dict[str, str], name: str) -> str:
    return 'ours' if drivers.type_of(table[name]) == name else 'novas'


def test_every_installed_type_is_ours(table: dict[str, str]) -> None:
    ours = {name for name in table if whose(table, name) == 'ours'}
    assert ours == {entry.name for entry in registry.installed()}
    # Nova's driver for its own tests is nobody else's.
    assert set(table) - ours == {'fake'}
    assert {'glusterfs', 'nvme'} <= ours - set(NOVAS)


def test_each_name_leads_to_a_class_of_its_own(table: dict[str, str]) -> None:
    classes = {name: importutils.import_class(path) for name, path in table.items()}
    ours = {name: made for name, made in classes.items() if issubclass(made, NovaVolumeDriver)}
    assert len(set(ours.values())) == len(ours) == len(table) - 1
    assert all(made.driver_volume_type == name for name, made in ours.items())
    assert importutils.import_class(table['iscsi']) is classes['iscsi']


def test_some_types(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        registered = registration.register(['rbd', 'nfs'])
    table = libvirt_driver.VOLUME_DRIVERS
    assert registered.types == ('nfs', 'rbd')
    assert whose(table, 'rbd') == 'ours'
    assert table['iscsi'] == NOVAS['iscsi']
    assert 'for nfs, rbd, and its own for' in caplog.text
    assert 'iscsi' in caplog.text

    registered.unregister()
    assert table == NOVAS
    registered.unregister()
    assert table == NOVAS


def test_type_that_nobody_has_is_refused_before_anything_is_done() -> None:
    with pytest.raises(exception.VolumeDriverNotFound, match='punched-cards'):
        registration.register(['rbd', 'punched-cards'])
    assert libvirt_driver.VOLUME_DRIVERS == NOVAS


@pytest.mark.parametrize(
    ('entries', 'error'),
    [
        ([('rbd', 'a:A'), ('rbd', 'b:B')], exception.PluginConflict),
        ([('two words', 'a:A')], exception.PluginRefused),
        ([('with.dot', 'a:A')], exception.PluginRefused),
    ],
)
def test_plugin_that_nova_could_not_name(
    monkeypatch: pytest.MonkeyPatch,
    entries: list[tuple[str, str]],
    error: type[Exception],
) -> None:
    found = tuple(DriverEntry(name, value, 'vendor 1.0') for name, value in entries)
    monkeypatch.setattr(registry, 'installed', lambda: found)
    with pytest.raises(error, match=r'vendor 1\.0'):
        registration.register()
    assert libvirt_driver.VOLUME_DRIVERS == NOVAS


def test_third_partys_type_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (DriverEntry('acme', 'acme:Driver', 'acme 1.0'),)
    monkeypatch.setattr(registry, 'installed', lambda: found)
    registered = registration.register()
    assert whose(libvirt_driver.VOLUME_DRIVERS, 'acme') == 'ours'
    registered.unregister()
    assert libvirt_driver.VOLUME_DRIVERS == NOVAS


def test_installed_nova_is_known() -> None:
    assert list(interface.differences()) == []
    assert interface.version_of_nova() == importlib.metadata.version('nova')


def _keeps_nothing(self: object, *arguments: object) -> None:
    raise AttributeError('_volume_api')


class WithoutAlias(config.LibvirtConfigGuestDisk):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        del self.alias


@pytest.mark.parametrize(
    ('owner', 'name', 'value', 'told'),
    [
        (
            volume.LibvirtBaseVolumeDriver,
            'connect_volume',
            lambda self, connection_info, instance, mountpoint: None,
            r'connect_volume\(self, connection_info, instance, mountpoint\) is not '
            r'connect_volume\(self, connection_info, instance\)',
        ),
        (
            volume.LibvirtBaseVolumeDriver,
            'disconnect_volume',
            lambda self, connection_info, instance: None,
            'force=False',
        ),
        (
            libvirt_driver.LibvirtDriver,
            '_should_disconnect_target',
            _keeps_nothing,
            '_should_disconnect_target',
        ),
        (libvirt_driver, 'VOLUME_DRIVERS', [], 'no table'),
        (libvirt_driver, 'VOLUME_DRIVERS', {'rbd': object}, 'no table'),
        (nova.monkey_patch, 'MONKEY_PATCHED', True, 'concurrency_backend'),
    ],
    ids=['argument', 'force', 'counting', 'list', 'classes', 'eventlet'],
)
def test_nova_that_differs_is_refused(
    monkeypatch: pytest.MonkeyPatch, owner: typing.Any, name: str, value: object, told: str
) -> None:
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(exception.NovaUnknown, match=told):
        registration.register()


def test_signature_of_some_releases_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        libvirt_driver.LibvirtDriver,
        '_get_volume_config',
        lambda self, instance, connection_info, disk_info: None,
    )
    assert list(interface.differences()) == []


def test_method_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(libvirt_driver.LibvirtDriver, '_set_cache_mode')
    with pytest.raises(exception.NovaUnknown, match='_set_cache_mode is missing') as caught:
        registration.register()
    assert importlib.metadata.version('nova') in str(caught.value)
    assert libvirt_driver.VOLUME_DRIVERS == NOVAS


def test_attribute_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, names), *others = interface._ATTRIBUTES
    monkeypatch.setattr(interface, '_ATTRIBUTES', ((WithoutAlias, names), *others))
    assert list(interface.differences()) == ['WithoutAlias has no attribute alias']


def test_option_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface.options, 'OF_LIBVIRT', ('nfs_mount_options', 'no_such_option'))
    assert list(interface.differences()) == ['group [libvirt] has no option no_such_option']


def test_module_has_nothing_else() -> None:
    with pytest.raises(AttributeError, match='nothing'):
        drivers.nothing  # noqa: B018
    assert drivers.type_of('nova.virt.libvirt.volume.nfs.LibvirtNFSVolumeDriver') is None
