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
import pathlib

from oslo_config import cfg
import pytest

from tests.unit import fake_cinder
from volumedrivers import exception
from volumedrivers.cinder import connection
from volumedrivers.cinder import endpoints
from volumedrivers.conf import opts

PASSWORD = 'nova-Password-1'
USER = {
    'auth_type': 'password',
    'username': 'nova',
    'password': PASSWORD,
    'project_name': 'p',
    'user_domain_name': 'Default',
    'project_domain_name': 'Default',
}
SERVICE = {**USER, 'username': 'service', 'password': 'service-Password-2'}


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch, tmp_path):
    """No file and no variable of this machine counts."""
    import os

    from openstack.config import loader

    for name in list(os.environ):
        if name.startswith('OS_'):
            monkeypatch.delenv(name)
    monkeypatch.setattr(loader, 'CONFIG_FILES', [str(tmp_path / 'clouds.yaml')])
    monkeypatch.setattr(loader, 'SECURE_FILES', [str(tmp_path / 'secure.yaml')])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cinder():
    with fake_cinder.served(made := fake_cinder.FakeCinder()):
        yield made


@pytest.fixture
def keystone(cinder):
    url = f'{cinder.url}/v3/{fake_cinder.PROJECT}'
    made = fake_cinder.FakeKeystone({'One': {'public': url, 'internal': url}})
    with fake_cinder.served(made):
        yield made


def conf(**groups):
    """A configuration file with these groups, and its options."""
    lines = []
    for group, options in groups.items():
        lines += [f'[{group}]', *(f'{name} = {value}' for name, value in options.items())]
    path = pathlib.Path('volumedrivers.conf')
    path.write_text('\n'.join(lines))
    made = cfg.ConfigOpts()
    opts.register_opts(made)
    made([], project='volumedrivers', default_config_files=[str(path)])
    return made


def clouds(text):
    pathlib.Path('clouds.yaml').write_text(text)


def standalone(name, url, more=''):
    return f'  {name}:\n    auth_type: none\n    block_storage_endpoint_override: "{url}"\n{more}'


def volume_of(storage):
    return storage.ask(storage.proxy.get_volume, fake_cinder.VOLUME)


def refused(configuration, cloud=None):
    """The sentence, without a traceback's worth of causes that could have a secret."""
    with pytest.raises(exception.CinderNotConfigured) as caught:
        _ = connection.connect(configuration, cloud).endpoint
    return str(caught.value)


@pytest.mark.parametrize(
    'suffix', ['', '/', '/v3', '/v3/', f'/v3/{fake_cinder.PROJECT}', '/v3/x%2Fy/']
)
def test_a_standalone_cinder_is_the_same_however_its_url_is_written(cinder, suffix):
    clouds(f'clouds:\n{standalone("demo", cinder.url + suffix)}')
    storage = connection.connect(conf(), 'demo')
    assert cinder.requests == []
    assert storage.endpoint == cinder.url
    assert storage.endpoint == cinder.url
    assert [one.method for one in cinder.requests] == ['GET']


def test_versions_are_asked_for_once_and_each_call_has_the_same_one(cinder):
    storage = connection.connect(
        conf(cinder={'auth_type': 'none', 'endpoint_override': cinder.url})
    )
    for _ in range(3):
        storage.require('3.44', 'this')
        assert volume_of(storage).name == 'data'
    made = storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME)
    storage.ask(storage.proxy.update_attachment, made.id, connector={'host': 'h'})
    storage.ask(storage.proxy.complete_attachment, made.id)
    storage.ask(storage.proxy.get, f'/volumes/{fake_cinder.VOLUME}/encryption')
    assert [str(one) for one in cinder.requests].count('GET /v3/') == 1
    assert {one.headers['openstack-api-version'] for one in cinder.requests[1:]} == {'volume 3.71'}


def test_the_url_of_a_proxy_keeps_its_path():
    with fake_cinder.served(made := fake_cinder.FakeCinder(), below='/volume') as url:
        assert url.endswith('/volume')
        group = {'auth_type': 'none', 'endpoint_override': f'{url}/v3'}
        storage = connection.connect(conf(cinder=group))
        assert storage.endpoint == url
        assert volume_of(storage).id == fake_cinder.VOLUME
        assert made.count('GET /v3/volumes/') == 1


