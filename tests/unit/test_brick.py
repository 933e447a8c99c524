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

import copy
import logging
import traceback
import types

from os_brick import exception as brick_exception
from os_brick.initiator.connectors import lightos
from oslo_concurrency import processutils
from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import brick_errors
from volumedrivers.host.brick import Brick

SECRET = 'correct horse'
PROPERTIES = {
    'target_portal': '192.0.2.1:3260',
    'targets': [['iqn.x', 1]],
    'auth_username': 'chap',
    'auth_password': SECRET,
}


class Connector:
    """Fails, changes what it is given, and remembers how it was called."""

    def __init__(self):
        self.made = []
        self.calls = []
        self.raises = None
        self.returns = {'path': '/dev/sda', 'type': 'block'}

    def factory(self, protocol, root_helper, **options):
        self.made.append((protocol, root_helper, options))
        return types.SimpleNamespace(
            connect_volume=self.call, disconnect_volume=self.call, extend_volume=self.call
        )

    def call(self, properties, *args, **kwargs):
        self.calls.append((copy.deepcopy(properties), *copy.deepcopy(args), kwargs))
        properties['targets'].append('changed')
        for other in args:
            if other is not None:
                other['path'] = 'changed'
        if self.raises is not None:
            raise self.raises
        return self.returns


@pytest.fixture
def connector(monkeypatch):
    fake = Connector()
    module = bootstrap.load_os_brick()
    monkeypatch.setattr(module.InitiatorConnector, 'factory', staticmethod(fake.factory))
    return fake


@pytest.fixture
def conf():
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    return conf


@pytest.fixture
def brick(conf, connector):
    return Brick('ISCSI', conf, use_multipath=True, device_scan_attempts=5)


def command_failed(
    command='multipath -f mpatha',
    cls=processutils.ProcessExecutionError,
    stderr='no path takes the data',
):
    return cls(stdout='', stderr=stderr, exit_code=1, cmd=command)


def chained(*errors):
    chainer = brick_exception.ExceptionChainer()
    for error in errors:
        chainer.add_exception(type(error), error, None)
    return chainer


def test_each_call_makes_a_connector_and_hands_over_a_copy(brick, connector):
    given, info = copy.deepcopy(PROPERTIES), {'path': '/dev/sda'}
    assert brick.connect('iscsi', 'v', given) == connector.returns
    brick.disconnect('iscsi', 'v', given, info, force=True)
    brick.disconnect('iscsi', 'v', given, None, force=False)
    connector.returns = 42
    assert brick.extend('iscsi', 'v', given) == 42
    assert given == PROPERTIES
    assert info == {'path': '/dev/sda'}
    assert connector.calls == [
        (PROPERTIES, {}),
        (PROPERTIES, {'path': '/dev/sda'}, {'force': True}),
        (PROPERTIES, None, {'force': False}),
        (PROPERTIES, {}),
    ]
    helper = f'sudo {bootstrap.rootwrap()} /etc/volumedrivers/rootwrap.conf'
    options = {'use_multipath': True, 'device_scan_attempts': 5}
    assert connector.made == [('ISCSI', helper, options)] * 4


