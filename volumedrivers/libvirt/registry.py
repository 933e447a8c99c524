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

"""Find the driver of a driver_volume_type, refuse a wrong one, explain.

Drivers are entry points of the stevedore namespace ``volumedrivers.libvirt``;
the name is the driver_volume_type.  stevedore loads the one that is asked for.
The list is made without it, because its managers import every plug-in that
they list.
"""

import dataclasses
import inspect
import threading
import typing

from volumedrivers import exception
from volumedrivers.libvirt.driver import API_VERSION
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver

NAMESPACE = 'volumedrivers.libvirt'

# What is called on a driver, and so what a plug-in is compared with.
_CONTRACT = (
    'connect_volume',
    'disconnect_volume',
    'extend_volume',
    'get_disk',
    'why_not',
)
# The same of what came later, by the minor version it came with.  A plug-in
# that is older and does not derive from VolumeDriver gets VolumeDriver's.
_ADDED: typing.Final[typing.Mapping[int, tuple[str, ...]]] = {
    1: ('lock_names', 'current_identity', 'remains', 'plan_connect', 'plan_disconnect'),
}


@dataclasses.dataclass(frozen=True)
class DriverEntry:
    """A registered driver, known without importing it."""

    name: str  # driver_volume_type
    value: str  # module:Class
    distribution: str  # name and version of the package it is from


class Registry:
    """The drivers of this process; each is loaded when first asked for."""

    def __init__(self, context: DriverContext) -> None:
        self.context = context
        self._lock = threading.RLock()
        self._found: dict[str, list[DriverEntry]] = {}
        self._drivers: dict[str, VolumeDriver] = {}

    def entries(self) -> tuple[DriverEntry, ...]:
        """Return all registered drivers, sorted by name; imports none of them."""
        return _sorted(self._entry_points())

    def get(self, driver_volume_type: str) -> VolumeDriver:
        """Return the driver, loading and validating it the first time.

        :raises VolumeDriverNotFound: nobody registered it
        :raises PluginConflict: two did
        :raises PluginRefused: wrong API version or signature; shows both
        :raises VolumeDriverNotSupported: it cannot work on this architecture
        """
        driver = self._drivers.get(driver_volume_type)
        if driver is not None:
            return driver
        with self._lock:
            driver = self._drivers.get(driver_volume_type)
            if driver is None:
                driver = self._make(driver_volume_type)
                self._drivers[driver_volume_type] = driver
        return driver

    def why_not(self, driver_volume_type: str) -> str | None:
        """Explain why the driver cannot work on this host; None: it can.

        :raises VolumeDriverNotFound: nobody registered it
        """
        try:
            return self.get(driver_volume_type).why_not()
        except exception.MisconfiguredHost as e:
            return str(e)
        except exception.BadInput:
            raise
        except Exception as e:
            # A plug-in is foreign code, and the list of all asks each.
            return f'its why_not failed: {type(e).__name__}: {e}'

    def _entry_points(self) -> dict[str, list[DriverEntry]]:
        with self._lock:
            if not self._found:
                self._found = _find()
            return self._found

    def _make(self, name: str) -> VolumeDriver:
        found = self._entry_points()
        if name not in found:
            raise exception.VolumeDriverNotFound(
                driver_volume_type=name, known=', '.join(sorted(found)) or 'none'
            )
        if len(found[name]) > 1:
            raise exception.PluginConflict(
                name=name,
                values=', '.join(
                    sorted(f'{entry.value} of {entry.distribution}' for entry in found[name])
                ),
            )
        entry = found[name][0]
        plugin = _load(entry)
        reason = reason_to_refuse(plugin)
        if reason is not None:
            raise _refusal(entry, reason)
        try:
            driver: VolumeDriver = _completed(plugin)(self.context)
        except exception.VolumeDriversError:
            raise
        except Exception as e:
            raise _refusal(entry, f'it cannot be made: {type(e).__name__}: {e}') from e
        return driver


def installed() -> tuple[DriverEntry, ...]:
    """Return all registered drivers, sorted by name; imports none of them."""
    return _sorted(_find())


def _sorted(found: typing.Mapping[str, list[DriverEntry]]) -> tuple[DriverEntry, ...]:
    return tuple(entry for name in sorted(found) for entry in found[name])


def reason_to_refuse(plugin: object) -> str | None:
    """Return why a class is not a driver of this API; None: it is one.

    It need not derive from VolumeDriver; it must be callable as one.
    """
    if not inspect.isclass(plugin):
        return f'it is {plugin!r}, not a class'
    reason = _version_reason(_own_version(plugin)) or _capabilities_reason(plugin)
    if reason is not None:
        return reason
    for name in _CONTRACT + _expected_additions(plugin):
        reason = _method_reason(plugin, name)
        if reason is not None:
            return reason
    if inspect.isabstract(plugin):
        missing = ', '.join(sorted(getattr(plugin, '__abstractmethods__', ())))
        return f'it leaves {missing} abstract'
    return None


def _expected_additions(plugin: type) -> tuple[str, ...]:
    """Return which later methods a plug-in has, or has to have."""
    version = _own_version(plugin)
    minor = version[1] if isinstance(version, tuple) else 0
    return tuple(
        name
        for since, names in _ADDED.items()
        for name in names
        if minor >= since or hasattr(plugin, name)
    )


