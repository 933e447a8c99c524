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

"""Put this package's volume drivers in the place of Nova's, and take them out again.

In a process that runs nova-compute, before it connects its first volume::

    from volumedrivers.nova import registration

    registration.register()

``volumedrivers-nova-compute`` does that and starts nova-compute.
"""

from collections.abc import Iterable
import dataclasses
import re
import typing

from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.libvirt import registry
from volumedrivers.nova import drivers
from volumedrivers.nova import interface
from volumedrivers.nova import services

LOG = logging.getLogger(__name__)

# What can be the end of a dotted name that Nova imports.
_NAME = re.compile(r'\w+')


@dataclasses.dataclass
class Registration:
    """What was put into Nova's table.

    :ivar types: the driver_volume_types that are this package's
    """

    types: tuple[str, ...]
    _before: dict[str, str | None] = dataclasses.field(default_factory=dict, repr=False)

    def unregister(self) -> None:
        """Put back what was there; what a LibvirtDriver has made already, it keeps."""
        table: dict[str, str] = libvirt_driver.VOLUME_DRIVERS
        for name, path in self._before.items():
            if path is None:
                table.pop(name, None)
            else:
                table[name] = path
        self._before = {}
        services.use(None)


def register(types: Iterable[str] | None = None) -> Registration:
    """Let Nova's libvirt driver use this package's volume drivers.

    Nothing is connected, opened or written.  A LibvirtDriver that exists keeps
    the volume drivers that it has made already.

    :param types: driver_volume_types; default: all that are installed, by this
        package and by others
    :raises NovaUnknown: this Nova's interface is another one; names what differs
    :raises VolumeDriverNotFound: nobody registered one of the types
    :raises PluginConflict: two did
    :raises PluginRefused: Nova cannot import a driver of that name
    """
    interface.check()
    installed = _installed()
    chosen = tuple(sorted(installed if types is None else set(types)))
    for name in chosen:
        _require(name, installed)
    table: dict[str, str] = libvirt_driver.VOLUME_DRIVERS
    before = {name: table.get(name) for name in chosen}
    table.update((name, drivers.path_of(name)) for name in chosen)
    LOG.info(
        'Nova %(version)s uses the volume drivers of volumedrivers for %(ours)s, and its own '
        'for %(novas)s',
        {
            'version': interface.version_of_nova(),
            'ours': ', '.join(chosen) or 'no type',
            'novas': ', '.join(sorted(set(table) - set(chosen))) or 'no type',
        },
    )
    return Registration(chosen, before)


def _installed() -> dict[str, list[registry.DriverEntry]]:
    found: dict[str, list[registry.DriverEntry]] = {}
    for entry in registry.installed():
        found.setdefault(entry.name, []).append(entry)
    return found


def _require(name: str, installed: typing.Mapping[str, list[registry.DriverEntry]]) -> None:
    if name not in installed:
        raise exception.VolumeDriverNotFound(
            driver_volume_type=name, known=', '.join(sorted(installed)) or 'none'
        )
    entries = installed[name]
    shown = ', '.join(sorted(f'{entry.value} of {entry.distribution}' for entry in entries))
    if len(entries) > 1:
        raise exception.PluginConflict(name=name, values=shown)
    if not _NAME.fullmatch(name):
        raise exception.PluginRefused(
            name=name, value=shown, reason='Nova cannot import a driver of that name'
        )