@pytest.mark.parametrize('returned', [None, {}])
def test_no_device_is_an_error(brick, connector, returned):
    connector.returns = returned
    with pytest.raises(exception.VolumeDeviceNotFound):
        brick.connect('iscsi', 'v', PROPERTIES)


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (brick_exception.VolumeDeviceNotFound(device=''), exception.VolumeDeviceNotFound),
        (brick_exception.NoFibreChannelVolumeDeviceFound(), exception.VolumeDeviceNotFound),
        (brick_exception.VolumePathsNotFound(), exception.VolumeDeviceNotFound),
        (
            brick_exception.TargetPortalsNotFound(target_portals='x'),
            exception.VolumeDeviceNotFound,
        ),
        (
            brick_exception.BrickException('Device with uuid 1 did not show up'),
            exception.VolumeDeviceNotFound,
        ),
        (brick_exception.NoFibreChannelHostsFound(), exception.VolumeDriverNotSupported),
        (
            brick_exception.BrickException(
                "Multipathing is enforced but the host doesn't support multipathing."
            ),
            exception.MultipathNotRunning,
        ),
        (cfg.RequiredOptError('lock_path', cfg.OptGroup('oslo_concurrency')), exception.NotSetUp),
        (KeyError('target_lun'), exception.ConnectFailed),
        # P2: an encrypted volume whose link could not be made.
        (
            TypeError("missing 1 required positional argument: 'device_info'"),
            exception.ConnectFailed,
        ),
        (ValueError('bad uuid'), exception.ConnectFailed),
        (command_failed('iscsiadm -m node'), exception.ConnectFailed),
        (
            brick_exception.BrickException(msg='Keyring path x is not readable.'),
            exception.ConnectFailed,
        ),
        (chained(ValueError('first')), exception.ConnectFailed),
    ],
    ids=lambda value: getattr(value, '__name__', type(value).__name__),
)
def test_what_connect_raises(brick, connector, raised, expected):
    connector.raises = raised
    with pytest.raises(exception.VolumeDriversError) as caught:
        brick.connect('iscsi', 'v', PROPERTIES)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    ('raised', 'force', 'expected'),
    [
        (brick_exception.VolumeDeviceNotFound(device='x'), False, exception.VolumeNotConnected),
        (brick_exception.VolumeDeviceNotFound(device='x'), True, exception.VolumeNotConnected),
        (command_failed(), False, exception.FlushFailed),
        (command_failed('blockdev --flushbufs /dev/sda'), False, exception.FlushFailed),
        (command_failed(None), False, exception.FlushFailed),
        (command_failed(cls=brick_exception.ExecutionTimeout), False, exception.FlushFailed),
        (command_failed('iscsiadm -m node --logout'), False, exception.DisconnectFailed),
        (command_failed(), True, exception.DisconnectFailed),
        (chained(command_failed()), False, exception.FlushFailed),
        (command_failed('multipath -f 36001', stderr='36001: map in use'), False, exception.Busy),
        (
            brick_exception.VolumePathNotRemoved(volume_path='/dev/sda'),
            False,
            exception.DisconnectFailed,
        ),
        (AttributeError('x'), True, exception.DisconnectFailed),
    ],
)
def test_what_disconnect_raises(brick, connector, raised, force, expected):
    connector.raises = raised
    with pytest.raises(exception.VolumeDriversError) as caught:
        brick.disconnect('iscsi', 'v', PROPERTIES, None, force=force)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


def test_lightos_waits_for_a_device_that_is_to_come_and_for_no_other(brick, monkeypatch):
    made = []

    def factory(*args, **options):
        made.append(lightos.LightOSConnector('sudo'))
        for name in ('connect_volume', 'disconnect_volume'):
            setattr(made[-1], name, lambda *args, **kwargs: {'path': '/dev/nvme0n1'})
        return made[-1]

    module = bootstrap.load_os_brick()
    monkeypatch.setattr(module.InitiatorConnector, 'factory', staticmethod(factory))
    brick.connect('lightos', 'v1', {})
    brick.disconnect('lightos', 'v1', {}, {}, force=False)
    assert [each.WAIT_DEVICE_TIMEOUT for each in made] == [60, 1]


def test_a_forced_removal_that_ends_with_a_chain_is_done(brick, connector, caplog):
    connector.raises = chained(command_failed(f'iscsiadm -v {SECRET}'), ValueError('second'))
    with caplog.at_level(logging.WARNING):
        brick.disconnect('iscsi', 'volume-1', PROPERTIES, None, force=True)
    assert 'volume-1 was removed by force' in caplog.text
    assert 'iscsiadm ended with 1: no path takes the data; ValueError: second' in caplog.text
    assert SECRET not in caplog.text


def test_a_chain_that_cannot_be_shown_is_described(brick, connector):
    # P10: LightOS keeps a traceback as text, which the chain fails to format.
    broken = brick_exception.ExceptionChainer()
    broken.add_exception(ValueError, ValueError('lost'), 'Traceback (most recent call last)')
    with pytest.raises(AttributeError):
        str(broken)
    connector.raises = broken
    with pytest.raises(exception.DisconnectFailed, match='ValueError: lost') as caught:
        brick.disconnect('lightos', 'v', PROPERTIES, None, force=False)
    assert caught.value.__cause__ is broken


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (NotImplementedError(), exception.ExtendVolumeNotSupported),
        (brick_exception.VolumePathsNotFound(), exception.ExtendVolumeFailed),
        (brick_exception.BrickException('path is down'), exception.ExtendVolumeFailed),
        (command_failed(), exception.ExtendVolumeFailed),
    ],
)
def test_what_extend_raises(brick, connector, raised, expected):
    connector.raises = raised
    with pytest.raises(exception.VolumeDriversError) as caught:
        brick.extend('iscsi', 'v', PROPERTIES)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


def test_a_size_that_is_not_known_stays_unknown(brick, connector):
    connector.returns = None
    assert brick.extend('iscsi', 'v', PROPERTIES) is None


def test_a_protocol_without_a_connector_is_not_supported(conf):
    with pytest.raises(exception.VolumeDriverNotSupported, match='no connector SMBFS'):
        Brick('SMBFS', conf).connect('smbfs', 'v', {})


