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

"""Import Cinder so that it runs in native threads and leaves this process as it is."""

from collections.abc import Iterator
import contextlib
import http.server  # noqa: F401 - so that there is one to put back
import importlib.util
import logging
import os
import sys
import warnings

from volumedrivers import exception
from volumedrivers.host import bootstrap

_NEEDED = ('cinder', 'openstack')


def require_installed() -> None:
    """:raises ToolMissing: names the extra that has Cinder"""
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise exception.ToolMissing(
                tool=f'the Python package {name}', package='volumedrivers[cinder]'
            )


def load() -> None:
    """Import what has to come first, in the order that it takes; may be called again.

    Cinder imports eventlet, and says that it is deprecated; nothing is
    patched by it, and after this nothing can be.

    :raises ToolMissing: Cinder is not installed
    """
    require_installed()
    # Decides for native threads, and keeps os-brick in order.
    bootstrap.load_os_brick()
    with (
        warnings.catch_warnings(),
        _quiet('cinder.monkey_patch'),
        _same_handlers(),
        _same_submodules(),
        _same_environment(),
    ):
        warnings.simplefilter('ignore')
        from cinder import monkey_patch  # noqa: PLC0415
        from oslo_service.backend import exceptions  # noqa: PLC0415

        with contextlib.suppress(exceptions.BackendAlreadySelected):
            monkey_patch.patch(backend='threading')
        monkey_patch.poison_eventlet()
        from cinder import objects  # noqa: PLC0415

        # The managers' modules name them when they are imported.
        objects.register_all()
        # Its options of oslo.log bring a handler for the root logger.
        from cinder.common import config  # noqa: F401, PLC0415


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def _same_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        yield
    finally:
        for handler in [one for one in root.handlers if one not in before]:
            root.removeHandler(handler)


@contextlib.contextmanager
def _same_submodules() -> Iterator[None]:
    """Keep eventlet's own copies of modules out of their packages.

    eventlet.wsgi imports http.server once more, with its own sockets and
    threads.  It puts ``sys.modules`` back afterwards, but not the attribute
    ``server`` of the package ``http``: whoever writes ``http.server.HTTPServer``
    has a server then that hangs in a native thread.
    """
    before = []
    for name, module in list(sys.modules.items()):
        package, _, own = name.rpartition('.')
        holder = sys.modules.get(package)
        if getattr(holder, '__dict__', {}).get(own) is module:
            before.append((holder, own, module))
    try:
        yield
    finally:
        for holder, own, module in before:
            setattr(holder, own, module)


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Take back a word for eventlet, which every program started here would read, too."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