@pytest.mark.parametrize(
    ('url', 'expected'),
    [
        ('HTTP://Host:80/', 'http://host'),
        ('https://host:443/volume/v3/', 'https://host/volume'),
        ('https://user:secret@host:8776/v3/abc?x=y', 'https://host:8776'),
        ('http://[::1]:8776/v3', 'http://[::1]:8776'),
        ('http://host/v3.0/%(project_id)s', 'http://host'),
        ('http://host/v30things', 'http://host/v30things'),
        ('http://host./volumes', 'http://host/volumes'),
    ],
)
def test_what_identifies_a_cinder(url, expected):
    assert endpoints.identity(url) == expected


def test_the_argument_comes_first_then_the_option_then_the_environment_then_the_group(
    cinder, monkeypatch
):
    places = ('argument', 'option', 'variable', 'described', 'group')
    others = {name: f'http://127.0.0.1:1/{name}' for name in places}
    clouds(
        'clouds:\n'
        + ''.join(standalone(name, others[name]) for name in ('argument', 'option', 'variable'))
    )
    group = {'auth_type': 'none', 'endpoint_override': others['group']}

    def found(cloud=None, **option):
        storage = connection.connect(conf(volumedrivers=option, cinder=group), cloud)
        return storage.connection.config.get_endpoint('block-storage').split('/')[3]

    assert found() == 'group'
    monkeypatch.setenv('OS_AUTH_TYPE', 'none')
    monkeypatch.setenv('OS_BLOCK_STORAGE_ENDPOINT_OVERRIDE', others['described'])
    assert found() == 'described'
    monkeypatch.setenv('OS_CLOUD', 'variable')
    assert found() == 'variable'
    assert found(cinder_cloud='option') == 'option'
    assert found('argument', cinder_cloud='option') == 'argument'


def test_other_variables_that_begin_so_describe_no_cloud(cinder, monkeypatch):
    monkeypatch.setenv('OS_CINDER_DISABLE_EVENTLET_PATCHING', '1')
    group = {'auth_type': 'none', 'endpoint_override': cinder.url}
    assert connection.connect(conf(cinder=group)).source == 'group [cinder]'


def test_the_only_cloud_of_a_file_needs_no_name(cinder, monkeypatch):
    monkeypatch.setenv('OS_REGION_NAME', '')
    clouds(f'clouds:\n{standalone("one", cinder.url)}')
    assert connection.connect(conf()).endpoint == cinder.url
    clouds(f'clouds:\n{standalone("one", cinder.url)}{standalone("two", cinder.url)}')
    assert 'neither --os-cloud' in refused(conf())


def test_a_user_with_a_password_and_a_service_token(cinder, keystone):
    configuration = conf(
        cinder={**USER, 'auth_url': keystone.url, 'region_name': 'One'},
        service_user={**SERVICE, 'auth_url': keystone.url, 'send_service_user_token': 'true'},
    )
    storage = connection.connect(configuration)
    assert storage.sends_service_token
    assert storage.endpoint == cinder.url
    assert volume_of(storage).name == 'data'
    headers = cinder.requests[-1].headers
    assert headers['x-auth-token'] == 'token-of-nova'
    assert headers['x-service-token'] == 'token-of-service'


def test_a_service_token_also_goes_to_a_cloud_of_a_file(cinder, keystone):
    service = {**SERVICE, 'auth_url': keystone.url, 'send_service_user_token': 'true'}
    clouds(f'clouds:\n{standalone("demo", cinder.url)}')
    storage = connection.connect(conf(service_user=service), 'demo')
    volume_of(storage)
    assert cinder.requests[-1].headers['x-service-token'] == 'token-of-service'


