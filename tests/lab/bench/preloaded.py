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

"""Import what the bench would otherwise import at its first use, in every session again.

The server of the RPC names this module once, and forks its sessions from there.
Nothing here starts a thread, a helper of privsep or a connection.
"""

from collections.abc import Iterator
import contextlib
import importlib
import pkgutil

from volumedrivers.host import bootstrap

PACKAGES = (
    'volumedrivers.attachment',
    'volumedrivers.host',
    'volumedrivers.libvirt',
    'volumedrivers.libvirt.drivers',
    'volumedrivers.privsep',
    'os_brick.encryptors',
    'os_brick.initiator',
    'os_brick.initiator.connectors',
    'os_brick.privileged',
)
# What they import only when they need it.
MODULES = (
    'castellan.key_manager',
    'oslo_privsep.daemon',
    'oslo_utils.imageutils.format_inspector',
    'stevedore.driver',
    'volumedrivers.testing.qemu_io',
)
# Debian's, of which a machine without Ceph has none.
OPTIONAL = ('rados', 'rbd')


def load() -> None:
    """Import all of it; once more costs nothing."""
    # Not before the threads of Python were chosen in place of eventlet's.
    bootstrap.load_os_brick()
    for name in [*PACKAGES, *MODULES, *_parts()]:
        importlib.import_module(name)
    for name in OPTIONAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _parts() -> Iterator[str]:
    for name in PACKAGES:
        for part in pkgutil.iter_modules(importlib.import_module(name).__path__):
            if not part.ispkg:
                yield f'{name}.{part.name}'


load()
