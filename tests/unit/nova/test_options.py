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

"""This package's options as Nova's configuration gives them."""

from collections.abc import Callable
from collections.abc import Iterator
import logging
import pathlib

from nova.conf import libvirt as nova_libvirt
from oslo_config import cfg
import pytest

from volumedrivers.conf import opts
from volumedrivers.nova import options

URI = 'qemu:///system'


MakeConf = Callable[..., cfg.ConfigOpts]


@pytest.fixture
def nova_conf() -> Iterator[MakeConf]:
    """Make objects with Nova's own groups, as far as they count here."""
    made = []

    def make(*arguments: str) -> cfg.ConfigOpts:
        conf = cfg.ConfigOpts()
        made.append(conf)
        nova_libvirt.register_opts(conf)
        conf.register_opts(
            [
                cfg.StrOpt('state_path', default='/var/lib/nova'),
                cfg.StrOpt('host', default='compute-1'),
                cfg.StrOpt('my_block_storage_ip', default='192.0.2.9'),
                cfg.StrOpt('my_ip', default='192.0.2.1'),
            ]
        )
        conf.register_opt(cfg.StrOpt('lock_path'), group='oslo_concurrency')
        conf(list(arguments), project='nova', default_config_files=[], default_config_dirs=[])
        return conf

    yield make
    for conf in made:
        # Nova's group keeps the values, whichever object they were set in.
        for name in options.OF_LIBVIRT:
            conf.clear_override(name, group='libvirt')


def test_every_option_that_both_have_is_novas(nova_conf: MakeConf) -> None:
    """But libvirt's URI, which Nova works out, and what is not done for Nova."""
    own = {option.name for option in opts.OPTIONS}
    shared = own & set(nova_conf().libvirt)
    not_here = {'connection_uri', 'device_detach_attempts', 'device_detach_timeout'}
    assert shared - not_here == set(options.OF_LIBVIRT)


@pytest.mark.parametrize('name', options.OF_LIBVIRT)
def test_value_is_taken(nova_conf: MakeConf, name: str) -> None:
    nova = nova_conf()
    option = next(option for option in opts.OPTIONS if option.name == name)
    other: object = {
        cfg.BoolOpt: True,
        cfg.IntOpt: 17,
        cfg.ListOpt: ['file=writeback'],
        cfg.StrOpt: 'qemu' if name == 'virt_type' else '/somewhere/else',
    }[type(option)]
    if name == 'vzstorage_mount_perms':
        other = '0700'
    nova.set_override(name, other, group='libvirt')
    assert options.make_conf(nova, uri=URI).volumedrivers[name] == other


def test_host_is_the_one_that_nova_tells_cinder(nova_conf: MakeConf) -> None:
    own = options.make_conf(nova_conf(), uri='qemu+unix:///system').volumedrivers
    assert (own.host, own.my_block_storage_ip) == ('compute-1', '192.0.2.9')
    assert own.connection_uri == 'qemu+unix:///system'


def test_state_is_below_novas(nova_conf: MakeConf, tmp_path: pathlib.Path) -> None:
    assert options.make_conf(nova_conf(), uri=URI).volumedrivers.state_path == (
        '/var/lib/nova/volumedrivers'
    )
    file = tmp_path / 'nova.conf'
    file.write_text('[volumedrivers]\nstate_path = /srv/volumes\nconnect_timeout = 77\n')
    own = options.make_conf(nova_conf('--config-file', str(file)), uri=URI).volumedrivers
    # What Nova has no option for is in its files, in a group of this package.
    assert (own.state_path, own.connect_timeout) == ('/srv/volumes', 77)


def test_mounts_are_where_nova_mounts(nova_conf: MakeConf, tmp_path: pathlib.Path) -> None:
    file = tmp_path / 'nova.conf'
    file.write_text(
        '[DEFAULT]\nstate_path = /srv/nova\n[libvirt]\nsmbfs_mount_point_base = $state_path/smb\n'
    )
    nova = nova_conf('--config-file', str(file))
    own = options.make_conf(nova, uri=URI).volumedrivers
    assert own.nfs_mount_point_base == nova.libvirt.nfs_mount_point_base
    assert own.smbfs_mount_point_base == '/srv/nova/smb'


def test_locks_are_where_nova_locks(nova_conf: MakeConf) -> None:
    nova = nova_conf()
    assert options.make_conf(nova, uri=URI).volumedrivers.lock_path is None
    nova.set_override('lock_path', '/run/nova/locks', group='oslo_concurrency')
    assert options.make_conf(nova, uri=URI).volumedrivers.lock_path == '/run/nova/locks'


def test_another_value_is_told(
    nova_conf: MakeConf, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / 'nova.conf'
    file.write_text('[volumedrivers]\nnum_volume_scan_tries = 9\n')
    with caplog.at_level(logging.WARNING):
        conf = options.make_conf(nova_conf('--config-file', str(file)), uri=URI)
    assert conf.volumedrivers.num_volume_scan_tries == 5
    assert 'num_volume_scan_tries' in caplog.text


def test_file_for_the_command_line_says_the_same(
    nova_conf: MakeConf, tmp_path: pathlib.Path
) -> None:
    nova = nova_conf()
    nova.set_override('volume_use_multipath', True, group='libvirt')
    nova.set_override('disk_cachemodes', ['file=none', 'block=none'], group='libvirt')
    nova.set_override('nfs_mount_options', 'vers=4.2,$$x', group='libvirt')
    ours = options.make_conf(nova, uri=URI)
    file = tmp_path / 'volumedrivers.conf'
    file.write_text(options.as_file(ours))

    assert ours.volumedrivers.nfs_mount_options == 'vers=4.2,$x'
    read = cfg.ConfigOpts()
    opts.register_opts(read)
    read(['--config-file', str(file)], project='volumedrivers')
    for option in opts.OPTIONS:
        assert read.volumedrivers[option.dest] == ours.volumedrivers[option.dest], option.name