def test_a_service_user_that_is_not_to_be_sent_is_not(cinder, keystone):
    service = {**SERVICE, 'auth_url': keystone.url}
    clouds(f'clouds:\n{standalone("demo", cinder.url)}')
    storage = connection.connect(conf(service_user=service), 'demo')
    volume_of(storage)
    assert not storage.sends_service_token
    assert 'x-service-token' not in cinder.requests[-1].headers


@pytest.mark.parametrize('service_type', ['block-storage', 'volumev3', 'volume'])
def test_whatever_the_catalog_calls_it(cinder, keystone, service_type):
    keystone.service_type = service_type
    storage = connection.connect(conf(cinder={**USER, 'auth_url': keystone.url}))
    assert storage.endpoint == cinder.url
    assert volume_of(storage).name == 'data'
    # A catalog's URL has the project, and the requests have it, too.
    assert cinder.count(f'GET /v3/{fake_cinder.PROJECT}/volumes/') == 1


@pytest.mark.parametrize('option', ['region_name', 'os_region_name'])
def test_the_region_that_is_configured_is_the_one_that_is_asked(cinder, keystone, option):
    with fake_cinder.served(other := fake_cinder.FakeCinder()):
        keystone.catalog = {
            'One': {'public': f'{other.url}/v3'},
            'Two': {'public': f'{cinder.url}/v3'},
        }
        group = {**USER, 'auth_url': keystone.url, option: 'Two'}
        assert connection.connect(conf(cinder=group)).endpoint == cinder.url
        assert other.requests == []


@pytest.mark.parametrize(
    ('option', 'value'),
    [('valid_interfaces', 'internal,public'), ('catalog_info', 'volumev3::internalURL')],
)
def test_the_interface_that_is_configured_is_the_one_that_is_asked(
    cinder, keystone, option, value
):
    keystone.catalog = {'One': {'public': 'http://127.0.0.1:1', 'internal': f'{cinder.url}/v3'}}
    group = {**USER, 'auth_url': keystone.url, option: value}
    assert connection.connect(conf(cinder=group)).endpoint == cinder.url


def test_the_region_of_a_cloud_is_that_of_the_environment(cinder, keystone, monkeypatch):
    keystone.catalog = {
        'One': {'public': 'http://127.0.0.1:1/v3'},
        'Two': {'public': f'{cinder.url}/v3'},
    }
    clouds(
        'clouds:\n  demo:\n    region_name: One\n    regions: [One, Two]\n    auth:\n'
        f'      auth_url: {keystone.url}\n      username: nova\n      password: {PASSWORD}\n'
        '      project_name: p\n      user_domain_name: Default\n'
        '      project_domain_name: Default\n'
    )
    monkeypatch.setenv('OS_REGION_NAME', 'Two')
    assert connection.connect(conf(), 'demo').endpoint == cinder.url
    monkeypatch.setenv('OS_REGION_NAME', 'Three')
    assert 'Three is not a valid region name' in refused(conf(), 'demo')


def test_the_group_of_nova_can_be_pasted(cinder, keystone):
    """With everything that Nova has in it, and auth options in another group."""
    configuration = conf(
        cinder={
            'auth_section': 'keystone_authtoken',
            'catalog_info': 'volumev3:cinder:publicURL',
            'os_region_name': 'One',
            'http_retries': '3',
            'cross_az_attach': 'true',
            'debug': 'true',
            'timeout': '30',
            'connect_retries': '5',
        },
        keystone_authtoken={**USER, 'auth_url': f'{keystone.url}/v3', 'memcached_servers': 'x:1'},
    )
    storage = connection.connect(configuration)
    assert storage.endpoint == cinder.url
    assert storage.connection.session.timeout == 30
    assert storage.proxy.connect_retries == 0


def test_nova_s_own_options_may_be_registered_already(cinder):
    configuration = conf(cinder={'auth_type': 'none', 'endpoint_template': f'{cinder.url}/v3'})
    configuration.register_opt(
        cfg.StrOpt('os_region_name', help='In other words.'), group='cinder'
    )
    assert connection.connect(configuration).endpoint == cinder.url
    assert connection.connect(configuration).endpoint == cinder.url


