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

"""A real Cinder, found in each of the ways, by users with and without the roles it takes."""

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import functools
import os
import pathlib
import threading
import typing
import uuid

from oslo_config import cfg
import pytest

from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from tests.unit.fake_cinder import FakeKeystone
from tests.unit.fake_cinder import served
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import attachments
from volumedrivers.cinder import connection
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.conf import opts
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import faults as testing_faults
from volumedrivers.testing.cinder import preload
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.cinder.nova_events import FakeNova

CONNECTOR = {
    'host': 'this-host',
    'ip': '127.0.0.1',
    'initiator': 'iqn.2020-01.test:this-host',
    'multipath': False,
    'platform': 'x86_64',
    'os_type': 'linux',
}
USER = {
    'auth_type': 'password',
    'username': 'nova',
    'password': 'nova-Password-1',
    'project_name': 'p',
    'user_domain_name': 'Default',
    'project_domain_name': 'Default',
}
SERVICE = {**USER, 'username': 'service', 'password': 'service-Password-2'}

Configure = Callable[..., cfg.ConfigOpts]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in list(os.environ):
        if name.startswith('OS_') and name != 'OS_CINDER_DISABLE_EVENTLET_PATCHING':
            monkeypatch.delenv(name)
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(tmp_path / 'clouds.yaml'))


@pytest.fixture
def configure(tmp_path: pathlib.Path) -> Configure:
    def configure(**groups: typing.Any) -> cfg.ConfigOpts:
        lines = []
        for group, options in groups.items():
            lines += [f'[{group}]', *(f'{name} = {value}' for name, value in options.items())]
        path = tmp_path / 'volumedrivers.conf'
        path.write_text('\n'.join(lines))
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], project='volumedrivers', default_config_files=[str(path)])
        return conf

    return configure


def names(storage: BlockStorage) -> list[str]:
    return storage.ask(lambda: [one.name for one in storage.proxy.volumes()])


@pytest.mark.parametrize('suffix', ['', '/'])
def test_the_same_cinder_in_each_of_the_ways(
    cinder: EmbeddedCinder,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    suffix: str,
) -> None:
    """What is recorded of it does not depend on how it was found."""
    volume = make_volume(nfs)
    url = f'{cinder.url}{suffix}'
    root = str(cinder.url).removesuffix('/v3')
    (tmp_path / 'clouds.yaml').write_text(
        'clouds:\n  demo:\n    auth_type: none\n'
        f'    block_storage_endpoint_override: {root}{suffix}\n'
    )
    found = [connection.connect(configure(), 'demo')]
    found.append(connection.connect(configure(volumedrivers={'cinder_cloud': 'demo'})))
    found.append(
        connection.connect(configure(cinder={'auth_type': 'none', 'endpoint_override': url}))
    )
    monkeypatch.setenv('OS_AUTH_TYPE', 'none')
    monkeypatch.setenv('OS_ENDPOINT', url)
    found.append(connection.connect(configure()))
    monkeypatch.setenv('OS_CLOUD', 'demo')
    found.append(connection.connect(configure()))
    assert len({storage.source for storage in found}) == 3
    for storage in found:
        assert names(storage) == [volume.name]
        assert storage.endpoint == root
        storage.require('3.71', 'telling how an extend ended')
        storage.connection.close()


@pytest.fixture
def keystone(cinder: EmbeddedCinder) -> Iterator[FakeKeystone]:
    catalog = {'One': {'public': f'{cinder.url}/{"a" * 32}'}, 'Two': {'public': 'http://[::1]:1'}}
    made = FakeKeystone(catalog)
    # What a Cinder without authentication makes a user and a project of.
    made.written = '{name}:' + 'a' * 32
    with served(made):
        yield made


def exported(storage: BlockStorage, volume: MadeVolume, instance: str | None) -> str:
    given = {} if instance is None else {'instance': instance}
    made = storage.tell(storage.proxy.create_attachment, volume.id, **given)
    storage.ask(storage.proxy.update_attachment, made.id, connector=CONNECTOR)
    return str(made.id)


