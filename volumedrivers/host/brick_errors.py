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

"""What os-brick raises, said without its secrets and in our classes.

iSCSI's CHAP password is an argument of iscsiadm, and the exception of a
command that failed holds the whole command and its output.  So nothing of a
command but the program's name and its exit code is quoted, what it printed on
standard error is quoted without the secret values of the connection, and the
exception itself is rewritten in place (:func:`scrub`) before it becomes the
``__cause__``: a traceback in a log shows the text of causes too.  The local
variables of the frames in its traceback are dropped, since some loggers print
them.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import os
import re
import traceback
import typing

from volumedrivers import exception
from volumedrivers.connection_tree import KEY_IN_KEYRING
from volumedrivers.protocol_data import Concealed
from volumedrivers.secret_names import is_secret_name

_HIDDEN = '***'
_LIMIT = 400
_DEPTH = 8
_FLUSH_TOOLS = frozenset({'blockdev', 'multipath', 'multipathd', 'sync', 'dmsetup'})
# multipath -f of a map that is open
_IN_USE = 'map in use'
_ABSENT = (
    'VolumeDeviceNotFound',
    'NoFibreChannelVolumeDeviceFound',
    'VolumePathsNotFound',
    'TargetPortalNotFound',
    'FailedISCSITargetPortalLogin',
)
_NO_DEVICE = re.compile(
    r'did not show up|not found at expected path|volume \S+ not found', re.IGNORECASE
)


class Call(typing.NamedTuple):
    """What was asked of os-brick, for the errors."""

    protocol: str
    driver_volume_type: str
    volume_id: str | None
    secrets: tuple[str, ...]


def secrets_of(value: object, *, conceal: bool = False) -> Iterator[str]:
    """Return the secret values in connection properties, marked as such or by name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_of(item, conceal=conceal or is_secret_name(str(key)))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secrets_of(item, conceal=conceal)
    elif value and (isinstance(value, Concealed) or (conceal and isinstance(value, (str, bytes)))):
        text = value.decode(errors='replace') if isinstance(value, bytes) else str(value)
        # Within a dictionary that is printed lines are no lines any more, and
        # of a Ceph keyring a tool may print the key alone.
        for form in {text, repr(text)[1:-1], *KEY_IN_KEYRING.findall(text)}:
            yield Concealed(form)


def hide(text: str, secrets: typing.Iterable[str]) -> str:
    """Return a text without any of these values, and what looks like one."""
    from oslo_utils import strutils  # noqa: PLC0415 - not for the registry

    return str(strutils.mask_password(replace(text, secrets)))


def replace(text: str, secrets: typing.Iterable[str]) -> str:
    """Return a text without any of these values."""
    # The longest first: a secret may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def scrub(error: BaseException, secrets: typing.Sequence[str], *, depth: int = _DEPTH) -> None:
    """Take secrets out of an exception, and of those that led to it."""
    if depth == 0:
        return

    def clean(value: object) -> object:
        if isinstance(value, str):
            return hide(value, secrets)
        if isinstance(value, (list, tuple)):
            return type(value)(clean(item) for item in value)
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        return value

    for name in (
        'cmd',
        'stdout',
        'stderr',
        'description',
        'msg',
        'message',
        'kwargs',
        '__notes__',
    ):
        if name in vars(error):
            setattr(error, name, clean(getattr(error, name)))
    traceback.clear_frames(error.__traceback__)
    error.args = tuple(clean(argument) for argument in error.args)
    for inner in _chained(error):
        scrub(inner, secrets, depth=depth - 1)
    for other in (error.__cause__, error.__context__):
        if other is not None:
            scrub(other, secrets, depth=depth - 1)


def _chained(error: BaseException) -> list[BaseException]:
    """Return what an ExceptionChainer holds; str() of it may fail."""
    held = getattr(error, '_exceptions', ())
    return [entry[1] for entry in held if isinstance(entry[1], BaseException)]


def describe(error: BaseException, secrets: typing.Sequence[str]) -> str:
    """Return what happened in a line, without a secret; never fails."""
    name = type(error).__name__
    inner = _chained(error)
    if inner:
        return '; '.join(describe(each, secrets) for each in inner)
    if hasattr(error, 'cmd') and hasattr(error, 'exit_code'):
        said = str(getattr(error, 'stderr', '') or getattr(error, 'description', '') or '')
        text = f'{_program(error) or "a command"} ended with {error.exit_code}: {said}'
        if name == 'ExecutionTimeout':
            text = f'{_program(error) or "a command"} did not end in time'
    else:
        given = getattr(error, 'kwargs', None)
        # os-brick's RBD connector puts its text where its base class ignores it.
        hidden = given.get('msg') if isinstance(given, dict) else None
        try:
            text = str(hidden or error)
        except Exception:
            # os-brick's __str__ may fail on what it has stored itself.
            text = ''
        if text == 'Volume device not found at .':
            text = 'os-brick found none'
        elif not _is(error, 'BrickException'):
            text = f'{name}: {text}'
    return ' '.join(hide(text, secrets).split())[:_LIMIT].rstrip(': ')


