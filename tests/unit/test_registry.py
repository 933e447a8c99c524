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

import importlib
import subprocess
import sys
import textwrap
import threading
import types

import pytest
from stevedore.extension import ExtensionManager

from volumedrivers import exception
from volumedrivers.libvirt import registry as registry_module
from volumedrivers.libvirt.registry import Registry

GOOD = """
from volumedrivers.libvirt.driver import VolumeDriver

class Driver(VolumeDriver):
    API_VERSION = (1, 0)
    made = 0
    def __init__(self, context):
        super().__init__(context)
        Driver.made += 1
    def connect_volume(self, connection_info, attachment): ...
    def disconnect_volume(self, connection_info, attachment, *, volume=None, force=False): ...
    def extend_volume(self, connection_info, attachment, requested_size, *, volume=None): ...
"""

FAMILY = """
from volumedrivers.libvirt.block_device import BlockDeviceDriver

class Driver(BlockDeviceDriver):
    PROTOCOL = 'LOCAL'
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with one plug-in, as pip leaves it on the disk."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def install(name, source, *, distribution='vendor', value=None, folder=None):
        module = f'plugin_{name}_{distribution}'
        names.append(module)
        root = tmp_path / (folder or '.')
        info = root / f'{distribution}-1.2.dist-info'
        info.mkdir(parents=True, exist_ok=True)
        (root / f'{module}.py').write_text(textwrap.dedent(source))
        (info / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n'
        )
        with (info / 'entry_points.txt').open('a') as entry_points:
            entry_points.write(
                f'[{registry_module.NAMESPACE}]\n{name} = {value or module + ":Driver"}\n'
            )
        if folder:
            monkeypatch.syspath_prepend(str(root))
        importlib.invalidate_caches()
        # stevedore looks once a process; what was there before is put back after.
        monkeypatch.setattr(ExtensionManager, 'ENTRY_POINT_CACHE', {})
        return module

    yield install
    for name in names:
        sys.modules.pop(name, None)


def test_entries_are_known_without_loading_a_driver(install):
    module = install('vendor', 'raise AssertionError("loaded")')

    entries = Registry(None).entries()

    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    by_name = {entry.name: entry for entry in entries}
    assert by_name['vendor'].value == f'{module}:Driver'
    assert by_name['vendor'].distribution == 'vendor 1.2'
    assert {'iscsi', 'nvmeof', 'nvme', 'fibre_channel', 'rbd', 'nfs', 'local'} <= set(by_name)
    assert by_name['nvme'].value == by_name['nvmeof'].value
    assert module not in sys.modules


def test_driver_is_made_once_for_all_threads(install):
    module = install('vendor', GOOD)
    registry = Registry('context')
    drivers = []
    threads = [
        threading.Thread(target=lambda: drivers.append(registry.get('vendor'))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(drivers) == 8
    assert len(set(map(id, drivers))) == 1
    assert sys.modules[module].Driver.made == 1
    assert drivers[0].context == 'context'


def test_class_that_only_behaves_as_a_driver_is_one(install):
    source = GOOD.replace('(VolumeDriver)', '').replace('super().__init__(context)', '')
    install(
        'vendor',
        source + '    CAPABILITIES = frozenset()\n'
        '    def get_disk(self, connection_info, volume, disk_info): ...\n'
        '    def why_not(self): return "no storage"\n',
    )

    assert Registry(None).why_not('vendor') == 'no storage'


DUCK = (
    GOOD.replace('(VolumeDriver)', '').replace('super().__init__(context)', '')
    + '    CAPABILITIES = frozenset()\n'
    '    def get_disk(self, connection_info, volume, disk_info): ...\n'
    '    def why_not(self): return None\n'
)
REMAINS = '    def remains(self, connection_info, attachment, *, volume=None): return "mine"\n'


def test_plug_in_of_before_gets_the_later_methods(install):
    install('vendor', DUCK)
    driver = Registry(None).get('vendor')
    info = types.SimpleNamespace(driver_volume_type='vendor')
    volume = types.SimpleNamespace(identity='the recorded one')

    assert type(driver).__name__ == 'Driver'
    assert driver.lock_names(info) == ('vendor',)
    assert driver.current_identity(info, volume) == 'the recorded one'
    assert driver.remains(info, 'guest') == ()
    assert driver.plan_connect(info, 'guest') == ('connect a volume of type vendor',)
    assert driver.plan_disconnect(info, 'guest') == ('disconnect a volume of type vendor',)


def test_plug_in_of_before_keeps_the_later_method_it_has(install):
    install('vendor', DUCK + REMAINS)

    assert Registry(None).get('vendor').remains(None, 'guest') == 'mine'


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        (DUCK + REMAINS.replace('*, volume=None', 'host'), 'its remains.* does not fit remains'),
        (DUCK.replace('(1, 0)', '(1, 1)'), 'lock_names is missing; expected lock_names'),
        (GOOD + '    plan_connect = 3\n', 'plan_connect is 3; expected plan_connect'),
    ],
)
def test_later_methods_are_compared_where_they_are_or_have_to_be(install, source, reason):
    install('vendor', source)

    with pytest.raises(exception.PluginRefused, match=reason):
        Registry(None).get('vendor')


def test_version_may_come_from_a_base_of_the_vendor(install):
    base = FAMILY.replace('Driver(', 'Base(') + '    API_VERSION = (1, 0)\n'
    install('vendor', base + 'class Driver(Base): ...\n')

    assert Registry(None).get('vendor') is not None


def test_plug_in_that_cannot_say_why_not(install):
    install('vendor', GOOD + '    def why_not(self): raise OSError("no storage")\n')

    assert Registry(None).why_not('vendor') == 'its why_not failed: OSError: no storage'


def test_driver_that_nobody_registered():
    with pytest.raises(exception.VolumeDriverNotFound) as caught:
        Registry(None).get('aoe')

    assert 'iscsi' in caught.value.known
    with pytest.raises(exception.VolumeDriverNotFound):
        Registry(None).why_not('aoe')


def test_two_packages_with_one_name_conflict(install):
    install('vendor', GOOD, distribution='one')
    install('vendor', GOOD, distribution='two')
    registry = Registry(None)

    with pytest.raises(exception.PluginConflict, match=r'of one 1\.2.*of two 1\.2'):
        registry.get('vendor')
    assert len([entry for entry in registry.entries() if entry.name == 'vendor']) == 2
    assert 'registered more than once' in registry.why_not('vendor')


def test_conflict_of_one_name_harms_no_other(install):
    install('iscsi', GOOD, distribution='one')
    install('vendor', GOOD, distribution='one')

    assert Registry(None).get('vendor') is not None
    with pytest.raises(exception.PluginConflict):
        Registry(None).get('iscsi')


def test_package_that_is_on_the_path_twice_does_not_conflict(install):
    value = f'{install("vendor", GOOD)}:Driver'
    install('vendor', GOOD, folder='again', value=value)

    assert Registry(None).get('vendor') is not None


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        ('import no_such_module', 'cannot be loaded: ModuleNotFoundError'),
        ('raise SystemError("broken")', 'cannot be loaded: SystemError: broken'),
        ('', 'cannot be loaded: AttributeError'),
        ('Driver = 3', 'it is 3, not a class'),
        (GOOD.replace('    API_VERSION = (1, 0)\n', ''), 'no API_VERSION'),
        (FAMILY, r'no API_VERSION of its own; .* add API_VERSION = \(1, 1\) to the class'),
        (GOOD + '    CAPABILITIES = ["extend"]\n', "are \\['extend'\\]; expected a frozenset"),
        (GOOD + '    CAPABILITIES = frozenset(["extend"])\n', 'a frozenset of Capability'),
        (GOOD.replace('(1, 0)', '(2, 0)'), 'written for API 2.0; this package has 1.1'),
        (GOOD.replace('(1, 0)', '(1, 7)'), 'needs API 1.7.*upgrade volumedrivers'),
        (GOOD.replace('(1, 0)', '"1.0"'), "API_VERSION is '1.0'; expected two numbers"),
        (GOOD.replace('(1, 0)', '(True, 0)'), 'expected two numbers'),
        (
            GOOD.replace('disconnect_volume', 'disconnect'),
            'disconnect_volume is missing; expected disconnect_v',
        ),
        (GOOD.replace('(VolumeDriver)', '') + '    CAPABILITIES = frozenset()\n',
         'get_disk is missing'),
        (
            GOOD.replace('volume=None, force=False', 'force=False'),
            r'its disconnect_volume\(self, connection_info, attachment, \*, force=False\) does '
            r'not fit disconnect_volume\(self, connection_info, attachment, \*, volume=None, '
            r'force=False\)',
        ),
        (GOOD.replace('volume=None, force=False', 'volume=None, **options'), 'does not fit'),
        (GOOD.replace('*, volume=None, force', '*, volume, force'), 'does not fit'),
        (GOOD.replace('connection_info, attachment)', 'attachment, connection_info)'),
         'does not fit'),
        (GOOD.replace('connection_info, attachment)', 'connection_info, attachment, host)'),
         r'its connect_volume\(self, connection_info, attachment, host\) does not fit'),
        (GOOD.replace('connection_info, attachment)', 'connection_info, attachment, /)'),
         'does not fit'),
        (GOOD + '    why_not = 3\n', 'why_not is 3; expected why_not'),
        (GOOD.replace('super().__init__(context)', 'raise OSError("no")'),
         'cannot be made: OSError: no'),
        (GOOD.replace('def __init__(self, context)', 'def __init__(self)'), 'cannot be made'),
    ],
)  # fmt: skip
def test_plug_in_that_is_refused(install, source, reason):
    install('vendor', source)
    registry = Registry(None)

    with pytest.raises(exception.PluginRefused, match=reason) as caught:
        registry.get('vendor')

    assert caught.value.name == 'vendor'
    assert 'of vendor 1.2' in caught.value.value
    assert 'plug-in vendor' in registry.why_not('vendor')


def test_refusal_keeps_the_cause(install):
    install('vendor', 'import no_such_module')

    with pytest.raises(exception.PluginRefused) as caught:
        Registry(None).get('vendor')

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_options_of_a_plug_in_s_own_are_allowed(install):
    install('vendor', GOOD.replace('force=False', 'force=False, wait=3, **more'))

    assert Registry(None).get('vendor') is not None


def test_reason_of_the_driver_itself_is_not_changed(install):
    install('vendor', GOOD.replace(
        'super().__init__(context)',
        'from volumedrivers import exception\n'
        '        raise exception.ToolMissing(tool="vendorctl", package="vendor")'))  # fmt: skip

    with pytest.raises(exception.ToolMissing):
        Registry(None).get('vendor')
    assert Registry(None).why_not('vendor') == (
        'vendorctl is not installed; install the package vendor'
    )


@pytest.mark.parametrize('entry', Registry(None).entries(), ids=lambda entry: entry.name)
def test_drivers_of_this_package_fit_their_own_contract(entry):
    if not entry.distribution.startswith('volumedrivers'):
        return
    module, _, name = entry.value.partition(':')

    plugin = getattr(importlib.import_module(module), name)

    assert registry_module.reason_to_refuse(plugin) is None


def test_import_of_the_registry_is_light():
    heavy = 'os_brick', 'libvirt', 'lxml', 'oslo_config', 'eventlet', 'stevedore'
    code = f'import volumedrivers.libvirt.registry, sys; print(*set(sys.modules) & set({heavy}))'

    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)

    assert done.stdout == '\n'


def test_extend_volume_may_be_left_out(install):
    extend = next(line for line in GOOD.splitlines() if 'extend_volume' in line)
    install('vendor', GOOD.replace(extend, ''))
    info = types.SimpleNamespace(driver_volume_type='vendor')

    with pytest.raises(exception.ExtendVolumeNotSupported, match='type vendor cannot be extended'):
        Registry(None).get('vendor').extend_volume(info, 'a', 1)