def test_the_shorter_time_counts(cinder):
    def seconds(more):
        clouds(f'clouds:\n{standalone("demo", cinder.url, more)}')
        made = connection.connect(conf(volumedrivers={'cinder_timeout': 20}), 'demo')
        return made.connection.session.timeout

    assert seconds('') == 20
    assert seconds('    api_timeout: 7\n') == 7
    assert seconds('    api_timeout: 700\n') == 20


def test_a_cloud_s_own_retries_and_version_are_switched_off(cinder):
    more = (
        '    block_storage_connect_retries: 4\n    volume_status_code_retries: 4\n'
        '    volume_default_microversion: "3.5"\n    volume_api_version: 2\n'
        '    status_code_retries: 9\n'
    )
    clouds(f'clouds:\n{standalone("demo", cinder.url, more)}')
    storage = connection.connect(conf(), 'demo')
    assert storage.proxy.connect_retries == 0
    assert storage.proxy.status_code_retries == 0
    assert storage.proxy.default_microversion == '3.71'


@pytest.mark.parametrize(
    ('group', 'words'),
    [
        ({}, 'group [cinder] of the configuration has no auth_type'),
        ({'endpoint_override': 'http://x'}, 'auth_type is not set'),
        ({'auth_type': 'nonesuch'}, 'nonesuch could not be found'),
        ({'auth_type': 'password', 'password': PASSWORD}, 'auth_url'),
        ({'auth_type': 'none'}, 'endpoint_override of group [cinder]'),
        ({'auth_type': 'none', 'endpoint_override': '127.0.0.1:8776'}, 'is no URL'),
        ({'auth_type': 'none', 'endpoint_override': 'ftp://x/'}, 'is no URL'),
        ({'auth_type': 'none', 'endpoint_override': 'http://u:Pass-word@:x/'}, 'u:***@'),
        ({'auth_section': 'other'}, '[other], which auth_section names'),
        ({'auth_type': 'none', 'endpoint_override': 'http://x', 'cafile': '/none'}, 'cafile'),
        ({'auth_type': 'none', 'endpoint_override': 'http://x', 'timeout': 'a'}, 'timeout'),
        ({'auth_type': 'none', 'endpoint_override': 'http://x', 'insecure': 'a'}, 'insecure'),
    ],
)
def test_a_wrong_group_is_told_by_its_option(group, words):
    text = refused(conf(cinder=group))
    assert words in text
    assert '[cinder]' in text
    assert PASSWORD not in text
    assert 'Pass-word' not in text


@pytest.mark.parametrize(
    ('group', 'words'),
    [
        ({'send_service_user_token': 'true'}, 'auth_type is not set'),
        ({'send_service_user_token': 'perhaps'}, 'send_service_user_token has a value'),
        ({'send_service_user_token': 'true', 'auth_type': 'password'}, 'auth_url'),
    ],
)
def test_a_wrong_service_user_is_told_by_its_option(cinder, group, words):
    clouds(f'clouds:\n{standalone("demo", cinder.url)}')
    text = refused(conf(service_user=group), 'demo')
    assert words in text
    assert '[service_user]' in text


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            'clouds:\n  a: {auth_type: none\n    password: "Pass-word',
            'is not YAML: look at line 3',
        ),
        ('- a', 'no "clouds:"'),
        ('clouds: [a]', 'no mapping of names to settings'),
        ('clouds:\n  a: b', 'no mapping of names to settings'),
        ('', "has no cloud 'a', which --os-cloud names; it has none"),
        ('clouds:\n  b: {auth_type: none}\n  c: {}', 'it has b, c'),
        ('clouds:\n  a:\n    auth_type: nonesuch', 'nonesuch could not be found'),
        ('clouds:\n  a:\n    auth: {password: Pass-word}', 'auth_url'),
        ('clouds:\n  a:\n    auth: Pass-word', 'a value in it is wrong'),
        ('clouds:\n  a:\n    regions: [{nme: x, password: Pass-word}]', "'password': '***'"),
        ('clouds:\n  a:\n    auth_type: none', 'block_storage_endpoint_override'),
        (f'clouds:\n{standalone("a", "http://x", "    api_timeout: soon")}', 'api_timeout'),
    ],
)
def test_a_wrong_file_is_told_with_its_name(text, words, caplog):
    caplog.set_level(0)
    clouds(text)
    said = refused(conf(), 'a')
    assert words in said
    assert str(pathlib.Path('clouds.yaml').absolute()) in said
    assert 'Pass-word' not in said + caplog.text