def _program(error: BaseException) -> str:
    """Return the name of the program that failed, without its arguments."""
    command = getattr(error, 'cmd', None)
    if isinstance(command, (list, tuple)):
        words = [str(word) for word in command]
    else:
        words = str(command or '').split()
    for word in words:
        name = os.path.basename(word.strip('"\''))
        if name not in ('sudo', 'env', 'LC_ALL=C') and not name.endswith('rootwrap'):
            return name
    return ''


def _is(error: BaseException, *names: str) -> bool:
    """Tell an exception's class, or one above it, by name.

    So that os-brick need not be imported to name its errors.
    """
    return any(each.__name__ in names for each in type(error).__mro__)


def _of_host(error: BaseException, call: Call) -> exception.VolumeDriversError | None:
    """Return the error of a host that is not fit for the call; None: it is."""
    name = type(error).__name__
    reason = describe(error, call.secrets)
    if name == 'InvalidConnectorProtocol':
        reason = f'os-brick has no connector {call.protocol} for this machine'
    elif name == 'NoFibreChannelHostsFound':
        reason = 'there is no Fibre Channel adapter that is online'
    elif name == 'RequiredOptError':
        return exception.NotSetUp(reason=reason)
    elif name == 'FailedToDropPrivileges':
        return exception.PrivilegedCallRefused(
            function='os-brick',
            reason=f'its helper cannot be started: {reason}; "sudo -n -l" should list rootwrap',
        )
    elif 'Multipathing is enforced' in reason:
        if call.protocol not in ('NVMEOF', 'NVME'):
            return exception.MultipathNotRunning()
        reason = 'volume_enforce_multipath is set and nvme_core has no native multipath'
    else:
        return None
    return exception.VolumeDriverNotSupported(
        driver_volume_type=call.driver_volume_type, reason=reason
    )


def of_factory(error: Exception, call: Call) -> exception.VolumeDriversError:
    """Return the error of a connector that could not be made."""
    return _of_host(error, call) or exception.VolumeDriverNotSupported(
        driver_volume_type=call.driver_volume_type, reason=describe(error, call.secrets)
    )


def of_connect(error: Exception, call: Call) -> exception.VolumeDriversError:
    """Return the error of a volume that could not be connected."""
    reason = describe(error, call.secrets)
    if _is(error, *_ABSENT) or (_is(error, 'BrickException') and _NO_DEVICE.search(reason)):
        return exception.VolumeDeviceNotFound(volume_id=call.volume_id, reason=reason)
    return _of_host(error, call) or exception.ConnectFailed(
        volume_id=call.volume_id, driver_volume_type=call.driver_volume_type, reason=reason
    )


def of_disconnect(
    error: Exception, call: Call, *, force: bool
) -> exception.VolumeDriversError | None:
    """Return the error of a removal; None: it is done all the same.

    A forced removal ends with an ExceptionChainer of what went wrong on the
    way, although the host is clean.
    """
    if _is(error, 'VolumeDeviceNotFound'):
        return exception.VolumeNotConnected(volume_id=call.volume_id)
    first: BaseException = error
    if _is(error, 'ExceptionChainer'):
        if force:
            return None
        first = next(iter(_chained(error)), error)
    reason = describe(error, call.secrets)
    if _is(first, 'ProcessExecutionError') and not force:
        program = _program(first)
        if program == 'multipath' and _IN_USE in reason:
            # A guest that runs, say.  To force it is no advice to give.
            return exception.Busy(
                what=f'volume {call.volume_id}',
                reason='somebody has its multipath map open; nothing was removed',
            )
        if not program or program in _FLUSH_TOOLS:
            return exception.FlushFailed(volume_id=call.volume_id, reason=reason)
    return _of_host(error, call) or exception.DisconnectFailed(
        volume_id=call.volume_id, driver_volume_type=call.driver_volume_type, reason=reason
    )


def of_extend(error: Exception, call: Call) -> exception.VolumeDriversError:
    """Return the error of a volume whose new size was not seen."""
    if isinstance(error, NotImplementedError):
        return exception.ExtendVolumeNotSupported(driver_volume_type=call.driver_volume_type)
    return _of_host(error, call) or exception.ExtendVolumeFailed(
        volume_id=call.volume_id, reason=describe(error, call.secrets)
    )
