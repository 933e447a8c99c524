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

"""A small libvirt: one connection, its domains, and errors to order."""

from collections.abc import Callable
import copy
import typing
import uuid

import libvirt
from lxml import etree


def error(code: int, message: str = 'said no', domain: int = libvirt.VIR_FROM_QEMU) -> Exception:
    """Make one of libvirt's errors."""
    made = libvirt.libvirtError(message)
    made.err = (code, domain, message, 2, message, None, None, -1, -1)
    return made


LOST = error(libvirt.VIR_ERR_SYSTEM_ERROR, 'Broken pipe', libvirt.VIR_FROM_RPC)
NO_DOMAIN = error(libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found')


class FakeDomain:
    """A domain; ``live`` or ``persistent`` is None when it has no such definition."""

    def __init__(self, name: str = 'vm1', *, running: bool = True, defined: bool = True) -> None:
        self._name = name
        self._uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.live: list[etree._Element] | None = [] if running else None
        self.persistent: list[etree._Element] | None = [] if defined else None
        self.calls: list[tuple[typing.Any, ...]] = []
        #: by method name: exceptions to raise or functions to call, once each
        self.script: dict[str, list[BaseException | Callable[[], object]]] = {}
        self.jobs: dict[str, dict[str, int]] = {}
        self.capacity = 2**30
        self.control = libvirt.VIR_DOMAIN_CONTROL_OK
        self.limits: dict[str, object] = {}
        self.connection: FakeConnection | None = None  # the one that has it

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return self._uuid

    def isActive(self) -> int:
        self._play('isActive')
        return int(self.live is not None)

    def controlInfo(self) -> list[int]:
        self._play('controlInfo')
        return [self.control, 0, 0]

    def isPersistent(self) -> int:
        return int(self.persistent is not None)

    def XMLDesc(self, flags: int) -> str:
        self._play('XMLDesc')
        root = etree.Element('domain', type='qemu')
        devices = etree.SubElement(root, 'devices')
        live = self.live is not None and not flags & libvirt.VIR_DOMAIN_XML_INACTIVE
        if live:
            root.set('id', '1')
        for disk in (self.live if live else self.persistent) or ():
            devices.append(copy.deepcopy(disk))
        return etree.tostring(root, encoding='unicode')

    def attachDeviceFlags(self, xml: str, flags: int) -> int:
        self.calls.append(('attach', flags))
        self._play('attach')
        for flag, definition in self._by_flag():
            if flags & flag:
                definition.append(etree.fromstring(xml))
        return 0

    def updateDeviceFlags(self, xml: str, flags: int) -> int:
        self.calls.append(('update', flags))
        self._play('update')
        disk = etree.fromstring(xml)
        target = disk.find('target').get('dev')
        for flag, definition in self._by_flag():
            if flags & flag:
                targets = [each.find('target').get('dev') for each in definition]
                definition[targets.index(target)] = disk
        return 0

    def detachDeviceFlags(self, xml: str, flags: int) -> int:
        self.calls.append(('detach', flags))
        self._play('detach')
        target = etree.fromstring(xml).find('target').get('dev')
        for flag, definition in self._by_flag():
            if flags & flag:
                definition[:] = [d for d in definition if d.find('target').get('dev') != target]
        return 0

    def detachDeviceAlias(self, alias: str, flags: int) -> int:
        """Return 0 and do nothing, which is what the real one may do."""
        self.calls.append(('detach alias', alias, flags))
        self._play('detach alias')
        return 0

    def blockJobInfo(self, target: str, flags: int) -> dict[str, int]:
        self._play('blockJobInfo')
        return self.jobs.get(target, {})

    def blockInfo(self, target: str) -> list[int]:
        self._play('blockInfo')
        return [self.capacity, self.capacity, self.capacity]

    def blockResize(self, target: str, size: int, flags: int) -> int:
        self.calls.append(('resize', target, size, flags))
        self._play('resize')
        self.capacity = size
        return 0

    def blockIoTune(self, target: str, flags: int) -> dict[str, object]:
        return dict(self.limits)

    def setBlockIoTune(self, target: str, parameters: dict[str, object], flags: int) -> int:
        self.calls.append(('limit', target, flags))
        self._play('limit')
        self.limits.update(parameters)
        return 0

    def remove_live(self) -> None:
        """Take all disks off, as a guest that lets go."""
        self.live = []

    def stop(self) -> None:
        self.live = None

    def _by_flag(self) -> list[tuple[int, list[etree._Element]]]:
        return [
            (flag, definition)
            for flag, definition in (
                (libvirt.VIR_DOMAIN_AFFECT_LIVE, self.live),
                (libvirt.VIR_DOMAIN_AFFECT_CONFIG, self.persistent),
            )
            if definition is not None
        ]

    def _play(self, method: str) -> None:
        if self.connection is not None and self not in self.connection.domains.values():
            raise NO_DOMAIN  # as libvirt says to whoever looked it up before
        acts = self.script.get(method)
        if acts:
            act = acts.pop(0)
            if isinstance(act, BaseException):
                raise act
            act()


class FakeSecret:
    def __init__(self, connection: 'FakeConnection', key: tuple[int, str]) -> None:
        self.connection = connection
        self.key = key
        self.value: bytes | None = None
        self.xml = '<secret/>'

    def XMLDesc(self, flags: int) -> str:
        return self.xml

    def UUIDString(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, repr(self.key)))

    def setValue(self, value: bytes, flags: int) -> int:
        self.connection.play('setValue')
        self.value = value
        return 0

    def undefine(self) -> int:
        self.connection.play('undefine')
        del self.connection.secrets[self.key]
        return 0


