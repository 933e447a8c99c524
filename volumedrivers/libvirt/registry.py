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

"""Find the driver of a driver_volume_type, refuse a wrong one, explain."""

import dataclasses

from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver

NAMESPACE = 'volumedrivers.libvirt'


@dataclasses.dataclass(frozen=True)
class DriverEntry:
    """A registered driver, known without importing it."""

    name: str                        # driver_volume_type
    value: str                       # module:Class
    distribution: str                # name and version of the package it is from


class Registry:
    """The drivers of this process; each is loaded when first asked for."""

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    def entries(self) -> tuple[DriverEntry, ...]:
        """Return all registered drivers, sorted by name; imports none of them."""
        raise NotImplementedError

    def get(self, driver_volume_type: str) -> VolumeDriver:
        """Return the driver, loading and validating it the first time.

        :raises VolumeDriverNotFound: nobody registered it
        :raises PluginConflict: two did
        :raises PluginRefused: wrong API version or signature; shows both
        :raises VolumeDriverNotSupported: it cannot work on this architecture
        """
        raise NotImplementedError

    def why_not(self, driver_volume_type: str) -> str | None:
        """Explain why the driver cannot work on this host; None: it can."""
        raise NotImplementedError
