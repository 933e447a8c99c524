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

"""Every error this package raises.

The second level says what a caller can do about it; the exit code of the
command line follows from it::

    VolumeDriversError
    |-- BadInput                       2  correct the request; nothing was done
    |   |-- InvalidConnectionInfo
    |   |   `-- InvalidVolumeAccessMode
    |   |-- InvalidEncryption
    |   |-- InvalidDiskInfo
    |   |-- InvalidDocument
    |   |-- InvalidSize
    |   |-- InvalidOption
    |   |-- InvalidEvent
    |   |-- GuestNotFound
    |   |-- VolumeNotFound
    |   |-- VolumeNotUnique
    |   |-- WrongVolumeState
    |   `-- VolumeDriverNotFound
    |-- MisconfiguredHost              3  repair or configure this host first
    |   |-- VolumeDriverNotSupported
    |   |-- PluginRefused
    |   |-- PluginConflict
    |   |-- NotSetUp
    |   |-- PrivilegedCallRefused
    |   |-- MultipathNotRunning
    |   |-- SecretsNotSupported
    |   |-- EncryptionNotSupported
    |   |-- JournalUnusable
    |   |-- NovaUnknown
    |   |-- CinderNotConfigured
    |   |-- CinderTooOld
    |   |-- CinderForbidden
    |   |   `-- ServiceRoleNeeded
    |   `-- ToolMissing
    |-- DataAtRisk                     4  refused; a person has to look
    |   |-- IdentityMismatch
    |   |   `-- DeviceReused
    |   |-- UnstableDevicePath
    |   |-- PathOutsideShare
    |   |-- UnsafeImage
    |   |-- WrongMount
    |   |-- ShrinkRefused
    |   |-- FlushFailed
    |   |-- FormatRefused
    |   |-- StillInUse
    |   |-- AttachedElsewhere
    |   |-- ManagedElsewhere
    |   |-- AttachmentLost
    |   `-- LeftoversFound
    |-- RetryLater                     5  the same call may succeed later
    |   |-- HypervisorUnavailable
    |   |-- CinderUnavailable
    |   |-- EndpointUnreachable
    |   |-- DeadlineExceeded
    |   |-- VolumeDeviceNotFound
    |   |-- DetachTimeout
    |   |-- LockHeld
    |   |-- Unfinished
    |   |-- KeyUnavailable
    |   |-- RefreshRefused
    |   `-- Busy
    |-- NothingToDo                    6  what was asked for is already so
    |   |-- AlreadyAttached
    |   |-- VolumeNotConnected
    |   |-- DiskNotFound
    |   |-- NotRecorded
    |   |-- NotInCinder
    |   `-- SecretNotFound
    |-- Degraded                       7  usable, but less than was asked for
    |   `-- PathsMissing
    `-- OperationFailed                1  failed for good; the cause says why
        |-- ConnectFailed
        |-- DisconnectFailed
        |-- EncryptionFailed
        |-- ExtendVolumeFailed
        |-- ExtendVolumeNotSupported
        |-- MountFailed
        |-- AttachRefused
        |-- DetachRefused
        |-- ResizeRefused
        |-- CopyFailed
        |-- HostUnreadable
        |-- CinderError
        `-- HypervisorError

An error is made from keyword arguments only. Each class declares its data as
annotations (an annotation with a value is optional); they are attributes of
the error and what its sentence, ``template``, is rendered from. A name the
class does not declare is a TypeError where the error is made, so that a typo
cannot hide.

What os-brick, libvirt or an SDK raised is the ``__cause__``, never the error
itself.
"""

from collections.abc import Mapping
import inspect
import string
import typing