def test_only_a_service_may_take_away_what_names_an_instance(
    cinder: EmbeddedCinder,
    keystone: FakeKeystone,
    nova: FakeNova,
    faults: Faults,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nova has it still, as Cinder finds out (bug 2004555); that is certain, and asked once."""
    monkeypatch.setattr(cinder, 'is_service', False)
    user = {**USER, 'auth_url': keystone.url, 'region_name': 'One'}
    service = {**SERVICE, 'auth_url': keystone.url, 'send_service_user_token': 'true'}
    plain = connection.connect(configure(cinder=user))
    plain.pause = 0.01
    volume = make_volume(iscsi)
    instance = str(uuid.uuid4())
    attachment = exported(plain, volume, instance)
    nova.attachments[instance, volume.id] = attachment
    with pytest.raises(exception.ServiceRoleNeeded, match='using the Compute API'):
        attachments.delete(plain, attachment, instance=instance)
    assert faults.count('DELETE /attachments/*') == 1
    assert [one.id for one in volume.attachments()] == [attachment]

    with_token = connection.connect(configure(cinder=user, service_user=service))
    assert with_token.sends_service_token
    attachments.delete(with_token, attachment, instance=instance)
    assert volume.attachments() == []
    wait_for(volume.get, 'available')

    # Without an instance there is nobody to ask.
    attachment = exported(plain, volume, None)
    attachments.delete(plain, attachment, instance=None)
    assert volume.attachments() == []


def test_a_detach_says_that_the_service_role_is_missing_and_is_finished_with_it(
    cinder: EmbeddedCinder,
    nova: FakeNova,
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = make_volume(iscsi)
    done = volume_manager.attach(guest.name, volume.name, DiskRequest(bus='scsi'))
    nova.attachments[guest.uuid, volume.id] = str(done.attachment_id)
    monkeypatch.setattr(cinder, 'is_service', False)
    with pytest.raises(exception.ServiceRoleNeeded):
        volume_manager.detach(guest.name, volume.name)
    (row,) = volume_manager.context.reservations.find()
    assert 'service role' in row.problem
    monkeypatch.setattr(cinder, 'is_service', True)
    (outcome,) = volume_manager.recover()
    assert outcome.volume_id == volume.id
    assert volume.status == 'available'
    assert volume_manager.context.reservations.find() == ()


def _in_threads(
    operation: Callable[..., typing.Any], guest: Guest, volumes: list[MadeVolume]
) -> list[BaseException | None]:
    with futures.ThreadPoolExecutor(len(volumes)) as pool:
        made = [pool.submit(operation, guest.name, volume.id) for volume in volumes]
        return [one.exception() for one in made]


def test_volumes_that_share_a_target_are_exported_one_after_the_other(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    faults: Faults,
) -> None:
    """From the export of one until it is connected, and from its disconnect until its release."""
    volumes = [make_volume(iscsi), make_volume(iscsi)]

    def share(said: dict[str, typing.Any]) -> None:
        said['volume']['shared_targets'] = None

    for volume in volumes:
        faults.add(f'GET /volumes/{volume.id}', testing_faults.changed(share))
    inside: list[int] = []
    busy = threading.Lock()
    context = volume_manager.context
    attach, detach, release = (
        context.attachments.attach,
        context.attachments.detach,
        attachments.delete,
    )

    def alone(call: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        def called(*args: typing.Any, **more: typing.Any) -> typing.Any:
            inside.append(int(busy.acquire(blocking=False)))
            try:
                return call(*args, **more)
            finally:
                busy.release()

        return called

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(context.attachments, 'attach', alone(attach))
        patched.setattr(context.attachments, 'detach', alone(detach))
        patched.setattr(attachments, 'delete', alone(release))
        attaching = functools.partial(volume_manager.attach, request=DiskRequest(bus='scsi'))
        for operation in (attaching, volume_manager.detach):
            done = _in_threads(operation, guest, volumes)
            assert done == [None, None]
    assert inside == [1] * 6
    assert [volume.status for volume in volumes] == ['available', 'available']


def as_keystone_would(application: typing.Any) -> typing.Any:
    """What its middleware makes of tokens, which here are lists of roles."""

    def call(environment: dict[str, typing.Any], start_response: typing.Any) -> typing.Any:
        token = environment.get('HTTP_X_AUTH_TOKEN', '').removeprefix('token-of-')
        environment.update(
            HTTP_X_IDENTITY_STATUS='Confirmed',
            HTTP_X_USER_ID='u',
            HTTP_X_PROJECT_ID='a' * 32,
            HTTP_X_ROLES='admin,member,reader' if token.startswith('admin') else token,
        )
        return application(environment, start_response)

    return call


def test_the_roles_of_a_user_count(tmp_path: pathlib.Path, configure: Configure) -> None:
    """Cinder reads what Keystone's middleware says, and applies its policy."""
    preload.load()
    from volumedrivers.testing.cinder import services

    paste = tmp_path / 'paste.ini'
    text = (services.etc() / 'api-paste.ini').read_text()
    assert 'noauth apiv3' in text
    paste.write_text(text.replace('noauth apiv3', 'keystonecontext apiv3'))
    own = EmbeddedCinder(
        tmp_path / 'cinder',
        [nfs := NfsBackend()],
        serve=True,
        wrap=as_keystone_would,
        options={'DEFAULT': {'api_paste_config': str(paste)}},
    )
    with own:
        own.is_service = False
        catalog = {'One': {'public': f'{own.url}/{"a" * 32}'}}
        with served(keystone := FakeKeystone(catalog)):
            keystone.passwords = dict.fromkeys(
                ('reader', 'member', 'admin', 'service'), 'pw-123456'
            )

            def connected(role: str, **more: typing.Any) -> BlockStorage:
                user = {**USER, 'auth_url': keystone.url, 'password': 'pw-123456'}
                made = connection.connect(configure(cinder={**user, 'username': role}, **more))
                made.pause = 0.01
                return made

            admin = connected('admin')
            volume = VolumeMaker(admin.proxy)(nfs)
            reader = connected('reader')
            assert names(reader) == [volume.name]
            with pytest.raises(exception.CinderForbidden) as caught:
                reader.tell(reader.proxy.create_attachment, volume.id)
            assert "Policy doesn't allow" in str(caught.value)
            member = connected('member')
            instance = str(uuid.uuid4())
            attachment = exported(member, volume, instance)
            # There is no Nova to be asked, and Cinder says nothing of it.
            with pytest.raises(exception.ServiceRoleNeeded, match='cannot ask Nova'):
                attachments.delete(member, attachment, instance=instance)
            service = {
                **SERVICE,
                'password': 'pw-123456',
                'auth_url': keystone.url,
                'send_service_user_token': 'true',
            }
            attachments.delete(
                connected('member', service_user=service), attachment, instance=instance
            )
            assert volume.attachments() == []
            volume.delete()
