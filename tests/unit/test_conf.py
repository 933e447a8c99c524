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

import pathlib
import re
import subprocess
import sys

from oslo_config import cfg
import pytest

from volumedrivers.conf import opts

ROOT = pathlib.Path(__file__).parents[2]
# Names, groups and defaults that mean in Nova what they mean here.
NOVA = {
    'volume_use_multipath': False,
    'volume_enforce_multipath': False,
    'num_volume_scan_tries': 5,
    'iscsi_iface': None,
    'num_iser_scan_tries': 5,
    'iser_use_multipath': False,
    'num_nvme_discover_tries': 5,
    'use_default_aio_mode_for_volumes': False,
    'disk_cachemodes': [],
    'disk_prefix': None,
    'device_detach_attempts': 8,
    'device_detach_timeout': 20,
    'nfs_mount_options': None,
    'smbfs_mount_options': '',
    'quobyte_client_cfg': None,
    'vzstorage_mount_user': 'stack',
    'vzstorage_mount_group': 'qemu',
    'vzstorage_mount_perms': '0770',
    'vzstorage_cache_path': None,
    'vzstorage_mount_opts': [],
    'rbd_user': None,
    'rbd_secret_uuid': None,
}


def test_the_committed_sample_is_up_to_date(tmp_path):
    sample = tmp_path / 'sample'
    subprocess.run(
        [
            sys.executable,
            '-c',
            'import sys; from oslo_config.generator import main; main(sys.argv[1:])',
            '--config-file',
            'etc/volumedrivers/config-generator.conf',
            '--output-file',
            str(sample),
        ],
        cwd=ROOT,
        check=True,
    )
    committed = ROOT / 'etc/volumedrivers/volumedrivers.conf.sample'
    assert committed.read_text() == sample.read_text(), (
        'run oslo-config-generator --config-file etc/volumedrivers/config-generator.conf'
    )


@pytest.mark.parametrize('option', opts.OPTIONS, ids=lambda option: option.name)
def test_help_says_what_follows(option):
    text = option.help
    assert len(text) > 50
    assert re.fullmatch(r'[^\s].*\.', text)
    assert '  ' not in text


def test_options_of_nova_mean_what_they_mean_in_nova(tmp_path):
    pasted = tmp_path / 'nova.conf'
    pasted.write_text(
        '[volumedrivers]\nvolume_use_multipath = true\ndisk_cachemodes = file=none\n'
    )
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    assert {name: conf.volumedrivers[name] for name in NOVA} == NOVA
    conf([], default_config_files=[str(pasted)])
    assert conf.volumedrivers.volume_use_multipath is True
    assert conf.volumedrivers.disk_cachemodes == ['file=none']


def test_nothing_is_registered_with_the_global_object():
    code = (
        'from oslo_config import cfg; import volumedrivers.conf.opts; '
        'print("volumedrivers" in cfg.CONF)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'False\n'


def test_mount_points_follow_the_state_path():
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf.set_override('state_path', '/srv/x', group='volumedrivers')
    assert conf.volumedrivers.nfs_mount_point_base == '/srv/x/mnt'
