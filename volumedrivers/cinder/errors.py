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

import re
import urllib.parse

from volumedrivers import exception
from volumedrivers.cinder import answers

# What may have another answer next time.
_NOT_NOW = frozenset((408, 429, 500, 502, 503, 504, *range(520, 531)))
_NOT_YOURS = frozenset((401, 403, 407))
# What Cinder's answer says where only a service may take an attachment away.
_ASK_COMPUTE = 'using the Compute API'
# What it says of a call that is not there in the version that was asked for.
_NO_SUCH_CALL = 'is not supported on this method'
_MOST = re.compile(r'[Mm]aximum is ([0-9]+\.[0-9]+)')
_NOT_A_URL = frozenset(
    ('InvalidURL', 'InvalidSchema', 'MissingSchema', 'InvalidProxyURL', 'LocationParseError')
)
_CERTIFICATE = re.compile('certificate|hostname|CA bundle', re.IGNORECASE)
_WRONG_PORT = re.compile('WRONG_VERSION_NUMBER|record layer|unknown protocol', re.IGNORECASE)
_NOT_IN_CATALOG = re.compile(r'service catalog: (.*) not found')
_URL = re.compile(r'https?://[^\s\'"<>]+')


def translate(
    error: Exception, action: str, endpoint: str, *, source: str = ''
) -> exception.VolumeDriversError:
    """Return what an error of the SDK, or of keystoneauth, means.

    :param action: what was asked for, such as "delete attachment"
    :param endpoint: of Cinder, as people know it
    :param source: where that is configured
    """
    return _Translation(action, endpoint, source or 'the configuration').of(error)