class VolumeDriversError(Exception):
    """Root of the tree; also what to catch to catch all of it."""

    template: typing.ClassVar[str] = 'volumedrivers failed'
    exit_code: typing.ClassVar[int] = 1
    _required: typing.ClassVar[frozenset[str]] = frozenset()
    _optional: typing.ClassVar[Mapping[str, object]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        required = set(cls._required)
        optional = dict(cls._optional)
        for name, kind in inspect.get_annotations(cls).items():
            if 'ClassVar' in str(kind):
                continue
            if name in cls.__dict__:
                optional[name] = cls.__dict__[name]
                required.discard(name)
            else:
                required.add(name)
        used = {
            name.split('.')[0].split('[')[0]
            for _, name, _, _ in string.Formatter().parse(cls.template)
            if name
        }
        unknown = used - required - set(optional)
        if unknown:
            raise TypeError(
                f'{cls.__name__}.template uses {sorted(unknown)}, which the class does not declare'
            )
        cls._required = frozenset(required)
        cls._optional = optional

    # The positional mapping is for pickle and for privsep, which make an
    # exception again from its args in another process.
    def __init__(self, details: Mapping[str, object] | None = None, /, **given: object) -> None:
        values = {**(details or {}), **given}
        unknown = set(values) - self._required - set(self._optional)
        missing = self._required - set(values)
        if unknown or missing:
            raise TypeError(
                f'{type(self).__name__}: unknown {sorted(unknown)}, missing {sorted(missing)}'
            )
        super().__init__(values)
        self.details: dict[str, object] = {**self._optional, **values}
        for name, value in self.details.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.template.format(**self.details)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({str(self)!r})'


class BadInput(VolumeDriversError):
    """The request itself is wrong; nothing was executed."""

    exit_code = 2


class InvalidConnectionInfo(BadInput):
    """A key of Cinder's connection_info is missing, ill-typed or impossible.

    ``found`` describes what was there without showing a secret.
    """

    template = (
        'connection_info of type {driver_volume_type}: {key} is {found}; expected {expected}'
    )
    driver_volume_type: str
    key: str
    found: str
    expected: str


class InvalidVolumeAccessMode(InvalidConnectionInfo):
    """data.access_mode is neither ``rw`` nor ``ro``."""


class InvalidEncryption(BadInput):
    """Cinder's encryption metadata of a volume is missing or impossible."""

    template = 'encryption of volume {volume_id}: {key} is {found}; expected {expected}'
    volume_id: str | None
    key: str
    found: str
    expected: str


class InvalidDiskInfo(BadInput):
    """What the caller said about the disk in the guest is wrong."""

    template = 'disk_info: {key} is {found}; expected {expected}'
    key: str
    found: str
    expected: str


class InvalidDocument(BadInput):
    """An XML document, or a value that should go into one, is wrong."""

    template = '<{element}>: {where} is {found}; expected {expected}'
    element: str
    where: str
    found: str
    expected: str


class InvalidSize(BadInput):
    """A size in bytes that no volume can have."""

    template = 'size {size} of {volume} is refused: {reason}'
    size: object
    volume: str
    reason: str


class InvalidOption(BadInput):
    """A configuration or command line option has an impossible value."""

    template = '{option} is {found}; expected {expected}'
    option: str
    found: str
    expected: str


class InvalidEvent(BadInput):
    """An event is not the one that is handled, or says too little."""

    template = 'the event is refused: {key} is {found}; expected {expected}'
    key: str
    found: str
    expected: str


class GuestNotFound(BadInput):
    """The hypervisor has no such domain."""

    template = 'no domain {guest!r} on {uri}; "virsh list --all" shows those there are'
    guest: str
    uri: str


class VolumeNotFound(BadInput):
    """Cinder has no such volume, or does not show it to this user."""

    template = 'Cinder at {endpoint} has no volume {volume!r}'
    volume: str
    endpoint: str


class VolumeNotUnique(BadInput):
    """Several volumes have that name."""

    template = 'Cinder at {endpoint} has more than one volume {volume!r}; give its id'
    volume: str
    endpoint: str


class WrongVolumeState(BadInput):
    """Cinder does not allow this with a volume in its state."""

    template = 'volume {volume_id} is {status} in Cinder; expected {expected}'
    volume_id: str
    status: str
    expected: str


class VolumeDriverNotFound(BadInput):
    """No driver is registered for a driver_volume_type."""

    template = (
        'no volume driver for driver_volume_type {driver_volume_type!r}; registered: {known}'
    )
    driver_volume_type: str
    known: str


class MisconfiguredHost(VolumeDriversError):
    """This host lacks something; the sentence says what to do."""

    exit_code = 3


class VolumeDriverNotSupported(MisconfiguredHost):
    """The driver exists but cannot work on this host."""

    template = 'volume driver {driver_volume_type} cannot work here: {reason}'
    driver_volume_type: str
    reason: str


class PluginRefused(MisconfiguredHost):
    """An entry point that is not a driver of this API; shows both signatures."""

    template = 'plug-in {name} ({value}) is refused: {reason}'
    name: str
    value: str
    reason: str


class PluginConflict(MisconfiguredHost):
    """Two distributions register the same driver_volume_type."""

    template = (
        'driver_volume_type {name} is registered more than once: {values}; uninstall all but one'
    )
    name: str
    values: str


class NotSetUp(MisconfiguredHost):
    """setup(conf) was not called."""

    template = 'call volumedrivers.host.bootstrap.setup(conf) first: {reason}'
    reason: str


class PrivilegedCallRefused(MisconfiguredHost):
    """A privileged helper refused its arguments, or could not be started."""

    template = 'privileged {function} refused: {reason}'
    function: str
    reason: str


class MultipathNotRunning(MisconfiguredHost):
    """Multipath is enforced and multipathd does not answer."""

    template = (
        'volume_enforce_multipath is set and multipathd does not '
        'answer; start it ("systemctl start multipathd") or unset the option'
    )


class SecretsNotSupported(MisconfiguredHost):
    """The hypervisor at this URI can hold no secrets."""

    template = (
        'libvirt at {uri} cannot hold secrets: {reason}; use a libvirtd '
        '(qemu:///system) for encrypted volumes, CHAP and cephx'
    )
    uri: str
    reason: str


class EncryptionNotSupported(MisconfiguredHost):
    """Nobody on this host can decrypt a volume of that kind there."""

    template = 'volume {volume_id} is encrypted with {provider}, which cannot be opened: {reason}'
    volume_id: str | None
    provider: str
    reason: str


class JournalUnusable(MisconfiguredHost):
    """The journal of attachments cannot be read or written; nothing was done."""

    template = 'the journal {path} cannot be used: {reason}'
    path: str
    reason: str


class NovaUnknown(MisconfiguredHost):
    """This Nova is not one that the drivers can be loaded into."""

    template = 'Nova {version} cannot use these drivers: {differences}'
    version: str
    differences: str


class CinderNotConfigured(MisconfiguredHost):
    """Nothing says where Cinder is, or what says so is wrong."""

    template = 'where Cinder is, is not known: {reason}'
    reason: str


class CinderTooOld(MisconfiguredHost):
    """Cinder does not speak the microversion that a call needs."""

    template = 'Cinder at {endpoint} speaks block storage API {found}; {what} needs {needed}'
    endpoint: str
    found: str
    needed: str
    what: str


class CinderForbidden(MisconfiguredHost):
    """Cinder does not accept this user, or does not let it do that."""

    template = 'Cinder refuses {action}: {reason}'
    action: str
    reason: str


class ServiceRoleNeeded(CinderForbidden):
    """Cinder lets only a service take away an attachment of an instance."""

    template = (
        'Cinder refuses {action}: {reason}. The attachment names an instance, and only a user '
        'with the service role may take it away (bug 2004555)'
    )


class ToolMissing(MisconfiguredHost):
    """A program that is needed is not installed."""

    template = '{tool} is not installed; install the package {package}'
    tool: str
    package: str


class DataAtRisk(VolumeDriversError):
    """Going on could lose or leak data, so nothing was done."""

    exit_code = 4


class IdentityMismatch(DataAtRisk):
    """A device is not the volume that was recorded or promised."""

    template = (
        '{path} is {found}, not {expected}, which was recorded for '
        'volume {volume_id}; it was left alone'
    )
    path: str
    found: str
    expected: str
    volume_id: str | None


class DeviceReused(IdentityMismatch):
    """The LUN of a disk that stayed on this host was given to another volume."""

    template = (
        '{path} was {expected} when this host found it and is {found} now: its LUN was given '
        'to another volume. Nothing was done for volume {volume_id}; when no guest has it any '
        'more, take it off this host (multipath -f, echo 1 > /sys/block/.../device/delete) '
        'without flushing it'
    )


class UnstableDevicePath(DataAtRisk):
    """A discovered device has no name that survives a reboot."""

    template = (
        '{path} of volume {volume_id} has no persistent name under /dev/disk, or one of '
        'another volume; check that udev runs ("udevadm settle") and has seen the device as it '
        'is now ("udevadm trigger {path}")'
    )
    path: str
    volume_id: str | None


class PathOutsideShare(DataAtRisk):
    """A file name leads out of its mount."""

    template = 'volume file {name!r} leads out of {mount_point} (to {resolved}); refused'
    name: str
    mount_point: str
    resolved: str


class UnsafeImage(DataAtRisk):
    """An image file is not what it is declared to be."""

    template = 'image {path} is refused: {reason}'
    path: str
    reason: str


class WrongMount(DataAtRisk):
    """Something else is mounted where a share should be."""

    template = (
        '{mount_point} holds {found}, not {expected}; unmount it, or change the mount point base'
    )
    mount_point: str
    found: str
    expected: str


class ShrinkRefused(DataAtRisk):
    """A live resize to less than the guest has now."""

    template = (
        '{disk} has {current} bytes; shrinking it to {size} would cut off data the guest has'
    )
    disk: str
    current: int
    size: int


class FlushFailed(DataAtRisk):
    """Data could not be flushed; the device was left where it is."""

    template = (
        'volume {volume_id} was not removed because flushing it '
        'failed: {reason}; repair the path, or force (loses data)'
    )
    volume_id: str | None
    reason: str


class FormatRefused(DataAtRisk):
    """A volume that should be encrypted holds no header, and may not be given one."""

    template = 'volume {volume_id} ({path}) was not formatted with {provider}: {reason}'
    volume_id: str | None
    path: str
    provider: str
    reason: str


class StillInUse(DataAtRisk):
    """A record cannot be forgotten while what it describes is there."""

    template = 'volume {volume_id} of guest {guest} is still in use: {reason}'
    volume_id: str
    guest: str
    reason: str


class AttachedElsewhere(DataAtRisk):
    """An attachment is of another host or guest, and not ours to change."""

    template = (
        'attachment {attachment_id} of volume {volume_id} is of {found}, not of {expected}; '
        'it was left alone'
    )
    attachment_id: str
    volume_id: str
    found: str
    expected: str


class ManagedElsewhere(DataAtRisk):
    """The disks of a guest are another program's to change."""

    template = (
        'the disks of guest {guest} are managed by {manager}: let it {operation} volume '
        '{volume_id}, or its records will not be true any more'
    )
    guest: str
    manager: str
    operation: str
    volume_id: str


class AttachmentLost(DataAtRisk):
    """A guest has a volume, and Cinder knows nothing of that."""

    template = (
        'guest {guest} has volume {volume_id}, and Cinder at {endpoint} has no attachment '
        '{attachment_id}: it may give the volume to somebody else'
    )
    guest: str
    volume_id: str
    attachment_id: str
    endpoint: str


class LeftoversFound(DataAtRisk):
    """After a removal something of the volume is still on the host."""

    template = 'volume {volume_id} left {leftovers} behind'
    volume_id: str | None
    leftovers: str


class RetryLater(VolumeDriversError):
    """Nothing is wrong with the request; the same call may succeed later."""

    exit_code = 5


class HypervisorUnavailable(RetryLater):
    """libvirt cannot be asked."""

    template = 'libvirt at {uri} cannot be reached: {reason}'
    uri: str
    reason: str


class CinderUnavailable(RetryLater):
    """Cinder did not answer, or answered that it cannot now.

    ``may_be_done``: whether it may have done, or still do, what it was asked
    for; ``answered``: it has said that it failed, so it is not at it any more.
    """

    template = 'Cinder at {endpoint} did not answer {action}: {reason}'
    endpoint: str
    action: str
    reason: str
    may_be_done: bool = True
    answered: bool = False


class EndpointUnreachable(RetryLater):
    """A storage endpoint does not answer its protocol in time."""

    template = '{protocol} endpoint {endpoint} does not answer: {reason}'
    protocol: str
    endpoint: str
    reason: str


class DeadlineExceeded(RetryLater):
    """Something took longer than it may."""

    template = 'gave up after {seconds:g} s waiting for {what}'
    what: str
    seconds: float


class VolumeDeviceNotFound(RetryLater):
    """The connector found no device for the volume."""

    template = 'no device appeared for volume {volume_id}: {reason}'
    volume_id: str | None
    reason: str


class DetachTimeout(RetryLater):
    """The guest did not release a disk in time."""

    template = (
        'guest {guest} did not release {disk} in {attempts} attempts of {seconds:g} s; {reason}'
    )
    guest: str
    disk: str
    attempts: int
    seconds: float
    reason: str = 'its kernel has to cooperate'


class LockHeld(RetryLater):
    """Another operation works on the same volume or target."""

    template = 'gave up after {seconds:g} s waiting for {lock}, which is held by {holder}'
    lock: str
    holder: str
    seconds: float


class Unfinished(RetryLater):
    """An earlier operation on the attachment was interrupted."""

    template = (
        '{operation} of volume {volume_id} and guest {guest} stopped in step {step} '
        '({problem}); "volumedrivers recover" finishes or undoes it'
    )
    operation: str
    volume_id: str
    guest: str
    step: str
    problem: str


class KeyUnavailable(RetryLater):
    """The key manager did not give the key of an encrypted volume."""

    template = 'the key {key_id} of volume {volume_id} cannot be had: {reason}'
    key_id: str
    volume_id: str | None
    reason: str


class RefreshRefused(RetryLater):
    """A volume cannot be reached another way while it is in use."""

    template = (
        'volume {volume_id} cannot be reached by its new connection_info while guest {guest} '
        'has it: {reason}; stop the guest, refresh the volume, and start the guest again'
    )
    volume_id: str
    guest: str
    reason: str


class Busy(RetryLater):
    """Somebody else holds what is needed."""

    template = '{what} is busy: {reason}'
    what: str
    reason: str


class NothingToDo(VolumeDriversError):
    """What was asked for is already the case."""

    exit_code = 6


class AlreadyAttached(NothingToDo):
    """The guest has the volume."""

    template = 'guest {guest} has volume {volume_id} already, as {target}'
    guest: str
    volume_id: str
    target: str


class VolumeNotConnected(NothingToDo):
    """The volume is not on this host."""

    template = 'volume {volume_id} is not connected to this host'
    volume_id: str | None


class DiskNotFound(NothingToDo):
    """The guest has no such disk, and this was asked for certain."""

    template = 'guest {guest} has no disk {disk}'
    guest: str
    disk: str


class NotRecorded(NothingToDo):
    """The journal knows no such attachment."""

    template = 'no attachment of volume {volume} to guest {guest} is recorded on this host'
    volume: str
    guest: str


class NotInCinder(NothingToDo):
    """Cinder says that it has no such thing, or does not show it to this user."""

    template = 'Cinder at {endpoint} says that there is nothing to {action}: {reason}'
    endpoint: str
    action: str
    reason: str


class SecretNotFound(NothingToDo):
    """libvirt has no secret of that usage, and this was asked for certain."""

    template = 'libvirt has no {usage_type} secret for {usage_id}'
    usage_type: str
    usage_id: str


class Degraded(VolumeDriversError):
    """It works, with less than was asked for."""

    exit_code = 7


class PathsMissing(Degraded):
    """Fewer paths than the connection_info names."""

    template = 'volume {volume_id} has {found} of {asked} paths; failed: {failed}'
    volume_id: str | None
    found: int
    asked: int
    failed: str


class OperationFailed(VolumeDriversError):
    """It failed for good; ``__cause__`` holds the reason."""


class ConnectFailed(OperationFailed):
    """The volume could not be brought to this host."""

    template = 'volume {volume_id} could not be connected ({driver_volume_type}): {reason}'
    volume_id: str | None
    driver_volume_type: str
    reason: str


class DisconnectFailed(OperationFailed):
    """The volume could not be removed from this host."""

    template = 'volume {volume_id} could not be disconnected ({driver_volume_type}): {reason}'
    volume_id: str | None
    driver_volume_type: str
    reason: str


class EncryptionFailed(OperationFailed):
    """An encrypted volume could not be opened, closed, formatted or resized."""

    template = 'encrypted volume {volume_id}: {reason}'
    volume_id: str | None
    reason: str


class ExtendVolumeFailed(OperationFailed):
    """The host did not see the volume's new size."""

    template = 'volume {volume_id} could not be extended: {reason}'
    volume_id: str | None
    reason: str


class ExtendVolumeNotSupported(OperationFailed):
    """The protocol cannot grow a volume that is in use."""

    template = 'volumes of type {driver_volume_type} cannot be extended while connected'
    driver_volume_type: str


class MountFailed(OperationFailed):
    """A share could not be mounted or unmounted."""

    template = '{source} at {mount_point}: {reason}'
    source: str
    mount_point: str
    reason: str


class AttachRefused(OperationFailed):
    """libvirt or QEMU refused a disk."""

    template = 'guest {guest} refused disk {disk}: {reason}'
    guest: str
    disk: str
    reason: str


class DetachRefused(OperationFailed):
    """The guest or QEMU refused to release a disk."""

    template = 'guest {guest} refused to release {disk}: {reason}'
    guest: str
    disk: str
    reason: str


class ResizeRefused(OperationFailed):
    """QEMU refused a new size."""

    template = 'guest {guest} refused {size} bytes for {disk}: {reason}'
    guest: str
    disk: str
    size: int
    reason: str


class CopyFailed(OperationFailed):
    """A running guest's disk could not be copied; the guest goes on with what it had."""

    template = 'the copy of disk {disk} of guest {guest} failed: {reason}'
    guest: str
    disk: str
    reason: str


class HostUnreadable(OperationFailed):
    """The kernel did not say what is there; so nothing counts as gone."""

    template = '{what} could not be read: {reason}'
    what: str
    reason: str


class CinderError(OperationFailed):
    """Cinder refused, or failed, for a reason that has no better name here."""

    template = 'Cinder refuses {action}: {reason}'
    action: str
    reason: str
    status: int | None = None


class HypervisorError(OperationFailed):
    """libvirt answered with an error that has no better name here."""

    template = 'libvirt: {action} failed: {reason}'
    action: str
    reason: str
