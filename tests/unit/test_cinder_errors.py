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

import importlib
import inspect
import json
import pickle
import pkgutil

from keystoneauth1 import exceptions as ksa
import keystoneauth1.exceptions
from openstack import exceptions as sdk
import openstack.exceptions
import pytest
import requests

from volumedrivers import exception
from volumedrivers.cinder import answers
from volumedrivers.cinder import errors

ENDPOINT = 'http://block:8776'


def response(status, content=b'', kind='application/json', reason='Words', **headers):
    made = requests.Response()
    made.status_code = status
    made._content = json.dumps(content).encode() if isinstance(content, dict) else content
    made.reason = reason
    made.headers.update({'Content-Type': kind, **headers})
    made.request = requests.Request('GET', f'{ENDPOINT}/v3/volumes?secret=Hidden').prepare()
    made.url = made.request.url
    return made


def answered(status, content=b'', **more):
    """What the SDK makes of an answer."""
    with pytest.raises(sdk.HttpException) as caught:
        sdk.raise_from_response(response(status, content, **more))
    return caught.value


def fault(message, said='computeFault'):
    return {said: {'code': 0, 'message': message}}


def translated(error):
    return errors.translate(error, 'delete attachment', ENDPOINT, source='group [cinder]')


def subclasses(*roots):
    todo, found = list(roots), set()
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += one.__subclasses__()
    return found


def classes_of(package):
    """Every exception class that a package defines, also in modules below."""
    modules = [package]
    if hasattr(package, '__path__'):
        modules += [
            importlib.import_module(f'{package.__name__}.{one.name}')
            for one in pkgutil.iter_modules(package.__path__)
        ]
    return {
        found
        for module in modules
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception)
        and not issubclass(found, Warning)
        and found.__module__.startswith(package.__name__)
    }


