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

"""What os-brick and privsep need before the first call, in one call.

os-brick and oslo.privsep read the process's own configuration object
(``oslo_config.cfg.CONF``), whatever object this package is given; ``setup``
is where the one is carried over to the other, and the only place that does.
"""

import os
import shutil
import sysconfig
import threading
import time
import types
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.privsep import hidden_eventlet

ROOTWRAP = 'volumedrivers-rootwrap'

_lock = threading.RLock()
_current: tuple[object, ...] | None = None


def setup(conf: cfg.ConfigOpts, *, make_lock_path: bool = True) -> None:
    """Prepare this process; call it once, after the options are parsed.

    Registers the options of this package, sets os-brick's lock path (and
    makes the directory), oslo.service's threading back end, and all three
    privsep contexts with their loggers.  As root no sudo and no helper
    process is used.

    Calling it again is allowed.  With the same settings nothing happens; with
    others the last call counts for the whole process, because os-brick and
    privsep have one configuration a process, and running helpers are ended.
    That is meant for tests and for a service that was configured anew; do it
    only while no volume is being connected.

    The lock path is ``[os_brick]lock_path`` or ``[oslo_concurrency]lock_path``
    if one of them is set, as in Cinder and Nova, with which it must be shared;
    else ``[volumedrivers]lock_path``.  A ``helper_command`` that is configured
    for a context is left as it is.

    :param make_lock_path: False for what only looks, such as a dry run: the
        directory is not made, and need not be usable
    :raises InvalidOption: the lock path is no directory to write into
    :raises ToolMissing: a library is not complete
    """
    global _current  # noqa: PLW0603 - one process, one configuration
    with _lock:
        opts.register_opts(conf)
        load_os_brick()
        # Not before os-brick was loaded in the right way.
        from volumedrivers.host import process_settings  # noqa: PLC0415

        process_settings.forget()
        lock_path = process_settings.lock_path(conf)
        if make_lock_path:
            process_settings.make_lock_path(lock_path)
        command = helper_command(conf)
        as_root = os.geteuid() == 0
        process_settings.carry_over(conf)
        process_settings.set_lock_path(lock_path)
        process_settings.set_contexts(conf, command, as_root=as_root)
        settings = (lock_path, tuple(command), as_root)
        if _current is not None and _current != settings:
            process_settings.end_helpers()
        _current = settings


def setup_within(conf: cfg.ConfigOpts) -> None:
    """Prepare this process, whose program has set up os-brick and privsep itself.

    For nova-compute: what it has set stays, also how privileged helpers are
    started; the helper of this package is started the same way.  As root no
    helper process is used.  Calling it again is allowed.

    :param conf: of this package; has the options of group [volumedrivers]
    :raises InvalidOption: the lock path is no directory to write into
    :raises ToolMissing: a library is not complete
    """
    global _current  # noqa: PLW0603 - one process, one configuration
    with _lock:
        load_os_brick()
        # Not before os-brick was loaded in the right way.
        from volumedrivers.host import process_settings  # noqa: PLC0415

        path = process_settings.lock_path(conf)
        process_settings.make_lock_path(path)
        as_root = os.geteuid() == 0
        process_settings.use_contexts(conf, as_root=as_root)
        _current = (path, (), as_root)


def require_setup() -> None:
    """:raises NotSetUp: setup was not called in this process"""
    if _current is None:
        raise exception.NotSetUp(reason='os-brick has no lock path and no root helper yet')


def lock_path(conf: cfg.ConfigOpts) -> str:
    """Return the directory of the lock files, as ``setup`` describes it."""
    load_os_brick()
    from volumedrivers.host import process_settings  # noqa: PLC0415 - loads os-brick

    return process_settings.lock_path(conf)


def root_helper(conf: cfg.ConfigOpts) -> str:
    """Return the command prefix that os-brick's interface asks for.

    os-brick itself ignores it; what runs as root goes through privsep.
    """
    return f'sudo {rootwrap()} {conf[opts.GROUP.name].rootwrap_config}'


def rootwrap() -> str:
    """Return the path of rootwrap: the one installed beside this package.

    sudo looks for a program in its own secure_path, where a virtual
    environment never is; so the name alone is only the last resort.
    """
    installed = os.path.join(sysconfig.get_path('scripts'), ROOTWRAP)
    if os.access(installed, os.X_OK):
        return installed
    return shutil.which(ROOTWRAP) or ROOTWRAP


def helper_command(conf: cfg.ConfigOpts) -> list[str]:
    """Return the command that starts a privileged helper.

    sudo gets ``-n``: there is nobody to type a password, and waiting for one
    has no deadline.
    """
    command = ['sudo', '-n', rootwrap(), conf[opts.GROUP.name].rootwrap_config, 'privsep-helper']
    try:
        files, directories = conf.config_file or (), conf.config_dir or ()
    except cfg.NoSuchOptError:
        # The object was made without reading files.
        return command
    for name in files:
        command += ['--config-file', os.path.abspath(name)]
    for name in directories:
        command += ['--config-dir', os.path.abspath(name)]
    return command


def load_os_brick() -> types.ModuleType:
    """Import os-brick without its side effects on this process.

    oslo.service's threading back end is chosen first, because os-brick's
    Fibre Channel connector would choose eventlet; a process that has chosen
    already keeps its choice.  ``time.sleep``, which os-brick replaces for
    everybody, is put back.

    :returns: os_brick.initiator.connector
    :raises ToolMissing: oslo.service was installed without threading
    """
    with _lock, hidden_eventlet.hidden():
        from oslo_service import backend  # noqa: PLC0415
        from oslo_service.backend import exceptions  # noqa: PLC0415

        try:
            backend.init_backend(backend.BackendType.THREADING)
        except exceptions.BackendAlreadySelected:
            # The process has decided; os-brick works with either.
            pass
        except (ImportError, ValueError) as error:
            raise exception.ToolMissing(
                tool='the threading back end of oslo.service', package='oslo.service[threading]'
            ) from error
        from os_brick import utils  # noqa: PLC0415

        if time.sleep is utils._sleep:
            time.sleep = utils._time_sleep
        from os_brick.initiator import connector  # noqa: PLC0415
    return typing.cast(types.ModuleType, connector)