def _completed(plugin: type) -> type:
    """Return the class with the later methods that it was written without."""
    missing = {
        name: getattr(VolumeDriver, name)
        for names in _ADDED.values()
        for name in names
        if not hasattr(plugin, name)
    }
    if not missing:
        return plugin
    names = {'__module__': plugin.__module__, '__qualname__': plugin.__qualname__}
    return type(plugin)(plugin.__name__, (plugin,), {**names, **missing})


def _method_reason(plugin: type, name: str) -> str | None:
    expected = inspect.signature(getattr(VolumeDriver, name))
    method = getattr(plugin, name, None)
    if method is None or getattr(method, '__isabstractmethod__', False):
        return f'{name} is missing; expected {name}{_shown(expected)}'
    try:
        found = inspect.signature(method)
    except (TypeError, ValueError):
        return f'{name} is {method!r}; expected {name}{_shown(expected)}'
    if not _callable_as(found, expected):
        return f'its {name}{_shown(found)} does not fit {name}{_shown(expected)}'
    return None


def _own_version(plugin: type) -> object:
    """Return the version that a plug-in says itself.

    What it inherits from a class of this package is the version of today,
    whatever the plug-in was written for.
    """
    for each in plugin.__mro__:
        if 'API_VERSION' in vars(each):
            inherited = _is_ours(each) and not _is_ours(plugin)
            return None if inherited else vars(each)['API_VERSION']
    return None


def _is_ours(plugin: type) -> bool:
    return plugin.__module__.partition('.')[0] == __name__.partition('.')[0]


def _capabilities_reason(plugin: type) -> str | None:
    capabilities = getattr(plugin, 'CAPABILITIES', None)
    if isinstance(capabilities, property) or (
        isinstance(capabilities, frozenset)
        and all(isinstance(capability, Capability) for capability in capabilities)
    ):
        return None
    return f'its CAPABILITIES are {capabilities!r}; expected a frozenset of Capability'


def _version_reason(version: object) -> str | None:
    ours = '.'.join(map(str, API_VERSION))
    if version is None:
        return (
            f'it has no API_VERSION of its own; this package has {ours}: '
            f'add API_VERSION = {API_VERSION} to the class'
        )
    if not (
        isinstance(version, tuple)
        and len(version) == 2
        and all(type(part) is int for part in version)
    ):
        return f'its API_VERSION is {version!r}; expected two numbers, such as {API_VERSION}'
    theirs = '.'.join(map(str, version))
    if version[0] != API_VERSION[0]:
        return f'it was written for API {theirs}; this package has {ours}'
    if version[1] > API_VERSION[1]:
        return f'it needs API {theirs}; this package has {ours}: upgrade volumedrivers'
    return None


def _callable_as(found: inspect.Signature, expected: inspect.Signature) -> bool:
    """Whether every call that fits expected fits found as well."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    # The first is self, whatever it is called.
    wanted = list(expected.parameters.values())[1:]
    given = list(found.parameters.values())[1:]
    ordered = [parameter for parameter in wanted if parameter.kind in positional]
    for parameter, theirs in zip(ordered, given, strict=False):
        if theirs.name != parameter.name or (
            theirs.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            return False
    names = {parameter.name: parameter for parameter in given}
    for parameter in wanted:
        named = names.pop(parameter.name, None)
        if named is None or named.kind in variable:
            return False
        if parameter.default is not inspect.Parameter.empty and (
            named.default is inspect.Parameter.empty
        ):
            return False
    return all(
        extra.kind in variable or extra.default is not inspect.Parameter.empty
        for extra in names.values()
    )


def _shown(signature: inspect.Signature) -> str:
    """Names and defaults only; annotations hide what differs."""
    return str(
        signature.replace(
            parameters=[
                parameter.replace(annotation=inspect.Parameter.empty)
                for parameter in signature.parameters.values()
            ],
            return_annotation=inspect.Signature.empty,
        )
    )


def _refusal(entry: DriverEntry, reason: str) -> exception.PluginRefused:
    return exception.PluginRefused(
        name=entry.name, value=f'{entry.value} of {entry.distribution}', reason=reason
    )


def _load(entry: DriverEntry) -> typing.Any:
    """Import a plug-in, without making a driver of it.

    :raises PluginRefused: its import failed
    """
    # Late, because they double this module's import time.
    from stevedore import driver  # noqa: PLC0415
    from stevedore.exception import NoMatches  # noqa: PLC0415

    failures: list[BaseException] = []
    try:
        return driver.DriverManager[typing.Any](
            NAMESPACE,
            entry.name,
            # A plug-in is foreign code: its import may fail in any way.
            on_load_failure_callback=lambda _manager, _entry, error: failures.append(error),
        ).driver
    except NoMatches as e:
        error = failures[0] if failures else e
        raise _refusal(entry, f'it cannot be loaded: {type(error).__name__}: {error}') from error


def _find() -> dict[str, list[DriverEntry]]:
    import importlib.metadata  # noqa: PLC0415 - a third of this module's import time

    found: dict[str, list[DriverEntry]] = {}
    for entry_point in importlib.metadata.entry_points(group=NAMESPACE):
        dist = entry_point.dist
        package = f'{dist.name} {dist.version}' if dist is not None else 'unknown'
        entry = DriverEntry(entry_point.name, entry_point.value, package)
        entries = found.setdefault(entry.name, [])
        # An editable install may be on the path twice.
        if entry not in entries:
            entries.append(entry)
    return found
