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

"""Where a process is killed: each step of each operation, before, inside and after."""

import dataclasses
import typing

# A hook of its own kind: what is written has not been committed.
TRANSACTION = 'volumedrivers.attachment.journal_database:Database.transaction'

FINISHED = 'finished'
UNDONE = 'undone'
NOTHING = 'nothing to do'
GOOD = frozenset((FINISHED, UNDONE, NOTHING, 'reconnected'))

# In the order in which the table has them.
OPERATIONS = (
    *('attach', 'detach', 'extend', 'recover', 'reconnect', 'repair', 'forget'),
    *('volume attach', 'volume detach', 'volume refresh', 'volume recover'),
)
STEPS = (
    *('reserve', 'export', 'begin'),
    *('connect', 'identify', 'encrypt', 'attach', 'undo attach', 'undo encrypt', 'undo connect'),
    *('extend', 'resize', 'verify', 'detach', 'decrypt', 'disconnect', 'prove'),
    *('complete', 'undo complete', 'undo reserve', 'refresh', 'release', 'record', ''),
)

_SHARE = frozenset(('raw', 'qcow2', 'luks'))
_USERS = 'volumedrivers.host.share_users:DirectoryUsers.'
_MOUNT = 'volumedrivers.privsep.mount:'
_SECRETS = 'volumedrivers.libvirt.secret_store:'
_DETACH = 'volumedrivers.libvirt.guest_detach:Detachment.'
_DOMAIN = 'libvirt:virDomain.'
_JOURNAL = 'volumedrivers.attachment.journal:Journal.'
_IDENTITY = 'volumedrivers.attachment.work:Work.found_identity'


@dataclasses.dataclass(frozen=True)
class Point:
    """One moment of one operation.

    :ivar label: of the moment, for the table
    :ivar expected: what recover has to do; None: it depends on how far libvirt came
    :ivar fail: what fails, so that the steps before it are undone
    """

    operation: str
    step: str
    label: str
    kill: dict[str, object]
    expected: str | None
    fail: str | None = None

    def __str__(self) -> str:
        return f'{self.operation}: {self.step}: {self.label}'


class _Inside(typing.NamedTuple):
    """A hook within a step; ``kinds`` of volumes that come by it, () is all."""

    label: str
    hook: str
    moment: str | int
    kinds: frozenset[str] = frozenset()
    expected: str | None = ''


_ATTACH: dict[str, tuple[_Inside, ...]] = {
    'connect': (
        _Inside('counted', _USERS + 'add', 'after', _SHARE),
        _Inside('claimed', _USERS + 'claim', 'after', _SHARE),
        _Inside('while it is mounted', _MOUNT + 'mount', 30, _SHARE),
        _Inside('mounted', _MOUNT + 'mount', 'after', _SHARE),
        _Inside('secret without value', _SECRETS + '_define', 'after', frozenset(('iscsi',))),
        _Inside('secret', _SECRETS + 'SecretStore.ensure', 'after', frozenset(('iscsi',))),
        _Inside(
            'looked at',
            'volumedrivers.host.block_device:BlockDevices.kernel_path',
            'after',
            frozenset(('block',)),
        ),
    ),
    'identify': (_Inside('compared', _IDENTITY, 'after'),),
    'encrypt': (
        _Inside('header read', 'volumedrivers.host.luks:read', 'after', frozenset(('luks',))),
        _Inside('secret without value', _SECRETS + '_define', 'after', frozenset(('luks',))),
        _Inside('secret', _SECRETS + 'SecretStore.ensure', 'after', frozenset(('luks',))),
    ),
    'attach': (
        _Inside('target reserved', _JOURNAL + 'reserve', 'after'),
        _Inside('libvirt asked', _DOMAIN + 'attachDeviceFlags', 2, expected=None),
        _Inside('libvirt at it', _DOMAIN + 'attachDeviceFlags', 12, expected=None),
        _Inside('libvirt done', _DOMAIN + 'attachDeviceFlags', 'after', expected=FINISHED),
    ),
    'record': (
        _Inside('not committed', TRANSACTION, 'after', expected=FINISHED),
        _Inside('committed', _JOURNAL + 'put', 'after', expected=NOTHING),
    ),
}

_DETACH_STEPS: dict[str, tuple[_Inside, ...]] = {
    'detach': (
        _Inside('off the definition', _DETACH + '_detach_persistent', 'after'),
        _Inside('QEMU asked', _DOMAIN + 'detachDeviceAlias', 2),
        _Inside('not waited for', _DOMAIN + 'detachDeviceAlias', 'after'),
    ),
    'decrypt': (
        _Inside('secret looked up', _SECRETS + 'SecretStore.find', 'after', frozenset(('luks',))),
        _Inside('secret gone', _SECRETS + 'SecretStore.delete', 'after', frozenset(('luks',))),
    ),
    'disconnect': (
        _Inside('others asked', 'volumedrivers.attachment.work:Work.others', 'after'),
        _Inside('unmounted', _MOUNT + 'unmount', 'after', _SHARE),
        _Inside('directory gone', _MOUNT + 'remove_mount_point', 'after', _SHARE),
        _Inside('not claimed', _USERS + 'unclaim', 'after', _SHARE),
        _Inside('not counted', _USERS + 'remove', 'after', _SHARE),
        _Inside('secret gone', _SECRETS + 'SecretStore.delete', 'after', frozenset(('iscsi',))),
    ),
    'prove': (_Inside('looked', 'volumedrivers.attachment.detach:Detach._remains', 'after'),),
    'record': (
        _Inside('not committed', TRANSACTION, 'after'),
        _Inside('committed', _JOURNAL + 'remove', 'after', expected=NOTHING),
    ),
}

