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

"""volumedrivers driver list, driver show."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
import typing

from volumedrivers import exception
from volumedrivers.cmd import base

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.registry import DriverEntry
    from volumedrivers.libvirt.registry import Registry


class DriverList(base.Lister):
    """List the volume drivers."""

    COLUMNS = ('name', 'works_here', 'capabilities', 'class', 'distribution', 'why_not')
    TEXT_COLUMNS = ('name', 'works_here', 'capabilities')
    EPILOG = '"volumedrivers driver show NAME" says why a driver does not work here.'

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each registered driver."""
        registry = self.program.services.registry
        return [_describe(registry, entry) for entry in registry.entries()]


class DriverShow(base.ShowOne):
    """Show one volume driver and why it cannot work."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take a name."""
        parser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='driver_volume_type, such as iscsi')
        return parser

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Return the driver."""
        registry = self.program.services.registry
        found = [entry for entry in registry.entries() if entry.name == args.name]
        if not found:
            registry.get(args.name)  # raises VolumeDriverNotFound, which lists the names
        return _describe(registry, found[0])


def _describe(registry: 'Registry', entry: 'DriverEntry') -> dict[str, typing.Any]:
    why_not = registry.why_not(entry.name)
    try:
        capabilities = sorted(one.value for one in registry.get(entry.name).CAPABILITIES)
    except exception.MisconfiguredHost:
        capabilities = []  # it cannot be loaded; why_not says so
    return {
        'name': entry.name,
        'works_here': why_not is None,
        'why_not': why_not,
        'capabilities': capabilities,
        'class': entry.value,
        'distribution': entry.distribution,
    }
