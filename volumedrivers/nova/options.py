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

"""The options of this package as Nova's own configuration gives them."""

import os
import typing

from oslo_config import cfg
from oslo_log import log as logging

from volumedrivers.conf import opts

LOG = logging.getLogger(__name__)

GROUP = opts.GROUP.name
# Below Nova's state_path, where the user of nova-compute may write.
STATE = 'volumedrivers'

#: the options of Nova's group [libvirt] whose values count, by their name here and there
OF_LIBVIRT = (
    'disk_cachemodes',
    'disk_prefix',
    'iscsi_iface',
    'iser_use_multipath',
    'nfs_mount_options',
    'nfs_mount_point_base',
    'num_iser_scan_tries',
    'num_nvme_discover_tries',
    'num_volume_scan_tries',
    'quobyte_client_cfg',
    'quobyte_mount_point_base',
    'rbd_secret_uuid',
    'rbd_user',
    'smbfs_mount_options',
    'smbfs_mount_point_base',
    'use_default_aio_mode_for_volumes',
    'virt_type',
    'volume_enforce_multipath',
    'volume_use_multipath',
    'vzstorage_cache_path',
    'vzstorage_log_path',
    'vzstorage_mount_group',
    'vzstorage_mount_opts',
    'vzstorage_mount_perms',
    'vzstorage_mount_point_base',
    'vzstorage_mount_user',
)
#: those of Nova's group [DEFAULT]
OF_DEFAULT = ('host', 'my_block_storage_ip')
_LOCK_PATHS = ('os_brick', 'oslo_concurrency')


def make_conf(nova: cfg.ConfigOpts, *, uri: str) -> cfg.ConfigOpts:
    """Return this package's configuration for a process that has Nova's.

    What both have an option for, Nova's says.  The rest is in a group
    [volumedrivers] of Nova's configuration files, or at its default;
    ``state_path`` is below Nova's unless it is set there.

    :param nova: Nova's configuration, with its groups registered
    :param uri: of the libvirt that Nova uses
    """
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    files, directories = _files(nova)
    conf(
        args=[],
        project='nova',
        default_config_files=files,
        default_config_dirs=directories,
    )
    for name in OF_LIBVIRT:
        _take(conf, name, nova.libvirt[name])
    for name in OF_DEFAULT:
        _take(conf, name, nova[name])
    _take(conf, 'connection_uri', uri)
    if not _is_set(conf, 'state_path'):
        conf.set_override('state_path', os.path.join(nova.state_path, STATE), group=GROUP)
    for group in _LOCK_PATHS:
        if group in nova and nova[group].lock_path:
            # For those who locked here before, and for Cinder's services.
            _take(conf, 'lock_path', nova[group].lock_path)
            break
    return conf


def as_file(conf: cfg.ConfigOpts) -> str:
    """Return what differs from the defaults, as a file for ``volumedrivers --config-file``."""
    lines = [f'[{GROUP}]']
    for option in opts.OPTIONS:
        value = conf[GROUP][option.dest]
        if value is None or value == option.default:
            continue
        shown = '***' if option.secret else _written(value)
        lines.append(f'{option.name} = {shown}')
    return '\n'.join([*lines, ''])


def _written(value: typing.Any) -> str:
    escaped = _escaped(value)
    return ','.join(map(str, escaped)) if isinstance(escaped, list) else str(escaped)


def _take(conf: cfg.ConfigOpts, name: str, value: typing.Any) -> None:
    """Let Nova's value count, and say so where somebody has set another one."""
    if _is_set(conf, name) and conf[GROUP][name] != value:
        LOG.warning(
            "Option %(name)s of group [volumedrivers] is %(own)s; Nova's %(nova)s is used",
            {'name': name, 'own': conf[GROUP][name], 'nova': value},
        )
    conf.set_override(name, _escaped(value), group=GROUP)


def _escaped(value: typing.Any) -> typing.Any:
    """Return a value in which no dollar begins the name of another option any more."""
    if isinstance(value, list):
        return list(map(_escaped, value))
    return value.replace('$', '$$') if isinstance(value, str) else value


def _is_set(conf: cfg.ConfigOpts, name: str) -> bool:
    place = conf.get_location(name, GROUP)
    return place is not None and place.location is cfg.Locations.user


def _files(nova: cfg.ConfigOpts) -> tuple[list[str], list[str]]:
    try:
        return list(nova.config_file or ()), list(nova.config_dir or ())
    except cfg.NoSuchOptError:
        # Nova's configuration was not read from files, as in its tests.
        return [], []
