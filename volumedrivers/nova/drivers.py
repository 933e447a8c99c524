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

"""The classes that Nova's table of volume drivers names, one a driver_volume_type.

Nova imports a driver by the dotted name in its table.  Which types there are,
third-party ones included, is known when they are installed; so a class is made
when its name is asked for.
"""

from volumedrivers.nova import adapter

_PREFIX = 'LibvirtVolumeDriver_'
_classes: dict[str, type[adapter.NovaVolumeDriver]] = {}


def path_of(driver_volume_type: str) -> str:
    """Return the dotted name of a type's class."""
    return f'{__name__}.{_PREFIX}{driver_volume_type}'


def type_of(path: str) -> str | None:
    """Return the type of a dotted name; None: it is none of these."""
    prefix = f'{__name__}.{_PREFIX}'
    return path.removeprefix(prefix) if path.startswith(prefix) else None


def __getattr__(name: str) -> type[adapter.NovaVolumeDriver]:
    if not name.startswith(_PREFIX):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if name not in _classes:
        _classes[name] = adapter.make_class(name.removeprefix(_PREFIX), name, __name__)
    return _classes[name]
