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

import logging
import threading
import time

import dogpile.cache
from keystoneauth1 import noauth
from keystoneauth1 import session as keystoneauth
from openstack import connection as sdk
import pytest

from tests.unit import fake_cinder
from volumedrivers import exception
from volumedrivers.cinder import attachments
from volumedrivers.cinder import block_storage
from volumedrivers.cinder.block_storage import BlockStorage

FAILED = 'The server has either erred or is incapable of performing the requested operation.'
HTML = {'Content-Type': 'text/html'}


@pytest.fixture
def cinder():
    with fake_cinder.served(made := fake_cinder.FakeCinder()):
        yield made


def connected(url, timeout=5.0, **more):
    return sdk.Connection(
        session=keystoneauth.Session(auth=noauth.NoAuth(), timeout=timeout),
        block_storage_endpoint_override=f'{url}/v3/',
        block_storage_api_version='3',
        **more,
    )


@pytest.fixture
def pauses(monkeypatch):
    """How long it would have waited, without waiting."""
    found = []
    monkeypatch.setattr(block_storage.time, 'sleep', found.append)
    return found


@pytest.fixture
def storage(cinder, pauses):
    made = BlockStorage(connected(cinder.url))
    _ = made.proxy
    return made


def get(storage):
    return storage.ask(storage.proxy.get_volume, fake_cinder.VOLUME)


@pytest.mark.parametrize('status', [408, 429, 500, 502, 503, 504])
def test_what_may_be_asked_again_is(cinder, storage, pauses, status, caplog):
    caplog.set_level(logging.INFO)
    cinder.say('GET', fake_cinder.Said(f'{status} Words', b'x'), 3)
    assert get(storage).name == 'data'
    assert pauses == [0.5, 1.0, 2.0]
    assert cinder.count('GET /v3/volumes') == 4
    assert caplog.text.count('asking again in') == 3
    assert f'did not answer get volume: HTTP status {status}' in caplog.text


@pytest.mark.parametrize('status', [400, 401, 403, 404, 405, 406, 409, 410, 413, 422, 501, 505])
def test_a_certain_answer_is_not_asked_for_again(cinder, storage, pauses, status):
    cinder.say('GET', fake_cinder.fault(f'{status} Words', 'no', said='itemNotFound'))
    with pytest.raises(exception.VolumeDriversError):
        get(storage)
    assert pauses == []
    assert cinder.count('GET /v3/volumes') == 1


def test_it_is_given_up_after_the_last_time(cinder, storage, pauses):
    cinder.say('GET', fake_cinder.fault('500 Oops', 'no'))
    with pytest.raises(exception.CinderUnavailable):
        get(storage)
    assert cinder.count('GET /v3/volumes') == 4


def test_a_connection_that_is_closed_without_an_answer(cinder, storage, pauses):
    cinder.say('GET', fake_cinder.Said(drop=True), 2)
    assert get(storage).name == 'data'
    assert len(pauses) == 2
    cinder.say('GET', fake_cinder.Said(drop=True))
    with pytest.raises(exception.CinderUnavailable, match='closed without an answer') as caught:
        get(storage)
    assert caught.value.may_be_done


@pytest.mark.parametrize('said', ['503 Service Unavailable', '429 Slowly', '500 Oops', ''])
def test_what_makes_something_is_sent_once(cinder, pauses, said):
    """Whatever the user of the SDK has configured; the user's own proxy stays as it is."""
    connection = connected(
        cinder.url,
        block_storage_connect_retries=3,
        block_storage_status_code_retries=3,
        block_storage_retriable_status_codes=[429, 500, 503],
    )
    storage = BlockStorage(connection)
    answer = fake_cinder.Said(said, b'x') if said else fake_cinder.Said(drop=True)
    cinder.say('POST', answer)
    with pytest.raises(exception.CinderUnavailable) as caught:
        storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME)
    assert cinder.count('POST') == 1
    assert caught.value.may_be_done is (said != '429 Slowly')
    assert connection.block_storage.connect_retries == 3
    assert connection.block_storage.default_microversion is None


def test_nothing_is_sent_to_a_port_where_nobody_listens(pauses):
    with fake_cinder.served(fake_cinder.FakeCinder()) as url:
        storage = BlockStorage(connected(url))
        create = storage.proxy.create_attachment
    with pytest.raises(exception.CinderUnavailable, match='Connection refused') as caught:
        storage.tell(create, fake_cinder.VOLUME)
    assert caught.value.may_be_done is False