# What each class that is no answer with a status means; a new one of theirs
# has to be thought about.
KEYSTONEAUTH = {
    'AuthPluginException': exception.CinderNotConfigured,
    'AuthorizationFailure': exception.CinderNotConfigured,
    'CatalogException': exception.CinderNotConfigured,
    'ClientException': exception.CinderNotConfigured,
    'ConnectFailure': exception.CinderUnavailable,
    'ConnectTimeout': exception.CinderUnavailable,
    'ConnectionError': exception.CinderUnavailable,
    'DiscoveryFailure': exception.CinderNotConfigured,
    'EmptyCatalog': exception.CinderNotConfigured,
    'EndpointNotFound': exception.CinderNotConfigured,
    'ImpliedMaxVersionMismatch': exception.CinderNotConfigured,
    'ImpliedMinVersionMismatch': exception.CinderNotConfigured,
    'ImpliedVersionMismatch': exception.CinderNotConfigured,
    'InvalidDiscoveryEndpoint': exception.CinderNotConfigured,
    'InvalidOidcDiscoveryDocument': exception.CinderNotConfigured,
    'InvalidResponse': exception.CinderNotConfigured,
    'MissingAuthMethods': exception.CinderNotConfigured,
    'MissingAuthPlugin': exception.CinderNotConfigured,
    'MissingRequiredOptions': exception.CinderNotConfigured,
    'NoMatchingPlugin': exception.CinderNotConfigured,
    'OidcAccessTokenEndpointNotFound': exception.CinderNotConfigured,
    'OidcAuthorizationEndpointNotFound': exception.CinderNotConfigured,
    'OidcDeviceAuthorizationEndpointNotFound': exception.CinderNotConfigured,
    'OidcDeviceAuthorizationTimeOut': exception.CinderNotConfigured,
    'OidcGrantTypeMissmatch': exception.CinderNotConfigured,
    'OidcInvalidCodeChallengeMethod': exception.CinderNotConfigured,
    'OidcPluginNotSupported': exception.CinderNotConfigured,
    'OptionError': exception.CinderNotConfigured,
    'RetriableConnectionFailure': exception.CinderError,
    'SSLError': exception.CinderUnavailable,
    'ServiceProviderNotFound': exception.CinderNotConfigured,
    'UnknownConnectionError': exception.CinderUnavailable,
    'UnsupportedParameters': exception.CinderNotConfigured,
    'VersionNotAvailable': exception.CinderNotConfigured,
    # By their status: Keystone's answer, as Cinder's are the SDK's errors.
    'BadGateway': exception.CinderUnavailable,
    'BadRequest': exception.CinderNotConfigured,
    'Conflict': exception.CinderNotConfigured,
    'ExpectationFailed': exception.CinderNotConfigured,
    'Forbidden': exception.CinderNotConfigured,
    'GatewayTimeout': exception.CinderUnavailable,
    'Gone': exception.CinderNotConfigured,
    'HTTPClientError': exception.CinderNotConfigured,
    'HttpError': exception.CinderNotConfigured,
    'HttpNotImplemented': exception.CinderNotConfigured,
    'HttpServerError': exception.CinderNotConfigured,
    'HttpVersionNotSupported': exception.CinderNotConfigured,
    'InternalServerError': exception.CinderUnavailable,
    'LengthRequired': exception.CinderNotConfigured,
    'MethodNotAllowed': exception.CinderNotConfigured,
    'NotAcceptable': exception.CinderNotConfigured,
    'NotFound': exception.CinderNotConfigured,
    'PaymentRequired': exception.CinderNotConfigured,
    'PreconditionFailed': exception.CinderNotConfigured,
    'ProxyAuthenticationRequired': exception.CinderNotConfigured,
    'RequestEntityTooLarge': exception.CinderNotConfigured,
    'RequestTimeout': exception.CinderUnavailable,
    'RequestUriTooLong': exception.CinderNotConfigured,
    'RequestedRangeNotSatisfiable': exception.CinderNotConfigured,
    'ServiceUnavailable': exception.CinderUnavailable,
    'TooManyRequests': exception.CinderUnavailable,
    'Unauthorized': exception.CinderNotConfigured,
    'UnprocessableEntity': exception.CinderNotConfigured,
    'UnsupportedMediaType': exception.CinderNotConfigured,
}
SDK = {
    'BadRequestException': exception.CinderError,
    'ConfigException': exception.CinderNotConfigured,
    'ConflictException': exception.CinderError,
    'DuplicateResource': exception.CinderError,
    'EndpointNotFound': exception.CinderNotConfigured,
    'ForbiddenException': exception.CinderForbidden,
    'HttpException': exception.CinderError,
    'InvalidRequest': exception.CinderError,
    'InvalidResourceQuery': exception.CinderError,
    'InvalidResponse': exception.CinderUnavailable,
    'MethodNotSupported': exception.CinderTooOld,
    'NotFoundException': exception.NotInCinder,
    'NotSupported': exception.CinderTooOld,
    'PreconditionFailedException': exception.CinderError,
    'ResourceFailure': exception.CinderError,
    'ResourceTimeout': exception.CinderUnavailable,
    'SDKException': exception.CinderError,
    'ServiceDisabledException': exception.CinderNotConfigured,
    'ServiceDiscoveryException': exception.CinderNotConfigured,
    'ValidationException': exception.CinderError,
}
STATUS_OF_CLASS = {
    'BadRequestException': 400,
    'ForbiddenException': 403,
    'NotFoundException': 404,
    'ConflictException': 409,
    'PreconditionFailedException': 412,
    'HttpException': 418,
}


RECEIPT = {
    'receipt': {'methods': ['password'], 'expires_at': '2100-01-01T00:00:00Z'},
    'required_auth_methods': [['password', 'totp']],
}


def made(kind):
    """An instance as its library makes it."""
    if kind.__name__ in STATUS_OF_CLASS:
        return answered(STATUS_OF_CLASS[kind.__name__], fault('a reason'))
    for arguments in (
        ('a reason',),
        ('block-storage', (3, 0), 2),
        (['one'],),
        ([type('Option', (), {'dest': 'one'})()],),
        ('a reason', ValueError()),
        (object, 'fetch'),
        (response(401, RECEIPT),),
    ):
        try:
            return kind(*arguments)
        except Exception:
            continue
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ('package', 'table', 'roots'),
    [
        (keystoneauth1.exceptions, KEYSTONEAUTH, (ksa.ClientException, ksa.ConnectionError)),
        (openstack.exceptions, SDK, (sdk.SDKException,)),
    ],
    ids=['keystoneauth', 'sdk'],
)
def test_every_class_of_theirs_is_thought_of(package, table, roots):
    found = classes_of(package)
    assert {one.__name__ for one in found} <= set(table)
    for one in sorted(found, key=lambda one: one.__name__):
        error = translated(made(one))
        assert type(error) is table[one.__name__], one
        text = str(error)
        assert '\n' not in text
        assert len(text) < 600
        assert pickle.loads(pickle.dumps(error)).details == error.details
    # Those that other modules derive become what their base becomes.
    for one in subclasses(*roots) - found:
        assert any(base in found for base in one.__mro__), one


