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

"""What libvirt's errors mean to a caller; the one place that translates them.

Error codes: https://libvirt.org/html/libvirt-virterror.html
"""

import libvirt

from volumedrivers import exception

# These always mean that libvirt was not reached or did not let us in.
_CONNECTION_CODES = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_GNUTLS_ERROR,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_SSH,
        libvirt.VIR_ERR_LIBSSH,
    }
)
# These do so only when the part of libvirt that carries the call says them:
# a broken pipe is a SYSTEM_ERROR, a closed socket an INTERNAL_ERROR.
_CARRIERS = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_STREAMS})
_CARRIED_CODES = frozenset(
    {
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_OPERATION_FAILED,
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
    }
)
_BUSY_CODES = frozenset(
    {
        libvirt.VIR_ERR_OPERATION_TIMEOUT,  # another job holds the domain
        libvirt.VIR_ERR_BLOCK_COPY_ACTIVE,
        libvirt.VIR_ERR_RESOURCE_BUSY,
    }
)


def message(error: libvirt.libvirtError) -> str:
    """Return libvirt's sentence, without the words of the Python binding."""
    return str(error.get_error_message() or error)


def is_lost(error: libvirt.libvirtError) -> bool:
    """Tell whether nobody knows any more what libvirt said.

    Python may free a libvirt object, of any other call, in the moment in which
    the binding makes the exception; that wipes the thread's last error.
    """
    return error.get_error_code() is None


def is_connection_lost(error: libvirt.libvirtError) -> bool:
    """Tell whether libvirt could not be asked at all."""
    code = error.get_error_code()
    if code in _CONNECTION_CODES:
        return True
    return code in _CARRIED_CODES and error.get_error_domain() in _CARRIERS


def is_busy(error: libvirt.libvirtError) -> bool:
    """Tell whether something else of the domain is under way."""
    return error.get_error_code() in _BUSY_CODES and not is_connection_lost(error)


def is_no_domain(error: libvirt.libvirtError) -> bool:
    """Tell whether libvirt said that it has no such domain."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def translate(
    error: libvirt.libvirtError, *, uri: str, action: str, guest: str | None = None
) -> exception.VolumeDriversError:
    """Return our error for one of libvirt's; raise it ``from`` that one.

    :param action: what was tried, in words ("look up guest vm1")
    :param guest: name or UUID, where a domain was the matter
    """
    reason = message(error)
    if is_connection_lost(error):
        return exception.HypervisorUnavailable(uri=uri, reason=reason)
    if is_no_domain(error) and guest is not None:
        return exception.GuestNotFound(guest=guest, uri=uri)
    if is_busy(error):
        return exception.Busy(what=uri if guest is None else f'guest {guest}', reason=reason)
    return exception.HypervisorError(action=action, reason=reason)