def test_a_slow_answer_may_be_one_to_what_was_done(cinder):
    go = threading.Event()
    answer = cinder.answer
    cinder.answer = lambda request: go.wait(20) and answer(request)
    storage = BlockStorage(connected(cinder.url, timeout=0.2), retries=0)
    with pytest.raises(exception.CinderUnavailable, match='no answer in time') as caught:
        _ = storage.proxy
    go.set()
    assert caught.value.may_be_done


def test_a_session_without_a_limit_gets_one(cinder):
    storage = BlockStorage(connected(cinder.url, timeout=None), retries=0, timeout=0.5)
    _ = storage.proxy
    go = threading.Event()
    answer = cinder.answer
    cinder.answer = lambda request: go.wait(20) and answer(request)
    with pytest.raises(exception.CinderUnavailable, match='no answer in time'):
        get(storage)
    go.set()


def test_cinder_itself_is_asked_and_no_cache(cinder):
    """As clouds.yaml can set one up for what is read."""
    connection = connected(cinder.url)
    connection.cache_enabled = True
    connection._cache = dogpile.cache.make_region().configure('dogpile.cache.memory')
    connection._cache_expirations = {'block-storage.volume': 3600}
    assert connection.block_storage.get_volume(fake_cinder.VOLUME).status == 'available'
    cinder.volume['status'] = 'another'
    assert connection.block_storage.get_volume(fake_cinder.VOLUME).status == 'available'
    assert get(BlockStorage(connection)).status == 'another'


@pytest.mark.parametrize('status', ['429 Slowly', '503 Service Unavailable'])
def test_cinder_says_how_long_to_wait(cinder, storage, pauses, status):
    cinder.say('GET', fake_cinder.Said(status, b'x', {'Retry-After': '7'}), 2)
    assert get(storage).name == 'data'
    assert pauses == [7.0, 7.0]


def test_a_wait_that_is_too_long_is_not_begun(cinder, storage, pauses):
    storage.timeout = 60.0
    cinder.say('GET', fake_cinder.Said('503 Not now', b'x', {'Retry-After': '61'}))
    with pytest.raises(exception.CinderUnavailable):
        get(storage)
    assert pauses == []
    assert cinder.count('GET /v3/volumes') == 1


def test_nothing_is_asked_again_after_the_deadline(cinder, storage, pauses, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(block_storage.time, 'monotonic', lambda: now + sum(pauses) + 40)
    storage.timeout, storage.retries = 10.0, 20
    cinder.say('GET', fake_cinder.fault('500 Oops', 'no'))
    with pytest.raises(exception.CinderUnavailable):
        get(storage)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_an_answer_that_is_cut_off_is_asked_for_again_and_shown_to_nobody(
    cinder, storage, pauses, caplog
):
    caplog.set_level(0)
    begun = f'{{"volume": {{"auth_password": "{fake_cinder.SECRET}", "na'.encode()
    cinder.say('GET', fake_cinder.Said('200 OK', begun), 1)
    assert get(storage).name == 'data'
    cinder.say('GET', fake_cinder.Said('200 OK', begun))
    with pytest.raises(exception.CinderUnavailable, match='not JSON') as caught:
        get(storage)
    # A decoder's error has all that it could not read.
    error = caught.value
    while error is not None:
        assert fake_cinder.SECRET not in f'{error!r}{vars(error)}'
        error = error.__cause__
    assert fake_cinder.SECRET not in caplog.text


@pytest.mark.parametrize('body', [b'', b'[]', b'"x"', b'<html>', b'{"volume": {"id'])
def test_an_answer_that_is_none_is_not_taken_for_an_empty_thing(cinder, storage, pauses, body):
    cinder.say('GET', fake_cinder.Said('200 OK', body))
    with pytest.raises(exception.CinderUnavailable, match='not JSON'):
        get(storage)
    cinder.say('POST', fake_cinder.Said('200 OK', body or b'{'))
    with pytest.raises(exception.CinderUnavailable, match='not JSON') as caught:
        storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME)
    assert caught.value.may_be_done
    assert caught.value.answered


@pytest.mark.parametrize(
    ('most', 'used'), [('3.27', '3.27'), ('3.59', '3.59'), ('3.71', '3.71'), ('3.99', '3.71')]
)
def test_the_microversion_is_the_best_that_both_know(cinder, most, used):
    cinder.most = most
    storage = BlockStorage(connected(cinder.url))
    get(storage)
    assert cinder.requests[-1].headers['openstack-api-version'] == f'volume {used}'


def test_a_default_of_the_user_does_not_count(cinder):
    storage = BlockStorage(
        connected(cinder.url, block_storage_default_microversion='3.5'), pause=0.01
    )
    get(storage)
    assert cinder.requests[-1].headers['openstack-api-version'] == 'volume 3.71'