def retry_after(error: BaseException | None) -> float | None:
    """Return after how many seconds Cinder wants to be asked again; None: it did not say.

    :param error: of the SDK or of keystoneauth
    """
    status = status_of(error) if isinstance(error, Exception) else None
    if status is None or not isinstance(error, Exception):
        return None
    return answers.Answer(status, error).retry_after


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of an answer; None: there was none."""
    for name in ('status_code', 'http_status'):
        found = getattr(error, name, None)
        if isinstance(found, int) and found:
            return found
    return None


class _Translation:
    def __init__(self, action: str, endpoint: str, source: str) -> None:
        self.action = action
        self.endpoint = endpoint
        self.source = source

    def of(self, error: Exception) -> exception.VolumeDriversError:
        from keystoneauth1 import exceptions as keystoneauth  # noqa: PLC0415
        from openstack import exceptions as sdk  # noqa: PLC0415

        status = status_of(error)
        if isinstance(error, keystoneauth.HttpError):
            # The SDK lets keystoneauth raise nothing for what Cinder answers.
            return self.identity(status or 0, error)
        if status is not None:
            return self.answer(answers.Answer(status, error))
        if isinstance(error, keystoneauth.ClientException):
            return self.keystoneauth(error)
        if isinstance(error, sdk.SDKException):
            return self.sdk(error)
        return self.other(error)

    def keystoneauth(self, error: Exception) -> exception.VolumeDriversError:
        """By its class, of what is no answer."""
        from keystoneauth1 import exceptions as keystoneauth  # noqa: PLC0415

        # Why Keystone's versions could not be had is inside.
        inner = error.__cause__ or error.__context__
        if isinstance(error, keystoneauth.ConnectionError):
            return self.no_answer(error)
        if isinstance(error, keystoneauth.DiscoveryFailure):
            if isinstance(inner, keystoneauth.ConnectionError):
                return self.no_answer(inner, identity=True)
            if isinstance(inner, keystoneauth.HttpError):
                return self.identity(status_of(inner) or 0, inner)
        return self.misconfigured(self.plain(error))

    def answer(self, answer: answers.Answer) -> exception.VolumeDriversError:
        """By the status of an answer to the call itself."""
        status, reason = answer.status, answer.reason
        if status in _NOT_YOURS:
            return exception.CinderForbidden(action=self.action, reason=reason)
        if status == 406 or (status == 404 and _NO_SUCH_CALL in reason):
            most = _MOST.search(reason)
            return self.too_old(f'up to {most[1]}' if most else 'an older version')
        if status == 404 and answer.said:
            return exception.NotInCinder(action=self.action, endpoint=self.endpoint, reason=reason)
        if status in _NOT_NOW or status == 404:
            # That some proxy knows no such page says nothing of Cinder's things.
            return self.unavailable(
                reason, sent=status != 429, answered=bool(answer.said) or status in (429, 500)
            )
        if _ASK_COMPUTE in reason:
            return exception.ServiceRoleNeeded(action=self.action, reason=reason)
        return exception.CinderError(action=self.action, reason=reason, status=status)

    def identity(self, status: int, error: Exception) -> exception.VolumeDriversError:
        """By the status of an answer to what comes before the call: token and versions."""
        reason = self.plain(error)
        if reason == type(error).__name__:
            reason = f'HTTP status {status}'
        url = str(getattr(error, 'url', None) or '')
        place = f'Keystone at {_place(url)}' if url else 'Keystone'
        if status in _NOT_NOW:
            return self.unavailable(f'{place} answered: {reason}', sent=False)
        if status in _NOT_YOURS:
            return self.misconfigured(
                f'{place} does not accept the user ({reason}); look at user, project, domains '
                'and password'
            )
        return self.misconfigured(f'{place} answered: {reason}; look at auth_url')

    def no_answer(
        self, error: Exception, *, identity: bool = False
    ) -> exception.VolumeDriversError:
        from keystoneauth1 import exceptions as keystoneauth  # noqa: PLC0415

        words, sent = answers.why_none(error)
        url = _URL.search(str(error))
        where = _place(url[0]) if url else ''
        kinds = answers.kinds(error)
        if kinds & _NOT_A_URL:
            return self.misconfigured(f'{where or "what it has"} is no URL')
        if isinstance(error, keystoneauth.SSLError):
            text = str(error)
            if _CERTIFICATE.search(text):
                return self.misconfigured(
                    f'the certificate of {where} is not trusted; look at cacert in clouds.yaml, '
                    'OS_CACERT or cafile'
                )
            if _WRONG_PORT.search(text):
                return self.misconfigured(f'{where} does not speak TLS; look at its URL')
            words = 'TLS failed'
        if identity or where.endswith('/tokens'):
            return self.unavailable(f'Keystone at {where}: {words}', sent=False)
        return self.unavailable(words, sent=sent)

    def sdk(self, error: Exception) -> exception.VolumeDriversError:
        from openstack import exceptions as sdk  # noqa: PLC0415

        if isinstance(error, sdk.NotSupported | sdk.MethodNotSupported):
            return self.too_old('an older version')
        if isinstance(
            error, sdk.ConfigException | sdk.EndpointNotFound | sdk.ServiceDiscoveryException
        ):
            missing = _NOT_IN_CATALOG.search(str(error))
            if missing:
                return self.misconfigured(
                    f'the catalog has no {missing[1]}; look at region_name and the interface'
                )
            return self.misconfigured(self.plain(error))
        if isinstance(error, sdk.InvalidResponse | sdk.ResourceTimeout):
            return self.unavailable(self.plain(error), sent=True)
        return exception.CinderError(action=self.action, reason=self.plain(error))

    def other(self, error: Exception) -> exception.VolumeDriversError:
        kinds = answers.kinds(error)
        if isinstance(error, answers.NotReadable):
            return self.unavailable(str(error), sent=True, answered=True)
        if 'JSONDecodeError' in kinds:
            return self.unavailable('the answer is not JSON', sent=True, answered=True)
        if 'ImpliedVersionMismatch' in kinds:
            return self.misconfigured(f'{self.plain(error)}; look at service_type')
        if isinstance(error, OSError):
            text = self.plain(error)
            if _CERTIFICATE.search(text) or 'TLS' in text:
                # A file that is not there is found when it is first used.
                return self.misconfigured(text)
            words, sent = answers.why_none(error)
            return self.unavailable(words, sent=sent)
        return exception.CinderError(action=self.action, reason=self.plain(error))

    def unavailable(
        self, reason: str, *, sent: bool, answered: bool = False
    ) -> exception.CinderUnavailable:
        return exception.CinderUnavailable(
            endpoint=self.endpoint,
            action=self.action,
            reason=reason,
            may_be_done=sent,
            answered=answered,
        )

    def misconfigured(self, reason: str) -> exception.CinderNotConfigured:
        return exception.CinderNotConfigured(reason=f'{self.source}: {reason}')

    def too_old(self, found: str) -> exception.CinderTooOld:
        return exception.CinderTooOld(
            endpoint=self.endpoint, found=found, needed='a newer one', what=self.action
        )

    def plain(self, error: Exception) -> str:
        """Return the words of an error."""
        details = getattr(error, 'details', None) or getattr(error, 'message', None) or error
        words = answers.sentence(_URL.sub(lambda match: _place(match[0]), str(details)))
        return type(error).__name__ if words[:1] in ('', '{', '[', '<') else words


def _place(url: str) -> str:
    """Return a URL without user and query."""
    try:
        parts = urllib.parse.urlsplit(url.rstrip('.,;:)'))
        return f'{parts.scheme}://{parts.netloc.rpartition("@")[2]}{parts.path}'
    except ValueError:
        return 'its URL'
