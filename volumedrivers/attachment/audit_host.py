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

"""Look for what is on this host and belongs to no attachment.

What may be somebody else's is a note, and is never removed by this package.
"""

from collections.abc import Iterator
import os
import re
import shlex
import typing

from volumedrivers.attachment import audit_facts
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.audit_facts import finding
from volumedrivers.attachment.audit_guests import UUID
from volumedrivers.attachment.results import Finding
from volumedrivers.host import rbd_conf

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.libvirt.whole_host import KnownSecret

# The secret that libiscsi logs in with: see libvirt/qemu_iscsi.py.
_OF_ATTACHMENT = re.compile(
    r'(?P<volume>[^/]+(?:/[^/]+)?)/(?P<key>(?P<guest>[0-9a-f-]{36})/(?P=volume))'
)
_CRYPT = 'crypt-'


def of_host(facts: 'Facts') -> Iterator[Finding]:
    """Yield what secrets, links, devices and sessions are left over."""
    yield from _secrets(facts)
    names = audit_facts.device_names(facts)
    yield from _links(facts, names)
    yield from _decrypted(facts, names)
    yield from _copies(facts)
    yield from _targets(facts)
    yield from _keys()


def _secrets(facts: 'Facts') -> Iterator[Finding]:
    used = {
        secret
        for guest in facts.guests.values()
        for disk in guest.disks
        for secret in disk.secrets
    }
    volumes = {
        guest_disks.volume_id_of(disk) for guest in facts.guests.values() for disk in guest.disks
    }
    recorded = {row.volume_id for row in facts.rows.values()}
    for secret in facts.secrets.values():
        if used & {secret.uuid, secret.usage_id}:
            continue
        if secret.usage_type == 'volume' and UUID.fullmatch(secret.usage_id):
            # Nova names its own likewise.
            if secret.usage_id not in recorded | volumes:
                yield _stray_secret('note', secret, secret.usage_id)
        elif secret.usage_type == 'iscsi':
            parts = _OF_ATTACHMENT.fullmatch(secret.usage_id)
            if parts is not None and parts['key'] not in facts.rows:
                yield _stray_secret('problem', secret, parts['volume'])


def _stray_secret(
    severity: typing.Literal['problem', 'note'], secret: 'KnownSecret', volume_id: str
) -> Finding:
    return finding(
        severity,
        'stray-secret',
        f'secret {secret.uuid} ({secret.usage_type} {secret.usage_id})',
        'no row and no guest has the volume that it is of',
        f'Run "virsh secret-undefine {secret.uuid}".',
        volume_id=volume_id,
    )


def _links(facts: 'Facts', names: frozenset[str]) -> Iterator[Finding]:
    recorded = {row.volume_id for row in facts.rows.values()}
    for link in facts.inventory.links:
        device = facts.inventory.devices.get(link.device or '')
        known = link.device in names or (
            device is not None and not names.isdisjoint(audit_facts.with_below(facts, device.name))
        )
        volume_id = os.path.basename(link.path) if link.is_ours else ''
        if volume_id in recorded or known:
            continue
        yield finding(
            'problem' if link.is_ours or link.device is None else 'note',
            'stray-link',
            link.path,
            'it leads nowhere; a device that gets the name again would be taken for that volume'
            if link.device is None
            else f'it leads to {link.device}, which is of no row',
            f'If nobody uses the volume, run "rm {shlex.quote(link.path)}".',
            volume_id=volume_id,
        )


def _decrypted(facts: 'Facts', names: frozenset[str]) -> Iterator[Finding]:
    ours = {os.path.basename(link.path) for link in facts.inventory.links if link.is_ours}
    for device in facts.inventory.devices.values():
        mapped = device.mapped_name or ''
        if not device.decrypts or not mapped.startswith(_CRYPT) or device.name in names:
            continue
        path = f'/dev/mapper/{mapped}'
        users = sorted(guest.name for guest in facts.guests.values() if path in guest.paths)
        volume_id = mapped.removeprefix(_CRYPT)
        yield finding(
            'problem' if volume_id in ours else 'note',
            'stray-dm-crypt',
            path,
            f'it decrypts {", ".join(device.below) or "nothing"}, and no row has opened it'
            + (f'; guest {", ".join(users)} has it' if users else ''),
            f'If nobody uses it, run "cryptsetup close {shlex.quote(mapped)}".',
            volume_id=volume_id if UUID.fullmatch(volume_id) else '',
        )


def _copies(facts: 'Facts') -> Iterator[Finding]:
    """Yield devices that are a recorded volume, and not those that it is reached by."""
    there = facts.inventory.with_identity()
    for row in facts.rows.values():
        volume = row.volume
        if volume is None or volume.identity is None or not facts.is_here(row):
            continue
        devices = there.get((volume.identity.kind, volume.identity.value), ())
        if len(devices) < 2 or volume.path is None:
            continue
        own = audit_facts.with_below(facts, facts.inventory.kernel_name(volume.path) or '')
        others = sorted(device.name for device in devices if device.name not in own)
        if others:
            yield finding(
                'note',
                'stray-device',
                ', '.join(f'/dev/{name}' for name in others),
                f'it is the volume too, beside {volume.path} that the guest has',
                'Look why multipathd does not use it: "multipathd show paths".'
                if volume.use_multipath
                else 'Nothing has to be done; detaching the volume removes it.',
                row=row,
            )


def _targets(facts: 'Facts') -> Iterator[Finding]:
    """Yield sessions and mappings that have a Cinder volume's id in their name."""
    recorded = {row.volume_id for row in facts.rows.values()}
    named = {guest_disks.volume_id_of(disk) for g in facts.guests.values() for disk in g.disks}
    known = recorded | named
    found = [(target, f'session with {target}') for target in facts.inventory.targets]
    found += [(device.image, device.path) for device in facts.images]
    for name, what in sorted(found):
        uuid = UUID.search(name.lower())
        if uuid is not None and 'volume' in name.lower() and uuid[0] not in known:
            yield finding(
                'note',
                'stray-session',
                what,
                f'it looks like that of volume {uuid[0]}, which no row and no guest has',
                'Nothing has to be done if somebody else has connected it.',
                volume_id=uuid[0],
            )


def _keys() -> Iterator[Finding]:
    """Yield the files with a Ceph key that os-brick made, and nobody removed."""
    for path in rbd_conf.stray():
        yield finding(
            'note',
            'stray-file',
            path,
            'os-brick wrote it to map or open an RBD image; it may hold the key of a Ceph user',
            f'If no other program that uses os-brick runs here, run "rm {shlex.quote(path)}".',
        )
