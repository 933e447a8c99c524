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

"""The configuration that privileged functions go by.

A privileged function must not believe its caller where it may mount.  In the
helper process the options are read once more from the configuration files the
helper was started with, and only from those that nobody but root can change:
the file and every directory above it belong to root, and neither the group
nor others may write.  A file that fails this is left out, so its options have
their defaults; the caller cannot widen what is allowed by naming a file of
its own.  The environment is not read.

As root without a helper the configuration is the one given to ``setup``:
there is nobody to protect from.
"""

from collections.abc import Iterator
import glob
import os
import stat
import typing

from oslo_config import cfg

from volumedrivers.conf import opts

_in_process: cfg.ConfigOpts | None = None
_from_files: cfg.ConfigOpts | None = None

# Each names a directory below which shares are mounted.
# Whose volume drivers these are loaded into says in its own groups where it mounts.
_NOVA = 'libvirt'

# os-brick's own, with its default.
_BRICK = 'os_brick'
_DISCOVERY_FOLDER = cfg.StrOpt(
    'lightos_discovery_client_dir_path', default='/etc/discovery-client/discovery.d/'
)

BASES = tuple(option.name for option in opts.OPTIONS if option.name.endswith('_mount_point_base'))


def use(conf: cfg.ConfigOpts | None) -> None:
    """Take this configuration: there is no helper process.

    It is no entry point, so a client of the helper cannot call it.
    """
    global _in_process  # noqa: PLW0603 - one process, one configuration
    _in_process = conf


def only_root_writes(path: str) -> bool:
    """Tell whether a file, and the way to it, can be changed by root alone."""
    path = os.path.realpath(path)
    while True:
        try:
            found = os.stat(path)
        except OSError:
            return False
        # A sticky directory such as /tmp still lets anybody create the name
        # first; so it is not trusted either.
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        if path == '/':
            return True
        path = os.path.dirname(path)


def _files() -> tuple[list[str], list[str]]:
    """Return the files this process was started with: (trusted, not)."""
    try:
        files = list(cfg.CONF.config_file or ())
        for directory in cfg.CONF.config_dir or ():
            files += sorted(glob.glob(os.path.join(directory, '*.conf')))
    except cfg.NoSuchOptError:
        files = []
    trusted = [name for name in files if only_root_writes(name)]
    return trusted, [name for name in files if name not in trusted]


def configuration() -> cfg.ConfigOpts:
    """Return the options a privileged function goes by."""
    global _from_files  # noqa: PLW0603 - read once, like any configuration
    if _in_process is not None:
        return _in_process
    if _from_files is None:
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf.register_opt(cfg.StrOpt('state_path'))
        conf.register_opts([cfg.StrOpt(name) for name in BASES], group=_NOVA)
        conf.register_opt(_DISCOVERY_FOLDER, group=_BRICK)
        trusted, _ = _files()
        conf(
            args=[],
            project='volumedrivers',
            default_config_files=trusted,
            default_config_dirs=[],
            use_env=False,
        )
        _from_files = conf
    return _from_files


def ignored_files() -> tuple[str, ...]:
    """Return the configuration files that were left out, for messages."""
    return () if _in_process is not None else tuple(_files()[1])


def mount_point_bases() -> tuple[str, ...]:
    """Return the directories below which shares may be mounted."""
    conf = configuration()
    group = conf[opts.GROUP.name]
    found = {group[name] for name in BASES} | set(_bases_of_nova(conf))
    return tuple(sorted(map(os.path.normpath, found)))


def discovery_folder() -> str:
    """Return the directory of LightOS's discovery client."""
    return typing.cast(str, configuration()[_BRICK][_DISCOVERY_FOLDER.dest])


def _bases_of_nova(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield where Nova mounts, if the helper was started with Nova's configuration."""
    if conf is _in_process:
        return  # it has Nova's values already
    for name in BASES:
        if conf[_NOVA][name]:
            yield conf[_NOVA][name]
    if conf.state_path:
        yield os.path.join(conf.state_path, 'mnt')
