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

"""Settings of the whole process that os-brick and oslo.privsep read.

Both read ``oslo_config.cfg.CONF``; import this only after
:func:`volumedrivers.host.bootstrap.load_os_brick`.
"""

import os
import shlex
import typing

import os_brick
from os_brick import opts as brick_opts
from os_brick import privileged as brick
from os_brick.initiator.connectors import lightos
from oslo_concurrency import opts as concurrency
from oslo_config import cfg
from oslo_privsep import priv_context

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.privsep import context
from volumedrivers.privsep import trusted

_BRICK_SECTION = 'privsep_osbrick'
# Only in this process; the helper of that context reads [privsep_osbrick].
_HIDDEN_SECTION = 'privsep_osbrick_hide_output'
_BRICK_LOGGER = 'os_brick.privileged'
_HIDDEN_LOGGER = 'brick_privsep_hide_output'

_overrides: list[tuple[str, str]] = []
_defaulted_lock_path: str | None = None


def _is_set(conf: cfg.ConfigOpts, name: str, group: str) -> bool:
    place = conf.get_location(name, group)
    return place is not None and place.location not in (
        cfg.Locations.opt_default,
        cfg.Locations.set_default,
    )


def _foreign_options() -> dict[str, list[cfg.Opt]]:
    """Return the options, not ours, that os-brick and privsep read."""
    found: dict[str, list[cfg.Opt]] = {
        _BRICK_SECTION: priv_context.OPTS,
        context.SECTION: priv_context.OPTS,
    }
    for group, options in (
        *brick_opts.list_opts(),
        *lightos.list_opts(),
        *concurrency.list_opts(),
    ):
        found.setdefault(group, []).extend(options)
    return found


def forget() -> None:
    """Take back what an earlier call put over the process's configuration."""
    while _overrides:
        cfg.CONF.clear_override(*_overrides.pop())


def carry_over(conf: cfg.ConfigOpts) -> None:
    """Copy what is set in conf to the object that os-brick reads."""
    if conf is cfg.CONF:
        return
    for group, options in _foreign_options().items():
        conf.register_opts(options, group=group)
        for option in options:
            if _is_set(conf, option.name, group):
                _override(option.name, conf[group][option.dest], group)


def _override(name: str, value: object, group: str) -> None:
    cfg.CONF.set_override(name, value, group=group)
    _overrides.append((name, group))


def lock_path(conf: cfg.ConfigOpts) -> str:
    """Return the directory of the lock files, as bootstrap.setup says."""
    foreign = _foreign_options()
    for group in ('os_brick', 'oslo_concurrency'):
        conf.register_opts(foreign[group], group=group)
        path: str | None = conf[group].lock_path
        # What an earlier call put there is not what somebody has set.
        if path and (path != _defaulted_lock_path or _is_set(conf, 'lock_path', group)):
            return os.path.abspath(path)
    own = conf[opts.GROUP.name]
    return str(os.path.abspath(own.lock_path or os.path.join(own.state_path, 'lock')))


def make_lock_path(path: str) -> None:
    """:raises InvalidOption: it is no directory to write into"""
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
        problem = None if os.access(path, os.W_OK | os.X_OK) else 'is not writable'
    except OSError as error:
        problem = f'cannot be made: {error.strerror}'
    if problem:
        raise exception.InvalidOption(
            option='[volumedrivers]lock_path',
            found=f'{path}, which {problem}',
            expected='a directory that this user may write into',
        )


def set_lock_path(path: str) -> None:
    """Make os-brick, and its guard_connection, use this directory."""
    global _defaulted_lock_path  # noqa: PLW0603 - one process, one configuration

    if not _is_set(cfg.CONF, 'lock_path', 'oslo_concurrency'):
        cfg.CONF.set_default('lock_path', path, group='oslo_concurrency')
    os_brick.setup(cfg.CONF)
    if cfg.CONF.os_brick.lock_path != path:
        _override('lock_path', path, 'os_brick')
    _defaulted_lock_path = path


def _contexts() -> tuple[typing.Any, ...]:
    return context.sys_admin, brick.default, brick.brick_privsep_hide_output


def set_contexts(conf: cfg.ConfigOpts, command: list[str], *, as_root: bool) -> None:
    """Set how the three privileged contexts start, and what they log as."""
    hidden = brick.brick_privsep_hide_output
    # os-brick's contexts share a section, and so the logger of the one that
    # keeps its output secret would mute the other.  The secret one gets a
    # section of its own here; both loggers then have their own name.
    cfg.CONF.register_opts(priv_context.OPTS, group=_HIDDEN_SECTION)
    cfg.CONF.set_default('logger_name', _HIDDEN_LOGGER, group=_HIDDEN_SECTION)
    cfg.CONF.set_default('logger_name', _BRICK_LOGGER, group=_BRICK_SECTION)
    hidden.cfg_section = _HIDDEN_SECTION
    for section in (context.SECTION, _BRICK_SECTION):
        if not cfg.CONF[section].helper_command:
            _override('helper_command', shlex.join(command), section)
    _override('helper_command', cfg.CONF[_BRICK_SECTION].helper_command, _HIDDEN_SECTION)
    for each in _contexts():
        each.set_client_mode(not as_root)
    trusted.use(conf if as_root else None)


def use_contexts(conf: cfg.ConfigOpts, *, as_root: bool) -> None:
    """Leave the privileged contexts as the program has set them; root needs no helper."""
    if as_root:
        for each in _contexts():
            each.set_client_mode(False)
    trusted.use(conf if as_root else None)


def end_helpers() -> None:
    """End helper processes that were started with other settings."""
    for each in _contexts():
        each.stop()