def test_a_cloud_that_no_file_has_is_told_with_the_places_that_are_looked_at(monkeypatch):
    monkeypatch.setenv('OS_CLOUD', 'nowhere')
    text = refused(conf())
    assert 'clouds.yaml' in text
    assert 'OS_CLOUD names' in text


def test_a_wrong_environment_is_told_by_its_variable(monkeypatch):
    monkeypatch.setenv('OS_AUTH_TYPE', 'password')
    monkeypatch.setenv('OS_PASSWORD', PASSWORD)
    text = refused(conf())
    assert 'the environment (OS_AUTH_TYPE' in text
    assert 'auth_url' in text
    assert PASSWORD not in text


def test_a_user_that_keystone_does_not_know(keystone):
    group = {**USER, 'auth_url': keystone.url, 'password': 'Wrong-pass-1'}
    text = refused(conf(cinder=group))
    assert f'Keystone at {keystone.url}/v3/auth/tokens does not accept the user' in text
    assert 'Wrong-pass-1' not in text


@pytest.mark.parametrize('more', [{'region_name': 'Two'}, {'valid_interfaces': 'admin'}])
def test_a_region_that_has_no_cinder(keystone, more):
    text = refused(conf(cinder={**USER, 'auth_url': keystone.url, **more}))
    assert 'the catalog has no' in text
    assert 'look at region_name and the interface' in text


def test_what_answers_and_is_no_cinder(cinder):
    cinder.say('GET', fake_cinder.Said('200 OK', b'<html>', {'Content-Type': 'text/html'}))
    text = refused(conf(cinder={'auth_type': 'none', 'endpoint_override': cinder.url}))
    assert f'what answers at {cinder.url} is no Cinder' in text


@pytest.mark.parametrize('catalog', [False, True])
@pytest.mark.parametrize('status', ['500 Oops', '503 Service Unavailable', '429 Slowly'])
def test_a_cinder_that_cannot_answer_now_is_not_taken_for_an_old_one(
    cinder, keystone, status, catalog
):
    """The SDK would go on without microversions for as long as the process runs."""
    group = {'auth_type': 'none', 'endpoint_override': cinder.url}
    if catalog:
        group = {**USER, 'auth_url': keystone.url}
    storage = connection.connect(conf(cinder=group))
    storage.pause, storage.retries = 0.01, 1
    cinder.say('GET', fake_cinder.Said(status, b'x'))
    with pytest.raises(exception.CinderUnavailable, match='version discovery'):
        storage.require('3.44', 'this')
    cinder.said.clear()
    storage.require('3.44', 'this')
    assert volume_of(storage).name == 'data'


@pytest.mark.parametrize('path', ['', '/v3'])
def test_a_keystone_that_is_away(path):
    group = {**USER, 'auth_url': f'http://127.0.0.1:1{path}'}
    storage = connection.connect(conf(cinder=group))
    storage.retries = 0
    with pytest.raises(exception.CinderUnavailable) as caught:
        _ = storage.endpoint
    assert 'Keystone at http://127.0.0.1:1' in str(caught.value)
    assert 'Connection refused' in str(caught.value)
    assert caught.value.may_be_done is False


def test_a_keystone_that_fails_is_asked_again_and_nothing_was_done(keystone):
    storage = connection.connect(conf(cinder={**USER, 'auth_url': keystone.url}))
    storage.pause = 0.01
    keystone.say('POST', fake_cinder.Said('503 Service Unavailable', b'x'), 2)
    assert volume_of(storage).name == 'data'
    keystone.say('POST', fake_cinder.Said('500 Oops', b'x'))
    storage.connection.session.invalidate()
    with pytest.raises(exception.CinderUnavailable) as caught:
        storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME)
    assert 'Keystone' in caught.value.reason
    assert caught.value.may_be_done is False