@pytest.mark.parametrize(
    ('most', 'needed', 'enough'),
    [
        ('3.43', '3.44', False),
        ('3.44', '3.44', True),
        ('3.9', '3.27', False),
        ('3.71', '3.9', True),
        ('4.0', '3.71', True),
    ],
)
def test_a_cinder_that_is_too_old_says_what_it_speaks(cinder, most, needed, enough):
    cinder.most = most
    storage = BlockStorage(connected(cinder.url))
    assert storage.speaks(needed) is enough
    if enough:
        storage.require(needed, 'this')
        return
    with pytest.raises(exception.CinderTooOld) as caught:
        storage.require(needed, 'a read-only attachment')
    assert str(caught.value) == (
        f'Cinder at {cinder.url} speaks block storage API up to {most}; '
        f'a read-only attachment needs {needed}'
    )
    assert len(cinder.requests) == 1


def test_threads_that_begin_at_once_ask_for_versions_once(cinder):
    storage = BlockStorage(connected(cinder.url))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append((storage.endpoint, id(storage.proxy))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(cinder.requests) == 1


@pytest.mark.parametrize(
    'said',
    [fake_cinder.Said(drop=True), fake_cinder.Said('502 Bad Gateway', b'<html>', HTML)],
    ids=['dropped', 'by a proxy'],
)
def test_a_failed_beginning_is_begun_again(cinder, monkeypatch, said):
    cinder.say('GET', said)
    monkeypatch.setattr(block_storage.time, 'sleep', lambda seconds: cinder.said.clear())
    assert get(BlockStorage(connected(cinder.url))).name == 'data'


def test_a_cinder_that_comes_back_while_it_is_looked_at_is_asked_again(cinder, pauses):
    cinder.say('GET', fake_cinder.Said('502 Bad Gateway', b'<html>', HTML), 2)
    assert get(BlockStorage(connected(cinder.url))).name == 'data'
    assert pauses == [0.5]


def reserved(storage, **more):
    made = storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME, **more)
    return made.id


def test_an_attachment_that_is_gone_is_told_by_cinder_alone(cinder, storage, pauses):
    """The SDK takes every 404 for that."""
    attachment = reserved(storage)
    cinder.say('DELETE', fake_cinder.Said('404 Not Found', b'<html>', HTML))
    with pytest.raises(exception.CinderUnavailable, match='not from Cinder itself'):
        attachments.delete(storage, attachment, instance=None)
    cinder.said.clear()
    attachments.delete(storage, attachment, instance=None)
    with pytest.raises(exception.NotInCinder):
        attachments.delete(storage, attachment, instance=None)


def test_a_refusal_for_want_of_the_service_role_is_certain(cinder, storage, pauses):
    attachment = reserved(storage, instance='i')
    words = 'Detach volume from instance i using the Compute API'
    cinder.say('DELETE', fake_cinder.fault('409 Conflict', words, said='conflictingRequest'))
    with pytest.raises(exception.ServiceRoleNeeded, match='using the Compute API'):
        attachments.delete(storage, attachment, instance='i')
    assert cinder.count('DELETE') == 1
    assert pauses == []


def test_a_cinder_that_cannot_ask_nova_wants_the_service_role(cinder, storage, pauses):
    attachment = reserved(storage, instance='i')
    cinder.say('DELETE', fake_cinder.fault('500 Oops', FAILED))
    with pytest.raises(exception.ServiceRoleNeeded, match='cannot ask Nova') as caught:
        attachments.delete(storage, attachment, instance='i')
    assert isinstance(caught.value.__cause__, exception.CinderUnavailable)


@pytest.mark.parametrize('instance', ['i', None])
def test_a_cinder_that_cannot_do_anything_needs_no_role(cinder, storage, pauses, instance):
    attachment = reserved(storage, instance=instance)
    cinder.say('DELETE', fake_cinder.fault('500 Oops', FAILED))
    if instance:
        cinder.say('GET', fake_cinder.fault('500 Oops', FAILED))
    with pytest.raises(exception.CinderUnavailable):
        attachments.delete(storage, attachment, instance=instance)


def test_a_service_that_cinder_does_not_answer_has_the_role(cinder, storage, pauses):
    from keystoneauth1 import service_token

    session = storage.connection.session
    session.auth = service_token.ServiceTokenAuthWrapper(session.auth, noauth.NoAuth())
    attachment = reserved(storage, instance='i')
    cinder.say('DELETE', fake_cinder.fault('500 Oops', FAILED))
    with pytest.raises(exception.CinderUnavailable):
        attachments.delete(storage, attachment, instance='i')
