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

"""What Nova's callers of a volume driver catch, made of this package's errors."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import typing

from nova import exception as nova
from os_brick import exception as brick

from volumedrivers import exception


class VolumeDriverError(nova.NovaException):  # type: ignore[misc]
    """An error of this package for which Nova has no exception of its own.

    Its text is in the fault of the instance, and this package's error is the
    ``__cause__``.
    """

    msg_fmt = '%(reason)s'


def _of_driver(error: typing.Any) -> Exception:
    return typing.cast(Exception, nova.VolumeDriverNotFound(driver_type=error.driver_volume_type))


def _of_host(error: Exception) -> Exception:
    return typing.cast(Exception, nova.VolumeDriverNotSupported(str(error), volume_driver=''))


def _of_size(error: typing.Any) -> Exception:
    return typing.cast(
        Exception, nova.VolumeExtendFailed(volume_id=error.volume_id, reason=error.reason)
    )


def _of_mode(error: typing.Any) -> Exception:
    return typing.cast(Exception, nova.InvalidVolumeAccessMode(access_mode=error.found))


def _of_device(error: Exception) -> Exception:
    return typing.cast(Exception, brick.VolumeDeviceNotFound(str(error)))


def _of_input(error: Exception) -> Exception:
    return typing.cast(Exception, nova.InvalidVolume(reason=str(error)))


def _of_libvirt(error: Exception) -> Exception:
    return typing.cast(Exception, nova.HypervisorUnavailable(str(error)))


# The first that fits.  Who catches them: LibvirtDriver.extend_volume makes
# ExtendVolumeNotSupported of NotImplementedError; what looks for a driver,
# VolumeDriverNotFound and its subclass; what talks to libvirt,
# HypervisorUnavailable.  The others are told to whoever asked Nova.
_NOVAS: tuple[tuple[type[Exception], Callable[[typing.Any], Exception]], ...] = (
    (exception.VolumeDriverNotFound, _of_driver),
    (exception.VolumeDriverNotSupported, _of_host),
    (exception.PluginRefused, _of_host),
    (exception.PluginConflict, _of_host),
    (exception.ExtendVolumeNotSupported, lambda error: NotImplementedError(str(error))),
    (exception.ExtendVolumeFailed, _of_size),
    (exception.InvalidVolumeAccessMode, _of_mode),
    (exception.VolumeDeviceNotFound, _of_device),
    (exception.HypervisorUnavailable, _of_libvirt),
    (exception.BadInput, _of_input),
)


def as_nova(error: exception.VolumeDriversError) -> Exception:
    """Return the exception that Nova expects in an error's place; it has the same text."""
    for ours, make in _NOVAS:
        if isinstance(error, ours):
            return make(error)
    return VolumeDriverError(reason=str(error))


@contextlib.contextmanager
def translated(*, loading: bool = False) -> Iterator[None]:
    """Raise Nova's exceptions within the block; this package's are their cause.

    :param loading: a driver is being made; whatever keeps it from that, Nova takes
        for a driver that this host cannot have
    """
    try:
        yield
    except exception.VolumeDriversError as error:
        translation = as_nova(error)
        if loading and not isinstance(translation, nova.VolumeDriverNotFound):
            translation = _of_host(error)
        for note in getattr(error, '__notes__', ()):
            translation.add_note(note)
        raise translation from error