def test_a_token_that_has_expired_is_replaced(cinder, keystone):
    storage = connection.connect(conf(cinder={**USER, 'auth_url': keystone.url}))
    volume_of(storage)
    cinder.say('GET', fake_cinder.Said('401 Unauthorized', b'x'), 1)
    assert volume_of(storage).name == 'data'
    assert keystone.count('POST') == 2


def test_a_cinder_without_microversions_is_too_old_for_attachments(keystone):
    with fake_cinder.served(fake_cinder.FakeCinder(most='')) as url:
        storage = connection.connect(conf(cinder={'auth_type': 'none', 'endpoint_override': url}))
        assert volume_of(storage).name == 'data'
        with pytest.raises(exception.CinderTooOld, match=r'up to 3\.0; attaching needs 3\.44'):
            storage.require('3.44', 'attaching')


@pytest.mark.parametrize('catalog', [False, True])
def test_a_cinder_of_version_2_is_too_old_for_all(cinder, keystone, catalog, monkeypatch):
    link = {'rel': 'self', 'href': f'{cinder.url}/v2/'}
    two = {'id': 'v2.0', 'status': 'CURRENT', 'version': '', 'min_version': '', 'links': [link]}
    monkeypatch.setattr(cinder, 'versions', lambda: {'versions': [two]})
    group = {'auth_type': 'none', 'endpoint_override': cinder.url}
    if catalog:
        group = {**USER, 'auth_url': keystone.url}
    with pytest.raises(exception.CinderTooOld, match='no version 3'):
        _ = connection.connect(conf(cinder=group)).endpoint


def test_nothing_secret_is_logged(cinder, keystone, caplog):
    """Neither passwords and tokens, nor what an attachment's answer has."""
    caplog.set_level(0)
    for name in ('keystoneauth', 'openstack', 'urllib3', 'requests'):
        logging.getLogger(name).setLevel(0)
    storage = connection.connect(
        conf(
            cinder={**USER, 'auth_url': keystone.url},
            service_user={**SERVICE, 'auth_url': keystone.url, 'send_service_user_token': 'true'},
        )
    )
    storage.pause = 0.01
    made = storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME)
    cinder.say('PUT', fake_cinder.Said('503 Service Unavailable', b'x'), 1)
    found = storage.ask(storage.proxy.update_attachment, made.id, connector={'host': 'h'})
    assert found.connection_info['auth_password'] == fake_cinder.SECRET
    storage.ask(storage.proxy.get_attachment, made.id)
    text = caplog.text + ''.join(f'{one.msg}{one.args}' for one in caplog.records)
    assert f'PUT {cinder.url}' in text  # it has been logged at DEBUG
    assert 'RESP: [200]' in text
    for secret in (fake_cinder.SECRET, PASSWORD, SERVICE['password'], 'token-of-'):
        assert secret not in text
    assert 'asking again in' in text
    assert fake_cinder.SECRET not in repr(storage) + repr(vars(storage))


def test_others_bodies_are_still_logged(cinder, caplog):
    """The process may have sessions of its own."""
    caplog.set_level(0)
    storage = connection.connect(
        conf(cinder={'auth_type': 'none', 'endpoint_override': cinder.url})
    )
    volume_of(storage)
    assert 'RESP BODY' not in caplog.text
    storage.connection.session.get(f'{cinder.url}/v3/')
    assert 'RESP BODY' in caplog.text


def test_a_body_is_hidden_in_split_loggers_too(cinder, caplog):
    caplog.set_level(0)
    storage = connection.connect(
        conf(cinder={'auth_type': 'none', 'endpoint_override': cinder.url, 'split_loggers': True})
    )
    made = storage.tell(storage.proxy.create_attachment, fake_cinder.VOLUME)
    storage.ask(storage.proxy.update_attachment, made.id, connector={'host': 'h'})
    names = {one.name for one in caplog.records}
    assert 'keystoneauth.session.response' in names
    assert 'keystoneauth.session.body' not in names
    assert fake_cinder.SECRET not in caplog.text