@pytest.mark.parametrize('status', range(400, 600))
def test_every_status_has_a_meaning(status):
    error = translated(answered(status, fault('it is so', 'itemNotFound')))
    retried = isinstance(error, exception.CinderUnavailable)
    assert retried == (status in (408, 429, 500, 502, 503, 504) or 520 <= status <= 530)
    assert type(error) in (
        exception.CinderUnavailable,
        exception.CinderError,
        exception.CinderForbidden,
        exception.CinderTooOld,
        exception.NotInCinder,
    )
    if isinstance(error, exception.CinderError):
        assert error.status == status
    if not isinstance(error, exception.CinderTooOld):
        assert error.reason == 'it is so'


@pytest.mark.parametrize(
    ('content', 'kind'),
    [
        (b'<html><h1>404 Not Found</h1><hr>nginx</html>', 'text/html'),
        (b'404 Not Found', 'text/plain'),
        (b'', 'application/json'),
        (b'{"error": "no route"}', 'application/json'),
        (b'[1, 2]', 'application/json'),
        (b'{"itemNotFound": "x"}', 'application/json'),
    ],
)
def test_a_404_of_something_in_front_of_cinder_says_nothing_of_an_attachment(content, kind):
    error = translated(answered(404, content, kind=kind))
    assert type(error) is exception.CinderUnavailable
    assert error.reason == 'HTTP status 404 Words, not from Cinder itself'


def test_a_404_of_cinder_says_that_it_is_gone():
    error = translated(
        answered(404, fault('VolumeAttachment could not be found.', 'itemNotFound'))
    )
    assert type(error) is exception.NotInCinder
    assert error.reason == 'VolumeAttachment could not be found'


def test_a_call_that_an_old_cinder_has_not_is_no_missing_attachment():
    words = 'API version 3.0 is not supported on this method.'
    error = translated(answered(404, fault(words, 'itemNotFound')))
    assert type(error) is exception.CinderTooOld


def test_a_version_that_an_old_cinder_does_not_speak():
    words = 'Version 3.71 is not supported by the API. Minimum is 3.0 and maximum is 3.43.'
    error = translated(answered(406, fault(words, 'notAcceptable')))
    assert type(error) is exception.CinderTooOld
    assert error.found == 'up to 3.43'


@pytest.mark.parametrize('status', [400, 409])
def test_only_a_service_may_do_that(status):
    words = 'Detach volume from instance 1 using the Compute API'
    error = translated(answered(status, fault(words, 'conflictingRequest')))
    assert type(error) is exception.ServiceRoleNeeded
    assert 'bug 2004555' in str(error)


@pytest.mark.parametrize(
    ('content', 'kind', 'expected'),
    [
        (fault('two\n lines.'), 'application/json', 'two lines'),
        (fault('x' * 999), 'application/json', f'{"x" * 300}...'),
        (fault('at http://u:Pass-word@h/'), 'application/json', 'at http://u:***@h/'),
        (fault('<b>'), 'application/json', 'HTTP status 500 Words'),
        (fault("{'a': 1}"), 'application/json', 'HTTP status 500 Words'),
        (b'<html><title>x', 'text/html', 'HTTP status 500 Words, not from Cinder itself'),
        (b'{"a": {"b": {}}}', 'text/html', 'HTTP status 500 Words, not from Cinder itself'),
        (b'\xff\xfe', 'application/json', 'HTTP status 500 Words, not from Cinder itself'),
        (b'[' * 5000, 'application/json', 'HTTP status 500 Words, not from Cinder itself'),
    ],
)
def test_a_reason_is_one_readable_sentence(content, kind, expected):
    assert translated(answered(500, content, kind=kind)).reason == expected


def test_an_error_of_cinder_names_the_request_for_its_log():
    given = {'x-openstack-request-id': 'req-12345678-aaaa'}
    error = translated(answered(500, fault('It failed.'), **given))
    assert error.reason == 'It failed (req-12345678-aaaa)'
    given = {'x-openstack-request-id': 'req-12345678 and more'}
    assert translated(answered(500, fault('It failed.'), **given)).reason == 'It failed'


@pytest.mark.parametrize(
    ('status', 'content', 'may_be_done', 'answers_itself'),
    [
        (429, b'', False, True),
        (500, b'', True, True),
        (503, b'', True, False),
        (503, fault('busy'), True, True),
        (504, b'', True, False),
    ],
)
def test_what_may_have_been_done(status, content, may_be_done, answers_itself):
    error = translated(answered(status, content))
    assert (error.may_be_done, error.answered) == (may_be_done, answers_itself)


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('', None),
        ('7', 7.0),
        ('0', 0.0),
        ('-3', 0.0),
        ('nan', None),
        ('inf', None),
        ('soon', None),
        ('Wed, 21 Oct 2015 07:28:00 GMT', 0.0),
        ('Wed, 21 Oct 2015 07:28:00 -0000', 0.0),
    ],
)
def test_when_to_ask_again(value, expected):
    given = {'Retry-After': value} if value else {}
    assert errors.retry_after(answered(503, **given)) == expected


