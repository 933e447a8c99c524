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

import os

from oslo_config import cfg
import pytest

from volumedrivers.conf import opts
from volumedrivers.host import requirements
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.registry import Registry


def test_tool_that_is_there():
    assert requirements.Tool('sh', 'dash').missing() is None
    assert requirements.Tool('/bin/sh', 'dash').missing() is None


@pytest.mark.parametrize(
    ('package', 'advice'),
    [
        ('open-iscsi', 'run "apt-get install open-iscsi"'),
        ('the PowerFlex SDC package', 'it comes with the PowerFlex SDC package'),
    ],
)
def test_tool_that_is_missing(package, advice):
    reason = requirements.Tool('no-such-tool', package).missing()

    assert reason == f'no-such-tool is not installed; {advice}'


def test_tools_of_root_are_found_by_anybody(monkeypatch):
    monkeypatch.setenv('PATH', '/nonexistent')

    assert '/usr/sbin' in requirements.SEARCH_PATH.split(os.pathsep)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr('platform.release', lambda: '6.1.0-test')
    (tmp_path / 'sys/module').mkdir(parents=True)
    folder = tmp_path / 'modules/6.1.0-test'
    folder.mkdir(parents=True)
    (folder / 'modules.dep').write_text(
        'kernel/drivers/scsi/iscsi_tcp.ko.xz: kernel/drivers/scsi/libiscsi.ko.xz\n'
        'kernel/drivers/nvme/host/nvme-fabrics.ko:\n'
    )
    (folder / 'modules.builtin').write_text('kernel/fs/fuse/fuse.ko\n')

    def module(name, **options):
        return requirements.KernelModule(
            name, sysfs=str(tmp_path / 'sys'), modules=str(tmp_path / 'modules'), **options
        )

    module.root = tmp_path
    return module


@pytest.mark.parametrize('name', ['iscsi_tcp', 'nvme_fabrics', 'nvme-fabrics', 'fuse'])
def test_module_that_can_be_had(module, name):
    assert module(name).missing() is None


def test_module_that_is_loaded(module):
    (module.root / 'sys/module/scini').mkdir()

    assert module('scini').missing() is None


@pytest.mark.parametrize('name', ['ib_iser', 'libiscsi', 'iscsi', 'tcp'])
def test_module_that_is_missing(module, name):
    reason = module(name).missing()

    assert f'kernel 6.1.0-test has no module {name}; boot a kernel' in reason


def test_module_that_no_kernel_has(module):
    reason = module('scini', package='the PowerFlex SDC package').missing()

    assert 'no module scini; it comes with the PowerFlex SDC package' in reason


def test_module_of_a_kernel_without_any(module, monkeypatch):
    monkeypatch.setattr('platform.release', lambda: '7.0-custom')

    assert 'kernel 7.0-custom' in module('fuse').missing()


def test_directory(tmp_path):
    directory = requirements.Directory(str(tmp_path), 'start the service')

    assert directory.missing() == 'start the service'
    (tmp_path / 'entry').touch()
    assert directory.missing() is None
    assert requirements.Directory(str(tmp_path / 'none'), 'install it').missing() == 'install it'


def test_everything_that_is_missing_is_named(tmp_path):
    there = requirements.Tool('sh', 'dash')
    empty = requirements.Directory(str(tmp_path), 'plug it in')

    assert requirements.unmet([]) is None
    assert requirements.unmet([there]) is None
    assert requirements.unmet([there, empty, requirements.Tool('none', 'x')]) == (
        'plug it in; none is not installed; run "apt-get install x"'
    )


@pytest.fixture
def registry():
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    return Registry(make_context(conf))


@pytest.mark.parametrize(
    ('driver_volume_type', 'reason'),
    [
        ('iscsi', 'iscsiadm is not installed; run "apt-get install open-iscsi"'),
        ('iser', 'iscsiadm is not installed'),
        ('fibre_channel', 'there is no Fibre Channel adapter'),
        ('nvmeof', 'nvme is not installed; run "apt-get install nvme-cli"'),
        ('nvme', 'nvme is not installed'),
        ('lightos', 'the discovery client is not installed'),
        ('scaleio', 'drv_cfg is not installed; it comes with the PowerFlex SDC package'),
        ('storpool', 'the storpool_block service does not run'),
        ('huaweisdshypervisor', '/usr/local/bin/sds/sds_cli is not installed'),
    ],
)
def test_bare_host_is_explained(registry, monkeypatch, driver_volume_type, reason):
    monkeypatch.setattr(requirements, 'SEARCH_PATH', '/nonexistent')
    monkeypatch.delenv('HUAWEISDSHYPERVISORCLI_PATH', raising=False)
    monkeypatch.setattr(
        'os.listdir', lambda path='.': (_ for _ in ()).throw(FileNotFoundError(path))
    )

    assert reason in registry.why_not(driver_volume_type)


def test_multipath_is_asked_for_where_it_is_used(registry, monkeypatch):
    monkeypatch.setattr(requirements, 'SEARCH_PATH', '/nonexistent')
    conf = registry.context.conf
    assert 'multipath-tools' not in registry.why_not('iscsi')

    conf.set_override('volume_use_multipath', True, group='volumedrivers')

    assert 'run "apt-get install multipath-tools"' in registry.why_not('iscsi')
    assert 'multipath-tools' not in registry.why_not('nvmeof')


def test_local_needs_nothing(registry):
    assert registry.why_not('local') is None


def test_iscsi_without_the_kernel_s_initiator_has_another_way(registry, monkeypatch):
    monkeypatch.setattr(requirements, 'SEARCH_PATH', '/nonexistent')

    assert registry.why_not('iscsi').endswith('; or set iscsi_client = qemu')