class FakeConnection:
    def __init__(self, *domains: FakeDomain) -> None:
        self.domains = {domain.name(): domain for domain in domains}
        for domain in domains:
            domain.connection = self
        self.alive = True
        self.closed = False
        self.script: dict[str, list[BaseException | Callable[[], object]]] = {}
        self.close_callback: tuple[Callable[..., None], object] | None = None
        self.events: dict[int, tuple[int, Callable[..., None]]] = {}
        self.secrets: dict[tuple[int, str], FakeSecret] = {}
        self.secret_xml: list[str] = []

    def play(self, method: str) -> None:
        acts = self.script.get(method)
        if acts:
            act = acts.pop(0)
            if isinstance(act, BaseException):
                raise act
            act()

    def isAlive(self) -> int:
        return int(self.alive)

    def registerCloseCallback(self, callback: typing.Any, opaque: object) -> int:
        self.close_callback = callback, opaque
        return 0

    def unregisterCloseCallback(self) -> int:
        self.close_callback = None
        return 0

    def domainEventRegisterAny(
        self, domain: object, event: int, callback: typing.Any, opaque: object
    ) -> int:
        self.play('domainEventRegisterAny')
        self.events[len(self.events)] = event, callback
        return len(self.events) - 1

    def domainEventDeregisterAny(self, number: int) -> int:
        self.play('domainEventDeregisterAny')
        del self.events[number]
        return 0

    def emit(self, event: int, domain: FakeDomain, *details: object) -> None:
        """Call back as libvirt's thread does."""
        for wanted, callback in list(self.events.values()):
            if wanted == event:
                callback(self, domain, *details, None)

    def close(self) -> int:
        self.closed = True
        return 0

    def lookupByName(self, name: str) -> FakeDomain:
        self.play('lookup')
        if name not in self.domains:
            raise NO_DOMAIN
        return self.domains[name]

    def lookupByUUIDString(self, wanted: str) -> FakeDomain:
        self.play('lookup')
        for domain in self.domains.values():
            if domain.UUIDString() == wanted:
                return domain
        raise NO_DOMAIN

    def listAllDomains(self) -> list[FakeDomain]:
        self.play('list')
        return list(self.domains.values())

    def secretLookupByUsage(self, kind: int, usage_id: str) -> FakeSecret:
        self.play('secretLookupByUsage')
        if (kind, usage_id) not in self.secrets:
            raise error(libvirt.VIR_ERR_NO_SECRET, 'no secret with matching usage')
        return self.secrets[kind, usage_id]

    def secretDefineXML(self, xml: str, flags: int) -> FakeSecret:
        self.play('secretDefineXML')
        self.secret_xml.append(xml)
        usage = etree.fromstring(xml).find('usage')
        numbers = {'volume': 1, 'ceph': 2, 'iscsi': 3, 'tls': 4}
        key = (numbers[usage.get('type')], usage[0].text)
        secret = self.secrets.setdefault(key, FakeSecret(self, key))
        secret.xml = xml
        return secret