_EXTEND: dict[str, tuple[_Inside, ...]] = {
    'identify': (_Inside('compared', _IDENTITY, 'after'),),
    'extend': (
        _Inside('allowed', 'volumedrivers.libvirt.share_file:grown', 'after', _SHARE),
        _Inside(
            'seen',
            'volumedrivers.libvirt.network_source:NetworkSourceDriver.extend_volume',
            'after',
            frozenset(('iscsi',)),
        ),
        _Inside(
            'header counted',
            'volumedrivers.attachment.encryption:Encryptor.grow',
            'after',
            frozenset(('luks',)),
        ),
    ),
    'resize': (
        _Inside('not told', _DOMAIN + 'blockResize', 'before'),
        _Inside('QEMU at it', _DOMAIN + 'blockResize', 1),
        _Inside('QEMU done', _DOMAIN + 'blockResize', 'after'),
    ),
    'record': (
        _Inside('not committed', TRANSACTION, 'after'),
        _Inside('committed', _JOURNAL + 'put', 'after', expected=NOTHING),
    ),
}

_STEPS = {'attach': _ATTACH, 'detach': _DETACH_STEPS, 'extend': _EXTEND}
_LAST = 'record'


def points(operation: str, kind: str) -> tuple[Point, ...]:
    """Return the points of an operation on a kind of volume, in their order."""
    found: list[Point] = []
    usual = UNDONE if operation == 'attach' else FINISHED
    for step, inside in _STEPS[operation].items():
        if step in ('encrypt', 'decrypt') and kind != 'luks':
            continue
        if operation == 'attach' and step == _LAST:
            usual = FINISHED
        found.append(_observed(operation, step, 'before', usual))
        for point in inside:
            if point.kinds and kind not in point.kinds:
                continue
            found.append(
                Point(
                    operation,
                    step,
                    point.label,
                    {'step': step, 'hook': point.hook, 'moment': point.moment},
                    usual if point.expected == '' else point.expected,
                )
            )
        if operation == 'attach' and step == 'attach':
            usual = FINISHED
        found.append(_observed(operation, step, 'after', NOTHING if step == _LAST else usual))
    return tuple(found)


def undo_points(kind: str) -> tuple[Point, ...]:
    """Return the points of an attach whose last step fails."""
    steps = ('attach', 'encrypt', 'connect') if kind == 'luks' else ('attach', 'connect')
    return tuple(
        dataclasses.replace(
            _observed('attach', f'undo {step}', moment, None),
            fail='volumedrivers.attachment.attach:Attach.settle_attached',
        )
        for step in steps
        for moment in ('before', 'after')
    )


def connect_points(operation: str, kind: str) -> tuple[Point, ...]:
    """Return the points of reconnect and repair."""
    steps = {
        'reconnect': ('connect', 'identify', 'encrypt', 'record'),
        'repair': ('identify', 'connect', 'verify', 'record'),
    }[operation]
    found: list[Point] = []
    for step in steps:
        if step == 'encrypt' and kind != 'luks':
            continue
        found.append(_observed(operation, step, 'before', FINISHED))
        inside = _ATTACH.get(step, ())
        found.extend(
            Point(
                operation,
                step,
                point.label,
                {'step': step, 'hook': point.hook, 'moment': point.moment},
                point.expected or FINISHED,
            )
            for point in inside
            if (not point.kinds or kind in point.kinds)
            # What is there already is not made again.
            and not (operation == 'repair' and point.hook.startswith(_MOUNT))
            and 'secret' not in point.label
            and point.hook not in (_USERS + 'claim', _IDENTITY)
        )
        found.append(_observed(operation, step, 'after', NOTHING if step == _LAST else FINISHED))
    return tuple(found)


# What is crashed where, and called next instead of recover; whether the guest
# has the volume then.
AGAIN = (
    ('attach', 'connect', 'after', 'attach', True),
    ('attach', 'attach', 'before', 'attach', True),
    ('attach', 'attach', 'after', 'attach', True),
    ('attach', 'connect', 'after', 'detach', False),
    ('attach', 'attach', 'after', 'detach', False),
    ('detach', 'detach', 'before', 'attach', True),
    ('detach', 'detach', 'after', 'attach', True),
    ('detach', 'disconnect', 'after', 'attach', True),
    ('detach', 'detach', 'after', 'detach', False),
    ('detach', 'disconnect', 'after', 'detach', False),
    ('extend', 'extend', 'after', 'extend', True),
    ('extend', 'resize', 'after', 'detach', False),
)


def again_points(kind: str, *, can_grow: bool) -> tuple[tuple[Point, str, bool], ...]:
    """Return the points after which something is called instead of recover."""
    return tuple(
        (_observed(operation, step, moment, None), then, has_it)
        for operation, step, moment, then, has_it in AGAIN
        if can_grow or operation != 'extend'
    )


def recover_points(kind: str) -> tuple[Point, ...]:
    """Return where a recover that undoes an attach is killed itself."""
    steps = ['detach', 'disconnect', 'prove', 'record']
    if kind == 'luks':
        steps.insert(1, 'decrypt')
    return tuple(
        _observed('recover', step, moment, NOTHING if (step, moment) == END else FINISHED)
        for step in steps
        for moment in ('before', 'after')
    )


END = (_LAST, 'after')


def at(operation: str, step: str, label: str) -> Point:
    """Return one point by its label, of a raw file."""
    found = [
        point for point in points(operation, 'raw') if (point.step, point.label) == (step, label)
    ]
    return dataclasses.replace(found[0], expected=None)


def _observed(operation: str, step: str, moment: str, expected: str | None) -> Point:
    return Point(operation, step, moment, {'step': step, 'moment': moment}, expected)