def test_native_multipath_of_nvme_is_another_matter(conf, connector):
    connector.raises = brick_exception.BrickException('Multipathing is enforced but')
    with pytest.raises(exception.VolumeDriverNotSupported, match='nvme_core'):
        Brick('NVME', conf).connect('nvmeof', 'v', PROPERTIES)


def leaky(*, chain):
    """Return what iscsiadm's failure looks like, with the password everywhere."""
    command = f'iscsiadm -m node --op update -n node.session.auth.password -v {SECRET}'
    error = processutils.ProcessExecutionError(
        stdout=f'set {SECRET}', stderr=f'bad {SECRET}', exit_code=7, cmd=command
    )
    error = chained(error) if chain else error
    error.__context__ = KeyError(SECRET)
    return error


@pytest.mark.parametrize('chain', [False, True])
@pytest.mark.parametrize('verb', ['connect', 'disconnect', 'extend'])
def test_no_secret_in_message_cause_or_traceback(brick, connector, caplog, verb, chain):
    connector.raises = leaky(chain=chain)
    arguments = (None,) if verb == 'disconnect' else ()
    options = {'force': False} if verb == 'disconnect' else {}
    with pytest.raises(exception.VolumeDriversError) as caught:
        getattr(brick, verb)('iscsi', 'v', PROPERTIES, *arguments, **options)
    shown = ''.join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
    shown += repr(vars(caught.value.__cause__)) + caplog.text
    assert SECRET not in shown
    assert 'iscsiadm ended with 7: bad ***' in str(caught.value)
    # The command's arguments and its output are not quoted at all.
    assert 'node.session' not in str(caught.value)


def test_no_secret_in_what_os_brick_logs(brick, connector, caplog):
    logger = logging.getLogger('os_brick.initiator.connectors.iscsi')
    caplog.set_level(logging.DEBUG)

    def call(properties, **kwargs):
        logger.debug('Connection properties %s', dict(properties))
        logger.info('of %(other)s', {'other': properties['dhchap_key']})
        try:
            raise ValueError(properties['auth_password'])
        except ValueError:
            logger.exception('failed')
        return {'path': '/dev/sda'}

    connector.call = call
    brick.connect('iscsi', 'v', PROPERTIES | {'dhchap_key': 'battery staple', 'note': None})
    assert len(caplog.records) == 3
    assert 'Connection properties' in caplog.text
    assert 'ValueError: ***' in caplog.text
    assert SECRET not in caplog.text
    assert 'battery' not in caplog.text
    logger.info('of another call: %s', SECRET)
    assert SECRET in caplog.text


def test_an_export_with_a_password_is_hidden_as_well(connector, conf, caplog):
    caplog.set_level(logging.DEBUG)
    info = ConnectionInfo.parse(
        {
            'driver_volume_type': 'vzstorage',
            'data': {'export': 'mds:/cluster:battery-staple', 'name': 'f'},
        }
    )
    properties = info.to_connector() | {'targets': []}
    connector.raises = ValueError(f'bad {properties["export"]}')
    with pytest.raises(exception.ConnectFailed) as caught:
        Brick('VZSTORAGE', conf).connect('vzstorage', 'v', properties)
    shown = ''.join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert 'battery' not in shown + caplog.text
    # os-brick itself gets a plain string.
    assert repr(connector.calls[0][0]['export']) == "'mds:/cluster:battery-staple'"


@pytest.mark.parametrize(
    ('properties', 'secrets'),
    [
        ({'auth_password': 'a', 'auth_username': 'b'}, {'a'}),
        ({'discovery_auth_password': 'a', 'x': [{'serverToken': 'c'}]}, {'a', 'c'}),
        ({'keyring': b'k', 'secret_uuid': 'u', 'secret_type': 'ceph'}, {'k'}),
        (
            {'keyring': '[client.x]\n\tkey = AQ==\n'},
            {'[client.x]\n\tkey = AQ==\n', r'[client.x]\n\tkey = AQ==\n', 'AQ=='},
        ),
        ({'auth_password': '', 'volume_id': None, 'target_lun': 1}, set()),
    ],
)
def test_secrets_are_found_by_name(properties, secrets):
    assert set(brick_errors.secrets_of(properties)) == secrets


def test_a_keyring_is_hidden_where_a_dictionary_is_printed():
    given = {'keyring': '[client.x]\n\tkey = AQTopSecret==\n'}
    secrets = tuple(brick_errors.secrets_of(given))
    for text in (repr(given), str(given['keyring']), 'key AQTopSecret== is wrong'):
        assert 'TopSecret' not in brick_errors.replace(text, secrets)


def test_a_secret_that_begins_another_hides_neither_in_part():
    assert brick_errors.hide('x abc y ab z', ['ab', 'abc']) == 'x *** y *** z'
