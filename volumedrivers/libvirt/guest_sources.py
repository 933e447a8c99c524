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

"""What a guest's definitions name of this host: disks and everything behind them.

For whoever counts users: cheap to read for all guests, and complete rather
than detailed.
"""

from collections.abc import Iterator
import dataclasses

import libvirt
from lxml import etree

# There is no such pool, or this libvirt has no pools.
_NO_POOL = frozenset((libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_SUPPORT))


@dataclasses.dataclass(frozen=True)
class DiskSources:
    """One disk of one definition.

    :ivar type: of the source: block, file, network ...
    :ivar source: the path, or protocol:name; '' when there is none
    :ivar paths: of the image and all below it, of what it is copied to, and
        of its reservations helper
    :ivar below: the sources of the images below it, as ``source`` is written
    :ivar secrets: UUIDs and usages of the secrets that it needs
    :ivar live: whether it is of the running guest's definition
    """

    alias: str | None
    serial: str | None
    target: str
    type: str
    source: str
    paths: tuple[str, ...]
    below: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    live: bool = False
    format: str | None = None


@dataclasses.dataclass(frozen=True)
class GuestSources:
    """Both definitions of a guest, read together.

    :ivar disks: those of the running guest first
    :ivar paths: every path of this host that the definitions name, in
        whatever element: disks, their backing images, directories of virtiofs
        and 9p, firmware, kernel, sockets, logs
    """

    name: str
    uuid: str
    is_running: bool
    is_persistent: bool
    disks: tuple[DiskSources, ...]
    paths: frozenset[str]


def read(domain: libvirt.virDomain) -> GuestSources:
    """Ask libvirt for the definitions.

    :raises libvirt.libvirtError: raw
    """
    roots = [parse(domain.XMLDesc(0))]
    persistent = bool(domain.isPersistent())
    if persistent and _is_live(roots[0]):
        roots.append(parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
    for root in roots:
        _resolve_pools(domain.connect(), root)
    return of_definitions(roots, is_persistent=persistent)


def parse(document: str) -> etree._Element:
    """Parse a domain's document."""
    return etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))


def of_definitions(roots: list[etree._Element], *, is_persistent: bool) -> GuestSources:
    """Return what the definitions of one domain name, the running one's first."""
    first = roots[0]
    return GuestSources(
        name=first.findtext('name') or '',
        uuid=first.findtext('uuid') or '',
        is_running=_is_live(first),
        is_persistent=is_persistent,
        disks=tuple(
            _disk(element, live=_is_live(root))
            for root in roots
            for element in root.iterfind('./devices/disk')
        ),
        paths=frozenset(path for root in roots for path in _paths(root)),
    )


def _resolve_pools(connection: libvirt.virConnect, root: etree._Element) -> None:
    """Write into the sources that are volumes of a storage pool where they are.

    :raises libvirt.libvirtError: raw; libvirt could not say
    """
    for source in root.iterfind("./devices/disk[@type='volume']/source[@pool][@volume]"):
        try:
            pool = connection.storagePoolLookupByName(source.get('pool'))
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _NO_POOL:
                raise
            continue  # then the disk has no data
        # Of a volume that the pool does not list (any more), too.
        directory = parse(pool.XMLDesc(0)).findtext('./target/path')
        if directory:
            source.set('path', f'{directory.rstrip("/")}/{source.get("volume")}')


def _is_live(root: etree._Element) -> bool:
    # Only a running domain has an id.
    return root.get('id') is not None


def _disk(element: etree._Element, *, live: bool) -> DiskSources:
    kind = element.get('type') or 'file'
    target, driver, alias = (element.find(tag) for tag in ('target', 'driver', 'alias'))
    return DiskSources(
        alias=None if alias is None else alias.get('name'),
        serial=element.findtext('serial'),
        target='' if target is None else target.get('dev') or '',
        type=kind,
        source=_source(element),
        paths=tuple(dict.fromkeys(_paths(element))),
        below=tuple(filter(None, map(_source, element.iter('backingStore')))),
        secrets=tuple(
            secret.get(name) or ''
            for secret in element.iter('secret')
            for name in ('uuid', 'usage')
            if secret.get(name)
        ),
        live=live,
        format=None if driver is None else driver.get('type'),
    )


def _source(element: etree._Element) -> str:
    source = element.find('source')
    if source is None:
        return ''
    if source.get('protocol'):
        return f'{source.get("protocol")}:{source.get("name") or ""}'
    for name in ('file', 'dev', 'name', 'dir', 'path'):
        if source.get(name):
            return str(source.get(name))
    return ''


def _paths(root: etree._Element) -> Iterator[str]:
    for element in root.iter(etree.Element):
        for value in element.attrib.values():
            text = str(value)
            if text.startswith('/'):
                yield text
        text = (element.text or '').strip()
        if text.startswith('/'):
            yield text
