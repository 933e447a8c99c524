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
import os
import subprocess
import sys
import textwrap

from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import bootstrap


def run(code, **environment):
    """Run code in a fresh process, where nothing is loaded or set."""
    done = subprocess.run(
        [
            sys.executable,
            '-W',
            'error::DeprecationWarning:volumedrivers',
            '-c',
            textwrap.dedent(code),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split('\n')[:-1]


SETUP = """
import sys, time
sleep = time.sleep
from oslo_config import cfg
from volumedrivers.host import bootstrap
conf = cfg.ConfigOpts()
conf(sys.argv[1:], default_config_files={files!r})
bootstrap.setup(conf)
"""


@pytest.fixture
def configured(tmp_path):
    def write(text='', name='volumedrivers.conf'):
        path = tmp_path / name
        path.write_text(f'[volumedrivers]\nstate_path = {tmp_path}/state\n{text}')
        return SETUP.format(files=[str(path)])

    return write


def test_one_call_makes_the_process_fit(configured, tmp_path):
    out = run(
        configured()
        + """
from oslo_service import backend
print('eventlet' in sys.modules)
print(time.sleep is sleep)
print(backend.get_backend_type().value)
print(cfg.CONF.os_brick.lock_path, cfg.CONF.oslo_concurrency.lock_path)
bootstrap.require_setup()
"""
    )
    lock = f'{tmp_path}/state/lock'
    assert out == ['False', 'True', 'threading', f'{lock} {lock}']
    assert os.path.isdir(lock)


def test_what_only_looks_makes_no_directory(configured, tmp_path):
    code = configured().replace('setup(conf)', 'setup(conf, make_lock_path=False)')
    out = run(
        code
        + """
print(cfg.CONF.os_brick.lock_path)
bootstrap.require_setup()
import os
print(os.path.exists(cfg.CONF.os_brick.lock_path))
bootstrap.setup(conf)
print(os.path.isdir(cfg.CONF.os_brick.lock_path))
"""
    )
    assert out == [f'{tmp_path}/state/lock', 'False', 'True']


@pytest.mark.parametrize(
    ('text', 'environment', 'expected'),
    [
        ('lock_path = {0}/own', {}, 'own'),
        ('lock_path = {0}/own\n[oslo_concurrency]\nlock_path = {0}/oslo', {}, 'oslo'),
        (
            '[oslo_concurrency]\nlock_path = {0}/oslo\n[os_brick]\nlock_path = {0}/brick',
            {},
            'brick',
        ),
        ('lock_path = {0}/own', {'OSLO_LOCK_PATH': '{0}/env'}, 'env'),
    ],
)
def test_lock_path_that_is_shared_comes_first(configured, tmp_path, text, environment, expected):
    environment = {key: value.format(tmp_path) for key, value in environment.items()}
    out = run(
        configured(text.format(tmp_path)) + 'print(cfg.CONF.os_brick.lock_path)', **environment
    )
    assert out == [f'{tmp_path}/{expected}']
    assert (tmp_path / expected).is_dir()


def test_options_of_os_brick_are_carried_over(configured):
    out = run(
        configured(
            '[os_brick]\nwait_mpath_device_attempts = 7\nlightos_discovery_client_port = 1\n'
        )
        + """
group = cfg.CONF.os_brick
print(group.wait_mpath_device_attempts, group.lightos_discovery_client_port,
      group.wait_mpath_device_interval)
"""
    )
    assert out == ['7 1 1']


def test_each_context_logs_under_its_own_name(configured):
    out = run(
        configured()
        + """
import logging
from os_brick import privileged
from volumedrivers.privsep import context
for each in (context.sys_admin, privileged.default, privileged.brick_privsep_hide_output):
    name = each.conf.logger_name
    print(name, logging.getLogger(name).level)
"""
    )
    assert out == [
        'volumedrivers.privsep 0',
        'os_brick.privileged 0',
        f'brick_privsep_hide_output {logging.ERROR}',
    ]


HELPERS = """
import os
os.geteuid = lambda: {uid}
bootstrap.setup(conf)
from os_brick import privileged
from volumedrivers.privsep import context, trusted
for each in (context.sys_admin, privileged.default, privileged.brick_privsep_hide_output):
    print(each.client_mode, *each.helper_command('/run/s'))
print(trusted._in_process is conf)
"""


def test_an_ordinary_user_starts_helpers_with_its_files(configured, tmp_path):
    out = run(configured('rootwrap_config = /etc/x/rootwrap.conf') + HELPERS.format(uid=1000))
    start = (
        f'True sudo -n {bootstrap.rootwrap()} /etc/x/rootwrap.conf privsep-helper '
        f'--config-file {tmp_path}/volumedrivers.conf --privsep_context '
    )
    assert out == [
        start + 'volumedrivers.privsep.context.sys_admin --privsep_sock_path /run/s',
        start + 'os_brick.privileged.default --privsep_sock_path /run/s',
        start + 'os_brick.privileged.brick_privsep_hide_output --privsep_sock_path /run/s',
        'False',
    ]


def test_a_configured_helper_command_stays(configured):
    out = run(
        configured('[privsep_osbrick]\nhelper_command = doas brick\n') + HELPERS.format(uid=1000)
    )
    assert [line.split(' --privsep_context')[0] for line in out[1:3]] == ['True doas brick'] * 2
    assert ' doas ' not in out[0]


def test_root_needs_no_helper(configured):
    out = run(configured() + HELPERS.format(uid=0))
    assert [line.split()[0] for line in out] == ['False', 'False', 'False', 'True']


WITHIN = HELPERS.replace(
    'bootstrap.setup(conf)',
    """
from oslo_privsep import priv_context
from volumedrivers.conf import opts
priv_context.init(root_helper=['sudo', 'nova-rootwrap', '/etc/nova/rootwrap.conf'])
opts.register_opts(conf)
bootstrap.setup_within(conf)
bootstrap.setup_within(conf)
""",
)


def test_program_that_is_set_up_already_keeps_its_way_to_root(configured):
    setup = '\nbootstrap.setup(conf)\n'
    out = run(configured().replace(setup, '\n') + WITHIN.format(uid=1000))
    assert [line.split(' privsep-helper')[0] for line in out[:3]] == [
        'True sudo nova-rootwrap /etc/nova/rootwrap.conf'
    ] * 3
    assert 'volumedrivers.privsep.context.sys_admin' in out[0]
    assert out[3] == 'False'


def test_root_within_a_program_needs_no_helper(configured):
    out = run(configured() + WITHIN.format(uid=0))
    assert [line.split()[0] for line in out] == ['False', 'False', 'False', 'True']


def test_calling_again_is_allowed_and_the_last_call_counts(configured, tmp_path):
    out = run(
        configured('[os_brick]\nwait_mpath_device_attempts = 7\n')
        + f"""
bootstrap.setup(conf)
print(cfg.CONF.os_brick.lock_path, cfg.CONF.os_brick.wait_mpath_device_attempts)
other = cfg.ConfigOpts()
other([], default_config_files=[])
bootstrap.opts.register_opts(other)
other.set_override('state_path', {str(tmp_path)!r} + '/other', 'volumedrivers')
bootstrap.setup(other)
print(cfg.CONF.os_brick.lock_path, cfg.CONF.os_brick.wait_mpath_device_attempts)
bootstrap.setup(conf)
print(cfg.CONF.os_brick.lock_path, cfg.CONF.os_brick.wait_mpath_device_attempts)
"""
    )
    assert out == [
        f'{tmp_path}/state/lock 7',
        f'{tmp_path}/other/lock 4',
        f'{tmp_path}/state/lock 7',
    ]


def test_the_global_object_may_be_the_one_given(tmp_path):
    out = run(
        f"""
from oslo_config import cfg
from volumedrivers.conf import opts
from volumedrivers.host import bootstrap
opts.register_opts(cfg.CONF)
cfg.CONF([], default_config_files=[])
for name in ('a', 'b'):
    cfg.CONF.set_override('state_path', {str(tmp_path)!r} + '/' + name, 'volumedrivers')
    bootstrap.setup(cfg.CONF)
    print(cfg.CONF.os_brick.lock_path)
"""
    )
    assert out == [f'{tmp_path}/a/lock', f'{tmp_path}/b/lock']


def test_a_back_end_that_was_chosen_stays(configured):
    out = run(
        """
from oslo_service import backend
backend.init_backend(backend.BackendType.THREADING)
"""
        + configured()
        + 'print(backend.get_backend_type().value)'
    )
    assert out == ['threading']


def test_a_lock_path_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / 'file').write_text('')
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    conf.set_override('lock_path', str(tmp_path / 'file' / 'lock'), group='volumedrivers')
    with pytest.raises(exception.InvalidOption, match='Not a directory'):
        bootstrap.setup(conf)


def test_without_setup_that_is_said():
    out = run(
        """
from volumedrivers import exception
from volumedrivers.host import bootstrap
try:
    bootstrap.require_setup()
except exception.NotSetUp as error:
    print(error)
"""
    )
    assert out[0].startswith('call volumedrivers.host.bootstrap.setup(conf) first')


def test_importing_loads_neither_os_brick_nor_privsep():
    out = run(
        """
import sys
import volumedrivers.host.bootstrap
import volumedrivers.host.brick
print([name for name in ('os_brick', 'oslo_privsep', 'eventlet') if name in sys.modules])
"""
    )
    assert out == ['[]']
