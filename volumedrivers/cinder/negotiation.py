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

"""Find Cinder, and which microversions it speaks; asked once for a connection."""

import copy
import typing

from volumedrivers import exception
from volumedrivers.cinder import answers
from volumedrivers.cinder import endpoints

if typing.TYPE_CHECKING:
    import openstack.connection

#: that calls are made with, or less where Cinder speaks less
MOST: typing.Final = '3.71'


def open_proxy(
    connection: 'openstack.connection.Connection', place: str, source: str, timeout: float
) -> tuple[typing.Any, tuple[int, int] | None]:
    """Return the SDK's proxy with one microversion and without retries, and what Cinder speaks.

    The connection's own proxy stays as it is.  Errors of the SDK and of
    keystoneauth are raised as they are.

    :param place: what is known of where Cinder is
    :param source: where it is configured
    :param timeout: seconds for an answer, where the session has no limit of its own
    :raises CinderTooOld, CinderNotConfigured
    """
    from keystoneauth1 import exceptions as keystoneauth  # noqa: PLC0415 - slow to import
    from openstack import exceptions as sdk  # noqa: PLC0415
    from openstack import proxy  # noqa: PLC0415

    try:
        found = connection.block_storage
        if not isinstance(found, proxy.Proxy):
            # That a service is not in the catalog is said when it is used.
            found.get_endpoint()
            return found, None
        ours = copy.copy(found)
        # They would repeat every request, also one that makes something.
        ours.connect_retries = ours.status_code_retries = 0
        ours.default_microversion = None
        data = ours.get_endpoint_data()
        url = str(ours.get_endpoint())
    except (keystoneauth.DiscoveryFailure, sdk.NotSupported) as error:
        url = connection.config.get_endpoint('block-storage')
        if url is not None:
            _look(connection.session, url, place, source)
            # It has come back meanwhile.
            raise exception.CinderUnavailable(
                endpoint=place,
                action='version discovery',
                reason=f'no version was found at first ({answers.sentence(str(error))})',
                may_be_done=False,
            ) from error
        raise
    most = None if data is None else data.max_microversion
    if most is None:
        speaks = _look(connection.session, url, place, source)
    else:
        speaks = (int(most[0]), int(most[1]))
    ours.default_microversion = text(min(speaks, version(MOST)))
    _ask_cinder_itself(ours, timeout if connection.session.timeout is None else None)
    return ours, speaks


def _ask_cinder_itself(proxy: typing.Any, timeout: float | None) -> None:
    """Let each request reach Cinder, end in time, and be answered by it.

    A cache that clouds.yaml sets up would say what was so before.
    """
    send = proxy.request
    limit = {} if timeout is None else {'timeout': timeout}

    def request(url: str, method: str, *args: typing.Any, **more: typing.Any) -> typing.Any:
        response = send(url, method, *args, **{**limit, **more, 'skip_cache': True})
        answers.require_readable(method, response)
        return response

    proxy.request = request


def version(written: str) -> tuple[int, int]:
    """Return the numbers of a microversion."""
    major, _, minor = written.partition('.')
    return int(major), int(minor or 0)


def text(numbers: tuple[int, int]) -> str:
    """Return a microversion as it is written."""
    return f'{numbers[0]}.{numbers[1]}'


def _look(session: typing.Any, url: str, place: str, source: str) -> tuple[int, int]:
    """Find out why no microversion was found: that nothing answers is not told otherwise.

    The SDK goes on without them then, and all calls of today would fail.
    """
    from openstack import exceptions as sdk  # noqa: PLC0415

    root = endpoints.identity(url)
    status = 0
    for path, with_token in (('/', False), ('/v3/', True)):
        answer = session.get(root + path, authenticated=with_token, raise_exc=False)
        versions = _versions(answer)
        if versions is not None:
            return _best(versions, place)
        status = answer.status_code
        if status >= 500 or status in (408, 429):
            sdk.raise_from_response(answer)
    raise exception.CinderNotConfigured(
        reason=f'{source or "the configuration"}: what answers at {root} is no Cinder '
        f'(HTTP status {status}, and no versions); look at the URL'
    )


def _versions(answer: typing.Any) -> list[typing.Any] | None:
    try:
        found = answer.json()
        versions = found['versions'] if 'versions' in found else [found['version']]
    except (ValueError, TypeError, KeyError):
        return None
    return versions if isinstance(versions, list) else None


def _best(versions: list[typing.Any], place: str) -> tuple[int, int]:
    for one in versions:
        if isinstance(one, dict) and str(one.get('id', '')).startswith('v3'):
            written = str(one.get('version') or '3.0')
            if all(part.isdigit() for part in written.split('.')):
                return version(written)
    raise exception.CinderTooOld(
        endpoint=place, found='no version 3', needed='3.0', what='everything'
    )