def test_there_is_no_time_to_ask_again_where_nothing_was_answered():
    assert errors.retry_after(ksa.ConnectFailure('x')) is None
    assert errors.retry_after(None) is None


class MaxRetryError(Exception):
    def __init__(self, reason):
        super().__init__('Max retries exceeded with url: /v3/x?secret=Hidden')
        self.reason = reason


class NewConnectionError(Exception):
    pass


class ProtocolError(Exception):
    pass


class ReadTimeoutError(Exception):
    pass


def wrapped(kind, inner, url=f'{ENDPOINT}/v3/attachments?secret=Hidden'):
    """An error of keystoneauth, around what requests wraps around urllib3's."""
    try:
        try:
            raise inner
        except Exception as error:
            raise kind(f'Unable to establish connection to {url}: {error}')  # noqa: B904
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ('error', 'words', 'may_be_done'),
    [
        (
            wrapped(
                ksa.ConnectFailure,
                requests.ConnectionError(
                    MaxRetryError(NewConnectionError(ConnectionRefusedError(111, 'refused')))
                ),
            ),
            'refused',
            False,
        ),
        (
            wrapped(
                ksa.ConnectFailure,
                requests.ConnectionError(ProtocolError('x', ConnectionResetError(104, 'reset'))),
            ),
            'reset',
            True,
        ),
        (
            wrapped(ksa.ConnectTimeout, requests.ConnectTimeout('x')),
            'no connection in time',
            False,
        ),
        (
            wrapped(ksa.ConnectTimeout, requests.ReadTimeout(ReadTimeoutError('x'))),
            'no answer in time',
            True,
        ),
        (ConnectionRefusedError(111, 'Connection refused'), 'Connection refused', False),
        (ConnectionResetError(104, 'Connection reset'), 'Connection reset', True),
    ],
)
def test_why_there_is_no_answer(error, words, may_be_done):
    """What keystoneauth calls a ConnectTimeout is that of an answer as well."""
    found = translated(error)
    assert type(found) is exception.CinderUnavailable
    assert found.reason == words
    assert found.may_be_done is may_be_done
    assert 'Hidden' not in str(found)


def test_what_the_caller_was_handling_is_no_reason():
    reset = requests.ConnectionError(ProtocolError('x', ConnectionResetError(104, 'reset')))
    try:
        raise ConnectionRefusedError(111, 'of before')
    except ConnectionRefusedError:
        error = wrapped(ksa.ConnectFailure, reset)
    assert answers.why_none(error) == ('reset', True)


@pytest.mark.parametrize(
    ('text', 'kind', 'words'),
    [
        ('certificate verify failed', exception.CinderNotConfigured, 'cacert'),
        ('[SSL: WRONG_VERSION_NUMBER] x', exception.CinderNotConfigured, 'does not speak TLS'),
        ('EOF occurred', exception.CinderUnavailable, 'TLS failed'),
    ],
)
def test_tls(text, kind, words):
    error = translated(ksa.SSLError(f'SSL exception connecting to https://h:1/v3?a=b: {text}'))
    assert type(error) is kind
    assert words in str(error)
    assert 'a=b' not in str(error)


def test_a_file_of_certificates_that_is_not_there():
    text = 'Could not find a suitable TLS CA certificate bundle, invalid path: /none'
    error = translated(OSError(text))
    assert type(error) is exception.CinderNotConfigured
    assert '/none' in error.reason


def test_keystone_in_between():
    failure = ksa.http.ServiceUnavailable(url='http://user:Pass-word@keys/v3/auth/tokens?x=y')
    error = translated(failure)
    assert type(error) is exception.CinderUnavailable
    assert 'Keystone at http://keys/v3/auth/tokens answered' in error.reason
    assert error.may_be_done is False


def test_an_answer_that_is_not_json():
    with pytest.raises(ValueError, match='line 1') as caught:
        response(200, b'{"auth_password": "Hid').json()
    error = translated(caught.value)
    assert type(error) is exception.CinderUnavailable
    assert error.reason == 'the answer is not JSON'
    assert error.may_be_done
