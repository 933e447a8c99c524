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

"""What went wrong when Cinder was asked, as one of this package's errors."""

import typing

from volumedrivers import exception

_NO_ANSWER = frozenset((408, 429, 500, 502, 503, 504))
# The others may be those of a proxy that waits no longer.
_ITS_OWN = frozenset((429, 500))
_NOT_YOURS = frozenset((401, 403))
# What Cinder's answer says where only a service may take an attachment away.
_ASK_COMPUTE = 'using the Compute API'


def translate(error: Exception, action: str, endpoint: str) -> exception.VolumeDriversError:
    """Return what an error of the SDK, or of keystoneauth, means.

    :param action: what was asked for, such as "delete attachment"
    :param endpoint: of Cinder, as people know it
    """
    from keystoneauth1 import exceptions as keystoneauth  # noqa: PLC0415
    from openstack import exceptions as sdk  # noqa: PLC0415

    reason = _one_line(error)
    status = status_of(error)
    if status is not None:
        return _by_status(status, action, endpoint, reason)
    if isinstance(error, keystoneauth.ConnectFailure | keystoneauth.ConnectTimeout):
        # Nothing was sent, unless the other side went away in the middle.
        sent = not isinstance(error, keystoneauth.ConnectTimeout) and 'refused' not in reason
        return exception.CinderUnavailable(
            endpoint=endpoint, action=action, reason=reason, may_be_done=sent
        )
    if isinstance(error, keystoneauth.ConnectionError):
        return exception.CinderUnavailable(endpoint=endpoint, action=action, reason=reason)
    if isinstance(error, keystoneauth.ClientException | sdk.ConfigException):
        return exception.CinderNotConfigured(reason=reason)
    if isinstance(error, sdk.NotSupported):
        return exception.CinderTooOld(
            endpoint=endpoint, found='an older version', needed='a newer one', what=action
        )
    return exception.CinderError(action=action, reason=reason)


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of an answer; None: there was none."""
    for name in ('status_code', 'http_status'):
        found = getattr(error, name, None)
        if isinstance(found, int) and found:
            return found
    return None


def _by_status(
    status: int, action: str, endpoint: str, reason: str
) -> exception.VolumeDriversError:
    kind: type[exception.VolumeDriversError]
    more: dict[str, typing.Any] = {}
    if status in _NOT_YOURS:
        kind = exception.CinderForbidden
    elif status == 404:
        kind, more = exception.NotInCinder, {'endpoint': endpoint}
    elif status in _NO_ANSWER:
        kind = exception.CinderUnavailable
        more = {'endpoint': endpoint, 'answered': status in _ITS_OWN}
    elif status == 406:
        return exception.CinderTooOld(
            endpoint=endpoint, found='an older version', needed='a newer one', what=action
        )
    elif _ASK_COMPUTE in reason:
        kind = exception.ServiceRoleNeeded
    else:
        kind, more = exception.CinderError, {'status': status}
    return kind(action=action, reason=reason, **more)


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
